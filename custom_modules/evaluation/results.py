"""The results of a test as ``metrics.json`` holds them, and which test they are of. Nothing is tested here."""

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
from custom_modules.models.model_file import read_temperature

ECE = f'ece/{BINS}_bins'  # its key in metrics.json
COVERAGES = 1.0, 0.95, 0.9, 0.8, 0.5  # share of the photos, the surest first

# Two tests with the same of these are the same test, whose results may replace each other; but none without one of
# the extras replaces one with it.
EXTRAS = 'robustness', 'ood'
IDENTITY = 'checkpoint', 'run', 'epoch', 'dataset', 'tested', 'tta', *EXTRAS


def figures(predictions: Sequence[Prediction], counts: Counts) -> dict[str, Any]:
    """All that is computed from predictions whose truth is known, for JSON.

    ``accuracy/top1``, ``error/top1`` and ``classes`` are counts; ``ece/15_bins`` is in 0-1; ``temperature_scaling`` is
    None for a single photo; ``coverage`` says what is right if the unsure are set aside.

    Raises:
        InputError: A score is not finite, or there is not one for each class.
    """
    check_scores(predictions, list(counts.recall))
    scores, truths = [p.scores for p in predictions], [p.truth for p in predictions if p.truth is not None]
    scaling, curve = scale(scores, truths), coverage_curve(scores, truths)
    return {
        **counts.as_dict(),
        ECE: expected_calibration_error(scores, truths),
        'temperature_scaling': scaling and scaling.as_dict(),
        'coverage': [at_coverage(curve, share).as_dict() for share in COVERAGES],
    }


def format_scaling(scaling: dict[str, Any]) -> str:
    """``temperature_scaling`` as lines for a terminal."""
    temperatures = scaling['fold_temperatures']
    lines = [
        f'temperature     {scaling["temperature"]:.3f}, fitted on all; {len(temperatures)} folds, each scaled by one '
        f'fitted on the others: {min(temperatures):.3f}-{max(temperatures):.3f}'
    ]
    for name in ('before', 'after'):
        found = scaling[name]
        low, high = found['ece_interval95']
        lines.append(
            f'  {name:13} ECE {100 * found["ece"]:.2f} % (95 % interval {100 * low:.2f}-{100 * high:.2f}; '
            f'by chance alone {100 * found["ece_by_chance"]:.2f} %), mean NLL {found["nll"]:.4f}'
        )
    if fault := scaling_fault(scaling):
        lines.append(f'  not to be used on other photos: {fault}')
    return '\n'.join(lines)


def split_warning(trained_on: str | None, tested_on: str | None, same_list: bool = False) -> str:
    """What figures suffer from, if anything.

    Args:
        trained_on: Digest of the dataset of the training; None if unknown.
        tested_on: That of the dataset of the test.
        same_list: Whether the list of photos tested is called as the one that was trained on.
    """
    trained_on, tested_on = str(trained_on or ''), str(tested_on or '')
    if not trained_on or not tested_on or trained_on == tested_on:
        return 'tested on the photos that it was trained on: the figures say nothing of others' if same_list else ''
    return (
        f'trained on another split ({trained_on[:12]}) than this one ({tested_on[:12]}): some of these photos may '
        'have been trained on, and the figures mean nothing if so'
    )


def results_warning(results: Mapping[str, Any]) -> str:
    """What a test's figures, as ``metrics.json`` holds them, suffer from, if anything."""
    tested = results.get('tested')
    same_list = tested is not None and tested == results.get('trained_list')
    return split_warning(results.get('trained_on'), results.get('dataset'), same_list)


def find_results(checkpoint: Path, weights: str) -> tuple[Path, dict[str, Any]] | None:
    """The results of a checkpoint's test: of a file in its folder that is of these weights and without tta.

    That is ``metrics.json``, or else the newest of those that :func:`set_aside` has renamed for a later test's sake.

    Args:
        checkpoint: The file, whatever it was called when it was tested.
        weights: Its :func:`custom_modules.models.checkpoints.weights_digest`.

    Raises:
        InputError: There is such a file that holds no results.
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
            raise InputError(f'{file}: cannot be read as results ({error}); delete it and test again') from error
        if results.get('weights') == weights and not results.get('tta'):
            return file, results
    return None


@contextmanager
def found_in(file: Path | None) -> Iterator[None]:
    """Makes an :class:`InputError` of what using results of a file raises, for anyone may have edited them.

    Without a file, there is nothing to blame.
    """
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if file is None:
            raise
        raise InputError(
            f'{file}: not as a test has written it ({said_by(error)}); delete it and test again'
        ) from error


@dataclass(frozen=True)
class Known:
    """What a test says of a checkpoint, as far as it lies beside it.

    Args:
        file: The test's results; None without any.
        results: What is in it.
        temperature: Fitted to the weights by that test, or else the one that the checkpoint carries; None where the
            test says that its temperature is not to be used, or that its figures mean nothing.
        source: Where the temperature is from, or why there is none, in words.
    """

    file: Path | None
    results: dict[str, Any] | None
    temperature: float | None
    source: str


def know(checkpoint: Path, weights: str, meta: Mapping[str, Any]) -> Known:
    """Finds what a test says of a checkpoint.

    Args:
        checkpoint: Its file.
        weights: Its :func:`custom_modules.models.checkpoints.weights_digest`.
        meta: What it carries.

    Raises:
        InputError: The temperature is no positive finite number, or what lies beside the checkpoint is no test's
            results.
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
    return Known(
        file, results, None, f'none: {where} is of no test of these weights without --tta; get it by: {command}'
    )


def set_aside(path: Path, results: dict[str, Any]) -> Path | None:
    """Renames ``path``, a ``metrics.json`` or a report's folder, if it holds the results of another test.

    The new name tells what was tested: ``metrics_epoch_19_tta.json``. A file or folder of that name is replaced if it
    is of the same test, else a number is added.

    Args:
        path: What new results are to be written to.
        results: The new results.

    Returns:
        Where the old ones are now; None if there are none, or only of the same test.
    """
    found, new = _identity(path), _select(results)
    if found is None:
        return None
    told = dict(zip(IDENTITY, found, strict=True))
    if all(old == now or (key in EXTRAS and not old) for (key, old), now in zip(told.items(), new, strict=True)):
        return None  # what was there is of the same test, with no more than the new ones have
    kinds = [kind for kind in ('tta', *EXTRAS) if told[kind]]
    stem = '_'.join([path.stem, Path(str(told['checkpoint'] or 'unknown')).stem, *kinds])
    for number in count_from(1):
        target = path.with_name(f'{stem}{f"_{number}" if number > 1 else ""}{path.suffix}')
        there = _identity(target)
        if there in (None, found):
            if there is not None and target.is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
            return target
    raise AssertionError('numbers do not end')


def _identity(path: Path) -> tuple | None:
    """Of which test the results at ``path`` are; None where there is nothing."""
    if not path.exists():
        return None
    try:
        return _select(json.loads((path / 'metrics.json' if path.is_dir() else path).read_bytes()))
    except (OSError, ValueError, AttributeError):
        return (None,) * len(IDENTITY)


def _select(results: dict[str, Any]) -> tuple:
    values = {key: results.get(key) for key in IDENTITY}
    values['checkpoint'] = values['checkpoint'] and Path(values['checkpoint']).name
    values['robustness'] = bool(values['robustness'])
    values['ood'] = (values['ood'] or {}).get('folder')  # other photos are another test
    return tuple(values.values())
