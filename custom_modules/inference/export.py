"""Exports a checkpoint to ONNX, checks it against torch, and writes it with a model card."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from custom_modules.datasets.class_counts import innermost
from custom_modules.datasets.demo_flowers import draw_demo_flowers
from custom_modules.datasets.prepared_dataset import PreparedDataset, read_prepared
from custom_modules.errors import InputError, require_packages
from custom_modules.evaluation.model_card import card_path, find_manifest, model_card
from custom_modules.evaluation.results import as_written, find_results, results_warning
from custom_modules.files import check_folder, write_atomically
from custom_modules.inference.onnx_conversion import (
    TOLERANCE,
    Scores,
    describe,
    difference,
    export,
    score_by_all,
    stack_pixels,
)
from custom_modules.inference.onnx_quantization import quantize
from custom_modules.inference.torch_predictor import TorchPredictor, open_checkpoint
from custom_modules.metrics.predictions import Proportion
from custom_modules.models.model_file import ModelFile
from custom_modules.models.onnx_file import Metadata
from custom_modules.models.onnx_preprocessing import Pixels, Preprocessing
from custom_modules.models.publishing import plain_weights
from custom_modules.pages import write_out
from custom_modules.progress import progress_bar

CALIBRATION_IMAGES = 100
MAX_LOSS = 1.0  # points of top-1 that an 8-bit model may lose
DRAWN = 8  # images of each flower, where no dataset is given to check the model on
ABOUT = 'run', 'epoch', 'metric', 'value', 'dataset_digest', 'pretrained', 'temperature', 'versions'


def export_checkpoint(
    checkpoint: Path,
    out: Path | None = None,
    data_root: Path | None = None,
    int8: bool = False,
    config: str | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> int:
    """Exports a checkpoint by the arguments of ``tools/export_onnx.py``, and returns the exit code."""
    out = out or checkpoint.with_suffix('.onnx')
    outs = [out, out.with_name(f'{out.stem}_int8.onnx')] if int8 else [out]
    _check_outputs([*outs, card_path(out)], overwrite)
    require_packages({name: name for name in ('onnx', 'onnxscript', 'onnxruntime')}, 'an export')
    file = open_checkpoint(str(checkpoint), config)
    data = _read_data(data_root, file) if data_root else None
    predictor = TorchPredictor(file, 'cpu')
    plain_weights(file)  # refuses broken ones
    known = find_results(file)
    metadata = _metadata(file, known.temperature)
    # Before the export, which takes seconds: an image may be unreadable.
    pixels = _calibration_pixels(predictor, data) if data and int8 else np.empty(0, np.uint8)

    models = [export(predictor, metadata)]
    if int8:
        models.append(quantize(models[0], pixels, metadata))
    scores = _score(predictor, models, data, max(metadata.preprocessing.crop) + 32)
    labels = [sample.label for sample in data.val] if data else []
    top1 = [Proportion(int((own.argmax(1) == labels).sum()), len(labels)) for own in scores] if data else []
    remarks = _compare(scores, data, top1)
    if (found := difference(scores[0], scores[1])) > TOLERANCE:
        said = f'its scores differ from torch by {found:.2g}, more than {TOLERANCE:g}'
        print(f'error: {out}: not written: {said}. Please report that with the config.', file=sys.stderr)
        return 1
    lost = 100 * (top1[1].k - top1[2].k) / len(labels) if int8 else 0
    refused = lost > MAX_LOSS and not force
    if refused:
        said = f'8 bits lose {lost:.1f} points of top-1, from {top1[1].k}/{top1[1].n} to {top1[2].k}/{top1[2].n}'
        print(f'error: {outs[1]}: not written: {said}. Use {out}, or add --force.', file=sys.stderr)
        del outs[1:], models[1:], remarks[1:]

    files = [
        (path.name, model, f'compared with torch: {remark}')
        for path, model, remark in zip(outs, models, remarks, strict=True)
    ]
    with as_written(known.file):
        card = model_card(out.name, file, known.results, find_manifest(file, data_root), files)
    print(f'temperature {known.source}')
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, model in zip(outs, models, strict=True):
        write_atomically(path, lambda target, model=model: target.write(model))  # type: ignore[misc]
        print(f'written     {path} ({len(model) / 1e6:.1f} MB)')
    write_out(card_path(out), card)
    print(f'written     {card_path(out)}')
    digests = {'trained_on': file.meta.get('dataset_digest'), 'dataset': data.digest if data else None}
    if warning := results_warning(digests):
        print(f'warning: {warning}')
    return 1 if warning or refused else 0


def _check_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    check_folder(paths[0].parent)
    for path in paths:
        if path.is_dir() or (path.exists() and not overwrite):
            raise InputError(f'{path}: exists already. Name another file with --out, or add --overwrite.')


def _read_data(root: Path, file: ModelFile) -> PreparedDataset:
    data = read_prepared(root)
    if data.classes != file.classes:
        theirs, ours = ', '.join(data.classes), ', '.join(file.classes)
        raise InputError(f'{root}: its classes are {theirs}, those of {file.path} {ours}. Name its own dataset.')
    return data


def _metadata(file: ModelFile, temperature: float | None) -> Metadata:
    preprocessing = Preprocessing.of_pipeline(innermost(file.config.test_dataloader.dataset).pipeline, str(file.path))
    about = {**file.meta, 'temperature': temperature}
    return Metadata(file.classes, preprocessing, {key: about[key] for key in ABOUT if about.get(key) is not None})


def _calibration_pixels(predictor: TorchPredictor, data: PreparedDataset) -> Pixels:
    """Pixels of training images, evenly spread over the list, which is sorted by class."""
    count = min(CALIBRATION_IMAGES, len(data.train))
    chosen = [data.train[number * len(data.train) // count] for number in range(count)]
    return stack_pixels([predictor.read(str(data.root / 'train' / sample.path)) for sample in chosen])


def _score(
    predictor: TorchPredictor, models: Sequence[bytes], data: PreparedDataset | None, size: int
) -> list[Scores]:
    """Scores of torch and of each model on the validation images, or on drawn flowers of ``size`` pixels."""
    with tempfile.TemporaryDirectory() as drawn, progress_bar() as bar:
        if data:
            paths = [str(data.root / 'val' / sample.path) for sample in data.val]
        else:
            draw_demo_flowers(Path(drawn) / 'flowers', DRAWN, size=size)
            paths = sorted(map(str, Path(drawn).glob('*/*/*.jpg')))
        return score_by_all(predictor, models, paths, bar)


def _compare(scores: Sequence[Scores], data: PreparedDataset | None, top1: Sequence[Proportion]) -> list[str]:
    """Prints how each model's scores differ from torch's, the first ones; returns that for the model card."""
    remarks = [describe(scores[0], own) for own in scores[1:]]
    print(f'compared    {f"{data.root}, val" if data else "drawn flowers"}: {remarks[0]}')
    if not data:
        return remarks
    if len(remarks) == 2:
        calibrated = min(CALIBRATION_IMAGES, len(data.train))
        print(f'int8        calibrated on {calibrated} training photos: {remarks[1]}')
        for name, own in zip(('torch', 'float32', 'int8'), top1, strict=True):
            print(f'{name:<11} top-1 {own}')
    return [f'{remark}; top-1 {own}' for remark, own in zip(remarks, top1[1:], strict=True)]
