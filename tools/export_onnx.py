"""Exports a checkpoint to ONNX: ``python tools/export_onnx.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool

DRAWN = 8  # of each flower, where no photos are given to check the model on


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to export, where to, and the photos to check it on."""
    parser = argparse.ArgumentParser(description='Export a trained checkpoint to ONNX, and check it against torch.')
    parser.add_argument('checkpoint', help='e.g. work_dirs/flower_mobilenetv2/best.pth')
    parser.add_argument('--out', metavar='FILE', help='the model, .onnx; default: beside the checkpoint')
    parser.add_argument('--data-root', metavar='DIR', help='the prepared dataset; its val photos are what is compared')
    parser.add_argument(
        '--int8',
        action='store_true',
        help='also write FILE_int8.onnx, calibrated on training photos of --data-root',
    )
    parser.add_argument('--config', help='the config it was trained with; default: the one in the checkpoint')
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    args = parser.parse_args(argv)
    if args.out and Path(args.out).suffix != '.onnx':
        parser.error(f'--out {args.out}: the name must end in .onnx')
    if args.int8 and not args.data_root:
        parser.error('--int8: needs --data-root, for the photos to calibrate on')
    return args


def main(argv: list[str] | None = None) -> int:
    """Exports, compares with torch, and writes what agrees."""
    args = parse_args(argv)

    from custom_modules.datasets.manifest import read_manifest_digest
    from custom_modules.evaluation.model_card import PublishedFile, card_of, card_path
    from custom_modules.files import check_folder

    checkpoint_path = Path(args.checkpoint)
    out = Path(args.out) if args.out else checkpoint_path.with_suffix('.onnx')
    int8_out = out.with_name(f'{out.stem}_int8.onnx')
    check_folder(out.parent)
    card = card_path(out)
    for path in (out, card, int8_out) if args.int8 else (out, card):
        if path.is_dir() or (path.exists() and not args.overwrite):
            raise InputError(f'{path}: exists already; name another file with --out, or add --overwrite')
    photos = read_photos(Path(args.data_root), 'val') if args.data_root else None
    tested_on = read_manifest_digest(Path(args.data_root)) if args.data_root else None
    training_photos = read_photos(Path(args.data_root), 'train') if args.int8 else []

    from custom_modules.engine.run_config import read_config
    from custom_modules.evaluation.results import found_in, know, split_warning
    from custom_modules.files import write_atomically
    from custom_modules.inference.onnx_export import (
        TOLERANCE,
        compare,
        export,
        make_metadata,
        require_packages,
        scorer,
    )
    from custom_modules.inference.predictor import Predictor
    from custom_modules.metrics.predictions import Proportion
    from custom_modules.models.model_file import open_model_file
    from custom_modules.models.publishing import plain_weights
    from custom_modules.pages import check_jinja
    from custom_modules.progress import progress_bar

    require_packages()
    check_jinja()
    file = open_model_file(args.checkpoint, read_config(args.config, {}, None, None) if args.config else None)
    cfg, meta = file.config, file.meta
    predictor = Predictor(cfg, file.checkpoint, args.checkpoint, device='cpu')
    plain_weights(file)  # refuses broken ones
    known = know(checkpoint_path, file.digest, meta)
    metadata = make_metadata(predictor, cfg, meta, known.temperature, args.checkpoint)
    if args.data_root:
        check_classes(Path(args.data_root), predictor.classes, args.checkpoint)
    if args.int8:
        from custom_modules.inference.onnx_quantization import calibration_photos, calibration_pixels, quantize

        chosen = [path for path, _ in calibration_photos(training_photos)]
        # Before the export, which takes seconds: a photo may be unreadable.
        pixels = calibration_pixels(chosen, metadata.preprocessing)
    content = export(predictor, metadata, args.checkpoint)
    models = {out: content}
    if args.int8:
        models[int8_out] = quantize(content, pixels, metadata)

    with tempfile.TemporaryDirectory() as drawn, progress_bar() as bar:
        if photos is None:
            from custom_modules.datasets.demo_flowers import draw_demo_flowers

            draw_demo_flowers(Path(drawn) / 'flowers', DRAWN, size=max(metadata.preprocessing.crop) + 32)
            photos = [(str(path), None) for path in sorted(Path(drawn).glob('*/*/*.jpg'))]
        compared, *others = compare(
            predictor, [scorer(model, str(path)) for path, model in models.items()], photos, bar
        )
    print(f'compared    {args.data_root + ", val" if args.data_root else "drawn flowers"}: {compared}')
    if not compared.close:
        print(
            f'error: {out}: not written: its scores differ from torch by {compared.difference:.2g}, more than '
            f'{TOLERANCE:g}; report that with the config',
            file=sys.stderr,
        )
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    for int8 in others:
        print(f'int8        calibrated on {len(pixels)} training photos: {int8}')
        for name, right in zip(('torch', 'float32', 'int8'), (*compared.right, int8.right[1]), strict=True):
            print(f'{name:<11} top-1 {Proportion(right, int8.photos)}')
    files = []
    for (path, model), comparison in zip(models.items(), (compared, *others), strict=True):
        remark = f'beside torch: {comparison}'
        if args.data_root:
            remark += f'; top-1 {Proportion(comparison.right[1], comparison.photos)}'
        files.append(PublishedFile(path.name, len(model), sha256(model).hexdigest(), remark))
    with found_in(known.file):
        text = card_of(out.name, file, known.results, args.data_root and Path(args.data_root), files)
    print(f'temperature {known.source}')
    for path, model in models.items():
        write_atomically(path, lambda file, model=model: file.write(model))  # type: ignore[misc]
        print(f'written     {path} ({len(model) / 1e6:.1f} MB)')
    write_atomically(card, lambda file: file.write(text.encode(errors='backslashreplace')))
    print(f'written     {card}')
    if warning := split_warning(metadata.about.get('dataset_digest'), tested_on):
        print(f'warning: {warning}')
        return 1
    return 0


def read_photos(data_root: Path, side: str) -> list[tuple[str, int | None]]:
    """Paths and labels of one side of a prepared dataset."""
    from custom_modules.datasets.annotation import read_classes, read_samples

    samples = read_samples(data_root / f'{side}.txt', read_classes(data_root / 'classes.txt'), data_root / side)
    return [(str(data_root / side / sample.path), sample.label) for sample in samples]


def check_classes(data_root: Path, classes: list[str], name: str) -> None:
    """Refuses a dataset of other classes, or in another order, than the checkpoint's."""
    from custom_modules.datasets.annotation import read_classes

    if (there := read_classes(data_root / 'classes.txt')) != classes:
        raise InputError(f'{data_root}: its classes are {", ".join(there)}, those of {name} {", ".join(classes)}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
