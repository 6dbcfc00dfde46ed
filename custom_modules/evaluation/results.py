"""Results of a test in ``metrics.json``: computing, warnings, finding those of a checkpoint, keeping older ones."""

import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_modules.datasets.class_counts import folder_of
from custom_modules.errors import InputError, as_configured
from custom_modules.files import command_line
from custom_modules.metrics import calibration
from custom_modules.metrics.calibration import at_coverage, scaling_fault
from custom_modules.metrics.predictions import Prediction, Proportion, check_scores, count
from custom_modules.models.model_file import ModelFile, read_temperature
from custom_modules.photos.image_files import Unreadable

ECE = f'ece/{calibration.BINS}_bins'  # its key in metrics.json
COVERAGES = 1.0, 0.95, 0.9, 0.8, 0.5  # shares of the images, the most confident first

EXTRAS = 'robustness', 'ood'  # results that not every test gives


@dataclass(frozen=True)
class Evaluation:
    """A finished test."""

    file: ModelFile
    model: Any  # for heat maps
    dataset: Any  # the test set, without test-time augmentation
    work_dir: Path  # of metrics.json and the report
    predictions: Sequence[Prediction]  # one per image, in the test set's order, with its truth
    results: dict[str, Any]  # the content of metrics.json
    changed: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)  # by condition of the robustness test
    others: Sequence[Prediction] = ()  # of OOD images
    unreadable: Sequence[Unreadable] = ()  # OOD images that cannot be read

    @property
    def data_root(self) -> Path:
        """The folder of the test set."""
        return folder_of(self.dataset)

    @property
    def truths(self) -> list[int]:
        """The true label of each image."""
        return [prediction.truth for prediction in self.predictions if prediction.truth is not None]

    @property
    def labels(self) -> list[int]:
        """The predicted label of each image."""
        return [prediction.label for prediction in self.predictions]

    @property
    def warnings(self) -> list[str]:
        """Warnings about the test set and about collapses under corruptions."""
        collapses = self.results.get('robustness', {}).get('collapses', [])
        return [*filter(None, [results_warning(self.results)]), *collapses]


