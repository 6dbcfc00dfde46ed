"""The test of a trained model: predictions of all test images, their figures, and the files that hold them."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

import custom_modules.register  # noqa: F401
from custom_modules.datasets.class_counts import folder_of, images_in, innermost
from custom_modules.engine.run import Run, prepare_run
from custom_modules.engine.run_config import average_flips, keep_test_only, parse_options, read_config
from custom_modules.engine.runner import PreparedRunner, has_accelerator, set_up_device
from custom_modules.errors import InputError, require_packages
from custom_modules.evaluation.out_of_distribution import format_ood, list_others, ood_figures, predict_others
from custom_modules.evaluation.results import Evaluation, figures, format_counts, format_scaling, set_aside
from custom_modules.evaluation.robustness import (
    format_robustness,
    pictures,
    predict_changed,
    robustness_figures,
    with_pipeline,
)
from custom_modules.files import check_file, check_folder, write_atomically
from custom_modules.metrics.predictions import columns, row, write_rows
from custom_modules.metrics.predictions_metric import PredictionsMetric
from custom_modules.models.model_file import ModelFile, is_exported, open_model_file
from custom_modules.models.onnx_classifier import check_pipeline, use_exported

EXTRAS = {'pytorch_grad_cam': 'grad-cam<2', 'jinja2': 'Jinja2'}  # of --report


def evaluate_model(
    config: str,
    checkpoint: str,
    *,
    data_root: str | None = None,
    split: str | None = None,
    work_dir: str | None = None,
    out: Path | None = None,
    report: bool = False,
    robustness: bool = False,
    ood: str | None = None,
    tta: bool = False,
    amp: bool = False,
    cfg_options: Sequence[str] = (),
    launcher: str = 'none',
) -> Evaluation | None:
    """Tests a checkpoint or an exported model; the arguments are those of ``tools/test.py``.

    Returns:
        The finished test, of which nothing is written yet; None in all processes but the main one.

    Raises:
        InputError: The arguments, the config, the model or the dataset cannot be used.
    """
    path = Path(checkpoint)
    # The results of an exported model must not replace those of the checkpoint in the same folder.
    default = path.with_name(f'{path.stem}_onnx') if is_exported(path) else path.parent
    folder = Path(work_dir or default)
    check_outputs(folder, out, report)
    cfg = read_config(config, parse_options(list(cfg_options)), data_root, str(folder))
    file = open_model_file(checkpoint, cfg)
    set_up_device(cfg, launcher)
    run, plain, about = prepare_test(cfg, file, split, tta, amp)
    images, unreadable = list_others(ood, folder_of(run.dataset)) if ood else ([], [])
    if robustness:
        pictures(plain, 0)  # shows before the test whether the pixels can be changed
    runner, collector = PreparedRunner.from_run(run), PredictionsMetric()
    runner.test_evaluator.metrics.append(collector)
    metrics, predictions = runner.test(), collector.predictions
    changed = predict_changed(runner, run.dataset, predictions) if robustness else {}
    others = predict_others(runner, images) if images else []
    if not is_main_process():
        return None
    nll = {key: value for key, value in metrics.items() if not key.startswith('accuracy/')}
    results = {**figures(predictions, file.classes), **nll, **about}
    if changed:
        results['robustness'] = robustness_figures(changed, file.classes)
    if others:
        results['ood'] = ood_figures(predictions, others, results['temperature_scaling'], ood or '', len(unreadable))
    return Evaluation(file, runner.model, plain, folder, predictions, results, changed, others, unreadable)


def check_outputs(folder: Path, out: Path | None, report: bool) -> None:
    """Raises an :class:`InputError`, before a test, unless its report and its table ``out`` can be written."""
    if report:
        require_packages(EXTRAS, '--report')
        check_folder(folder / 'report')
    if out:
        check_file(out)
        if os.path.lexists(out):
            raise InputError(f'--out {out}: exists already. Name another file, or delete it.')


def prepare_test(
    cfg: Config, file: ModelFile, split: str | None, tta: bool, amp: bool
) -> tuple[Run, Any, dict[str, Any]]:
    """The run that tests a model, its dataset without test-time augmentation, and what is tested."""
    trained_on = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    keep_test_only(cfg, str(file.path))
    if file.preprocessing is not None:
        check_pipeline(cfg, file.preprocessing, str(file.path))
        use_exported(cfg, str(file.path))
    dataset = innermost(cfg.test_dataloader.dataset)
    if split:
        dataset.update(data_prefix=split, **({'ann_file': f'{split}.txt'} if dataset.get('ann_file') else {}))
    pipeline = dataset.get('pipeline')
    if tta:
        average_flips(cfg)
    if amp and has_accelerator():
        cfg.test_cfg.fp16 = True
    elif amp and is_main_process():
        print('--amp: no accelerator here, testing in full precision')
    run = prepare_run(cfg, ['test'], file.checkpoint or {'meta': {**file.meta, 'classes': file.classes}})
    about = {
        'checkpoint': str(file.path),
        'weights': None if is_exported(file.path) else file.digest,
        **{key: file.meta.get(key) for key in ('run', 'epoch', 'pretrained')},
        'dataset': run.digest,
        'trained_on': file.meta.get('dataset_digest'),
        'trained_list': images_in(trained_on),
        'tested': images_in(dataset),
        'tta': tta,
    }
    return run, run.dataset if pipeline is None else with_pipeline(run.dataset, pipeline), about


def format_test(test: Evaluation) -> str:
    """The figures of a test for a terminal."""
    results = test.results
    parts = [format_counts(results)]
    formats = {'temperature_scaling': format_scaling, 'robustness': format_robustness, 'ood': format_ood}
    parts += [form(results[key]) for key, form in formats.items() if results.get(key)]
    if results['pretrained']:
        parts.append(f'pretrained  {results["pretrained"]}')
    return '\n\n'.join(parts)


def write_test(test: Evaluation, out: Path | None, report: bool) -> Iterator[str]:
    """Writes ``metrics.json``, the table of predictions and the report, and yields a line for each file."""
    metrics = test.work_dir / 'metrics.json'
    if kept := set_aside(metrics, test.results):
        yield f'kept        {kept}, the results of another test'
    write_atomically(metrics, lambda file: file.write(json.dumps(test.results, indent=1).encode()))
    yield f'written     {metrics}'
    if out:
        classes = test.file.classes
        table = [row(prediction, classes) for prediction in test.predictions]
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, lambda file: write_rows(file, table, columns(classes), out.suffix))
        yield f'written     {out}'
    if report:
        from custom_modules.evaluation.report import write_report  # needs EXTRAS

        began, folder = time.monotonic(), test.work_dir / 'report'
        if kept := write_report(folder, test):
            yield f'kept        {kept}, the report of another test'
        yield f'written     {folder / "index.html"} ({time.monotonic() - began:.0f} s)'
