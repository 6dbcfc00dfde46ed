"""Results of a test in ``metrics.json``: computing, warnings, finding those of a checkpoint, keeping older ones."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError, said_by
from custom_modules.metrics.calibration import (
    BINS,
    at_coverage,
    coverage_curve,
    expected_calibration_error,
    scale,
    scaling_fault,
)
from custom_modules.metrics.predictions import Counts, Prediction, check_scores
from custom_modules.models.model_file import ModelFile, read_temperature
from custom_modules.photos.opening import Unreadable

ECE = f'ece/{BINS}_bins'  # its key in metrics.json
COVERAGES = 1.0, 0.95, 0.9, 0.8, 0.5  # shares of the images, the most confident first

# Results that agree in these are of the same test and may replace each other, unless an extra is lost.
EXTRAS = 'robustness', 'ood'
IDENTITY = 'checkpoint', 'run', 'epoch', 'dataset', 'tested', 'tta', *EXTRAS


@dataclass(frozen=True)
class Evaluation:
    """A finished test."""

    file: ModelFile
    predictions: Sequence[Prediction]  # one per image, in the test set's order, with its truth
    counts: Counts
    results: dict[str, Any]  # the content of metrics.json
    work_dir: Path  # of metrics.json and the report
    data_root: Path
    model: Any  # for heat maps
    dataset: Any  # the test set, without test-time augmentation
    examples: Sequence[Any] = ()  # an image under each condition of the robustness test
    others: Sequence[Prediction] = ()  # of OOD images
    unreadable: Sequence[Unreadable] = ()  # OOD images that cannot be read

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
        """What limits the figures, and collapses under changed images."""
        collapses = self.results.get('robustness', {}).get('collapses', [])
        return [*filter(None, [results_warning(self.results)]), *collapses]


def figures(predictions: Sequence[Prediction], counts: Counts) -> dict[str, Any]:
    """Everything that is computed from predictions with a known truth, for JSON.

    ``accuracy/top1``, ``error/top1`` and ``classes`` are counts; ``ece/15_bins`` is in 0-1; ``temperature_scaling`` is
    None for a single image; ``coverage`` is selective prediction at five coverages.

    Raises:
        InputError: A score is not finite, or there is not one for each class.
    """
    check_scores(predictions, list(counts.recall))
    scores, truths = [p.scores for p in predictions], [p.truth for p in predictions if p.truth is not None]
    curve = coverage_curve(scores, truths)
    return {
        **counts.as_dict(),
        ECE: expected_calibration_error(scores, truths),
        'temperature_scaling': scale(scores, truths),
        'coverage': [at_coverage(curve, share).as_dict() for share in COVERAGES],
    }


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


def split_warning(trained_on: str | None, tested_on: str | None, same_list: bool = False) -> str:
    """A warning where tested images may have been trained on, by the digests of the two datasets; '' otherwise.

    ``same_list`` says that the tested annotation file has the name of the training's.
    """
    trained_on, tested_on = str(trained_on or ''), str(tested_on or '')
    if not trained_on or not tested_on or trained_on == tested_on:
        return 'tested on the training images: the figures say nothing about other images' if same_list else ''
    return (
        f'trained on another split ({trained_on[:12]}) than this one ({tested_on[:12]}): some of these images may '
        'have been trained on, and then the figures mean nothing'
    )


def results_warning(results: Mapping[str, Any]) -> str:
    """:func:`split_warning` for results in ``metrics.json``."""
    tested = results.get('tested')
    same_list = tested is not None and tested == results.get('trained_list')
    return split_warning(results.get('trained_on'), results.get('dataset'), same_list)


def find_results(checkpoint: Path, weights: str) -> tuple[Path, dict[str, Any]] | None:
    """The results of a test of a checkpoint without TTA, from the files in its folder.

    That is ``metrics.json``, or else the newest file renamed by :func:`set_aside`.

    Args:
        checkpoint: The file, under any name.
        weights: Its :func:`custom_modules.models.checkpoints.weights_digest`.

    Raises:
        InputError: A file cannot be read as results.
    """
    aside = sorted(checkpoint.parent.glob('metrics_*.json'), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in (checkpoint.with_name('metrics.json'), *aside):
        if not file.exists():
            continue
        try:
            results = json.loads(file.read_bytes())
            if not isinstance(results, dict):
                raise ValueError('no object')
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f'{file}: cannot be read as results ({error}). Delete it and test again.') from error
        if results.get('weights') == weights and not results.get('tta'):
            return file, results
    return None


@contextmanager
def found_in(file: Path | None) -> Iterator[None]:
    """Turns errors from using results of ``file``, which anyone may have edited, into an :class:`InputError`."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if file is None:
            raise
        said = f'{file}: not as a test has written it ({said_by(error)})'
        raise InputError(f'{said}. Delete it and test again.') from error