def figures(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """Everything that is computed from predictions with a known truth, for JSON.

    They are those of :func:`count` and ``ece/15_bins``, in 0-1; ``temperature_scaling``, None for a single image; and
    ``coverage``, selective prediction at five coverages.

    Raises:
        InputError: A score is not finite, or there is not one for each class.
    """
    check_scores(predictions, classes)
    scores, truths = calibration.arrays(predictions)
    curve = calibration.coverage_curve(scores, truths)
    return {
        **count(predictions, classes),
        ECE: calibration.expected_calibration_error(scores, truths),
        'temperature_scaling': calibration.scale(scores, truths),
        'coverage': [at_coverage(curve, share).as_dict() for share in COVERAGES],
    }


def format_counts(results: Mapping[str, Any]) -> str:
    """Counts, mean NLL and ECE for a terminal."""
    width = max(map(len, [*results['classes'], 'class']))
    accuracy, error = (Proportion(results[key]['k'], results[key]['n']) for key in ('accuracy/top1', 'error/top1'))
    lines = [f'top-1 accuracy  {accuracy}', f'top-1 error     {error}']
    lines.append(
        f'balanced        {results["accuracy/balanced"]:.2f} % (mean recall), macro F1 {results["f1/macro"]:.2f} %'
    )
    if 'nll/mean' in results:
        lines.append(f'mean NLL        {results["nll/mean"]:.4f}')
    lines += [f'ECE, 15 bins    {100 * results[ECE]:.2f} %', '']
    lines.append(f'{"class":{width}}  recall                       precision                    F1')
    for name, found in results['classes'].items():
        cells = [
            f'{_percent(share["percent"])} ({share["k"]}/{share["n"]})'
            for share in (found['recall'], found['precision'])
        ]
        lines.append(f'{name:{width}}  {cells[0]:27}  {cells[1]:27}  {_percent(found["f1"])}')
    return '\n'.join(lines)


def _percent(value: float | None) -> str:
    return '     -' if value is None else f'{value:6.2f} %'


def format_scaling(scaling: Mapping[str, Any]) -> str:
    """``temperature_scaling`` for a terminal."""
    temperatures = scaling['fold_temperatures']
    lines = [
        f'temperature     {scaling["temperature"]:.3f}, fitted on all images; cross-fitted in {len(temperatures)} '
        f'folds: {min(temperatures):.3f}-{max(temperatures):.3f}'
    ]
    for name in ('before', 'after'):
        found = scaling[name]
        low, high = found['ece_interval95']
        lines.append(
            f'  {name:13} ECE {100 * found["ece"]:.2f} % (95 % interval {100 * low:.2f}-{100 * high:.2f}; '
            f'by chance alone {100 * found["ece_by_chance"]:.2f} %), mean NLL {found["nll"]:.4f}'
        )
    if fault := scaling_fault(scaling):
        lines.append(f'  do not use it on other images: {fault}')
    return '\n'.join(lines)


def results_warning(results: Mapping[str, Any]) -> str:
    """A warning where the tested images may have been trained on, for results as in ``metrics.json``; '' otherwise."""
    trained_on, dataset, tested = (results.get(key) for key in ('trained_on', 'dataset', 'tested'))
    if trained_on and dataset and trained_on != dataset:
        return (
            f'trained on another split ({trained_on[:12]}) than this one ({dataset[:12]}): some of these images may '
            'have been trained on, and then the figures mean nothing'
        )
    if tested is not None and tested == results.get('trained_list'):
        return 'tested on the training images: the figures say nothing about other images'
    return ''


def as_written(file: Path | None) -> AbstractContextManager[None]:
    """Turns errors from using results of ``file``, which anyone may have edited, into an :class:`InputError`."""
    if file is None:
        return nullcontext()
    return as_configured(f'{file}: not as a test has written it', 'delete it and test again')


@dataclass(frozen=True)
class FoundResults:
    """The results of a checkpoint's test, and its temperature."""

    file: Path | None  # the results' file; None without any
    results: dict[str, Any] | None
    temperature: float | None  # of that test, or else carried by the checkpoint; None where it must not be used
    source: str  # of the temperature, or why there is none


def find_results(model: ModelFile) -> FoundResults:
    """Finds the results of a test of a checkpoint's weights without TTA, from the files in its folder.

    That is ``metrics.json``, or else the newest file renamed by :func:`set_aside`.

    Raises:
        InputError: The temperature is no positive finite number, or a file beside the checkpoint holds no results.
    """
    metrics = model.path.with_name('metrics.json')
    aside = sorted(metrics.parent.glob('metrics_*.json'), key=lambda path: path.stat().st_mtime, reverse=True)
    found = ((file, _read_results(file)) for file in (metrics, *aside) if file.exists())
    tests = ((file, test) for file, test in found if test.get('weights') == model.digest and not test.get('tta'))
    file, results = next(tests, (None, None))
    fault = ''
    with as_written(file):
        scaling = (results or {}).get('temperature_scaling') or {}
        if (temperature := read_temperature(scaling, str(file))) is not None:
            fault = results_warning(results or {}) or scaling_fault(scaling)
    if fault:
        source, temperature = f'none: the {temperature:.3f} of {file} is not used: {fault}', None
    elif temperature is not None:
        source = f'{temperature:.3f}, of {file}'
    elif model.temperature is not None:
        source, temperature = f'{model.temperature:.3f}, of {model.path}', model.temperature
    else:
        command = command_line('tools/test.py', 'CONFIG', model.path)
        source = f'none: no test of these weights without --tta in {metrics}. Run: {command}'
    return FoundResults(file, results, temperature, source)


def _read_results(file: Path) -> dict[str, Any]:
    try:
        results = json.loads(file.read_bytes())
        if not isinstance(results, dict):
            raise ValueError('not a JSON object')
        return results
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{file}: cannot be read as results ({error}). Delete it and test again.') from error


def set_aside(path: Path, results: Mapping[str, Any]) -> Path | None:
    """Renames ``path``, a ``metrics.json`` or a report's folder, if it holds the results of another test, or extras.

    The new name, which is returned, says what was tested: ``metrics_epoch_19_tta.json``. A file or folder of that name
    is replaced if it is of the same test; otherwise a number is added. ``results`` will be written to ``path``.
    """
    if not path.exists():
        return None
    old, new = _identity(path), _identity_of(results)
    if all(old[key] == new[key] or (key in EXTRAS and not old[key]) for key in old):
        return None
    kinds = [kind for kind in ('tta', *EXTRAS) if old[kind]]
    stem = '_'.join([path.stem, Path(old['checkpoint'] or 'unknown').stem, *kinds])
    names = (
        path.with_name(f'{stem}{f"_{number}" if number > 1 else ""}{path.suffix}') for number in itertools.count(1)
    )
    target = next(name for name in names if not name.exists() or _identity(name) == old)
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(path, target)
    return target


def _identity(path: Path) -> dict[str, Any]:
    """The test whose results are in ``path``; without values where they cannot be read."""
    try:
        return _identity_of(_read_results(path / 'metrics.json' if path.is_dir() else path))
    except (InputError, TypeError, AttributeError):
        return _identity_of({})


def _identity_of(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        'checkpoint': Path(results.get('checkpoint') or '').name,
        **{key: results.get(key) for key in ('run', 'epoch', 'dataset', 'tested', 'tta')},
        'robustness': bool(results.get('robustness')),
        'ood': (results.get('ood') or {}).get('folder'),
    }