@dataclass(frozen=True)
class Known:
    """What the results beside a checkpoint say about it."""

    file: Path | None  # the results' file; None without any
    results: dict[str, Any] | None
    temperature: float | None  # of that test, or else carried by the checkpoint; None where it must not be used
    source: str  # of the temperature, or why there is none


def know(checkpoint: Path, weights: str, meta: Mapping[str, Any]) -> Known:
    """Finds the results of a checkpoint's test and its temperature; arguments as for :func:`find_results`.

    Raises:
        InputError: The temperature is no positive finite number, or a file beside the checkpoint holds no results.
    """
    file, results = find_results(checkpoint, weights) or (None, None)
    with found_in(file):
        scaling = (results or {}).get('temperature_scaling') or {}
        for about, source in ((scaling, file), (meta, checkpoint)):
            if (temperature := read_temperature(about, str(source))) is not None:
                if about is scaling and (fault := results_warning(results or {}) or scaling_fault(scaling)):
                    return Known(file, results, None, f'none: the {temperature:.3f} of {file} is not used: {fault}')
                return Known(file, results, temperature, f'{temperature:.3f}, of {source}')
    command = shlex.join(['python', 'tools/test.py', 'CONFIG', str(checkpoint)])
    where = checkpoint.with_name('metrics.json')
    return Known(file, results, None, f'none: no test of these weights without --tta in {where}; run: {command}')


def set_aside(path: Path, results: Mapping[str, Any]) -> Path | None:
    """Renames ``path``, a ``metrics.json`` or a report's folder, if it holds the results of another test.

    The new name says what was tested: ``metrics_epoch_19_tta.json``. A file or folder of that name is replaced if it
    is of the same test; otherwise a number is added. ``results`` are those that will be written to ``path``.

    Returns:
        The new name; None if there is nothing to keep.
    """
    old = _identity(path)
    if old is None:
        return None
    new = _identity_of(results)
    if all(old[key] == new[key] or (key in EXTRAS and not old[key]) for key in IDENTITY):
        return None
    kinds = [kind for kind in ('tta', *EXTRAS) if old[kind]]
    stem = '_'.join([path.stem, Path(str(old['checkpoint'] or 'unknown')).stem, *kinds])
    names = (path.with_name(f'{stem}{f"_{number}" if number > 1 else ""}{path.suffix}') for number in count_from(1))
    target = next(name for name in names if _identity(name) in (None, old))
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(path, target)
    return target


def _identity(path: Path) -> dict[str, Any] | None:
    """The test whose results are in ``path``; None where there is nothing, all None where it cannot be read."""
    if not path.exists():
        return None
    try:
        return _identity_of(json.loads((path / 'metrics.json' if path.is_dir() else path).read_bytes()))
    except (OSError, ValueError, AttributeError):
        return dict.fromkeys(IDENTITY)


def _identity_of(results: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: results.get(key) for key in IDENTITY}
    values['checkpoint'] = values['checkpoint'] and Path(values['checkpoint']).name
    values['robustness'] = bool(values['robustness'])
    values['ood'] = (values['ood'] or {}).get('folder')
    return values
