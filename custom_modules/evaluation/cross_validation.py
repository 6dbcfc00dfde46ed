"""Cross-validated configs compared: the table of out-of-fold predictions, scores, and paired differences."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError, as_configured
from custom_modules.evaluation.run_comparison import Comparison, spread
from custom_modules.files import write_atomically
from custom_modules.metrics import predictions
from custom_modules.metrics.calibration import arrays, expected_calibration_error, mean_nll, nll
from custom_modules.metrics.predictions import Prediction, columns, top1

Row = dict[str, str]  # of the table: KEYS and the columns of a prediction
OutOfFold = dict[tuple[int, str], Prediction]  # the predictions of one config, by seed and path

KEYS = ['config', 'settings', 'dataset', 'seed', 'fold']


def write_rows(path: Path, rows: Iterable[Row], classes: Sequence[str]) -> None:
    """Writes the table of predictions as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: predictions.write_rows(file, rows, [*KEYS, *columns(classes)], '.csv'))


def read_table(path: Path) -> tuple[list[Row], dict[str, OutOfFold]]:
    """Reads the table of predictions: its rows, and the predictions by config, in its order."""
    try:
        with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            rows, fields = list(reader), list(reader.fieldnames or [])
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f'{path}: cannot be read ({reason}). Name another file.') from None
    classes = [name.removeprefix('score_') for name in fields if name.startswith('score_')]
    if not classes or fields != [*KEYS, *columns(classes)]:
        raise InputError(f'{path}: no table of tools/cross_validate.py. Name another file.')
    if not rows:
        raise InputError(f'{path}: holds no predictions. Delete it, or name another file.')
    with as_configured(f'{path}: not as tools/cross_validate.py has written it', 'make the table again'):
        return rows, by_config(rows, classes)


def by_config(rows: Iterable[Row], classes: Sequence[str]) -> dict[str, OutOfFold]:
    """The predictions in rows of the table."""
    configs: dict[str, OutOfFold] = {}
    for row in rows:
        scores = [float(row[f'score_{name}']) for name in classes]
        item = Prediction(row['path'], scores, classes.index(row['truth']))
        configs.setdefault(row['config'], {})[int(row['seed']), item.path] = item
    return configs


def difference(found: OutOfFold, first: OutOfFold) -> dict[str, Any] | None:
    """The scores of ``found`` minus those of ``first``; None where they have no photo and seed in common.

    Each photo counts once, with the mean over the seeds that both have for it. The interval is the percentile interval
    of the mean over photos by bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    ``accuracy`` (points) and ``nll`` (nats) are (difference, low, high) with its 95 % interval.
    """
    from scipy.stats import bootstrap

    both = sorted(found.keys() & first.keys())
    if not both:
        return None
    change = np.subtract(*(outcomes([each[key] for key in both]) for each in (found, first)))
    photos, place = np.unique([path for _, path in both], return_inverse=True)
    table = np.stack([np.bincount(place, column) / np.bincount(place) for column in change.T], axis=1)
    means = low = high = table.mean(axis=0)
    if len(photos) > 1:
        options = {'n_resamples': 10_000, 'batch': 100, 'method': 'percentile', 'rng': 0}  # a batch fits the memory
        low, high = bootstrap((table,), np.mean, axis=0, **options).confidence_interval
    accuracy, loss = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return {'photos': len(photos), 'seeds': sorted({seed for seed, _ in both}), 'accuracy': accuracy, 'nll': loss}


def outcomes(found: Sequence[Prediction]) -> NDArray[np.float64]:
    """100 for a correct prediction and 0 for a wrong one, and the NLL, ``(N, 2)``."""
    scores, truths = arrays(found)
    return np.stack([100.0 * (scores.argmax(axis=1) == truths), nll(scores, truths)], axis=1)


def compare_configs(configs: Mapping[str, OutOfFold]) -> Comparison:
    """Compares each config with the first."""
    (name, first), *_ = configs.items()
    notes = [
        'Cross-validation: each photo is predicted by the training that left it out, with the weights of the last '
        'epoch. Top-1 in brackets: correct of all, for each seed; with one seed, Wilson’s 95 % interval.',
        f'Differences are to {name}, on the photos and seeds that both have, with a 95 % interval by '
        'bootstrap over the photos. It covers other photos, not other seeds; of many configs, some differ by chance.',
    ]
    baseline = _figures(name, first)
    content = [baseline, *(_figures(other, configs[other], first) for other in list(configs)[1:])]
    for found in content[1:]:
        shared = found['difference']
        if shared is None:
            notes.append(f'{found["config"]}: has no photo and seed in common with {name}.')
        elif (
            shared['photos'] < max(found['photos'], baseline['photos'])
            or set(shared['seeds']) != found['seeds'].keys() | baseline['seeds'].keys()
        ):
            notes.append(
                f'{found["config"]}: its difference is on {shared["photos"]} photos and seeds '
                f'{", ".join(map(str, shared["seeds"]))} alone; the other figures are of all photos and seeds.'
            )
    return Comparison([_row(found) for found in content], notes, {'recipes': content, 'notes': notes})


def _figures(name: str, found: OutOfFold, first: OutOfFold | None = None) -> dict[str, Any]:
    """The figures of a config, for JSON: top-1 by seed, and means over the seeds."""
    by_seed: dict[int, list[Prediction]] = {}
    for (seed, _), item in found.items():
        by_seed.setdefault(seed, []).append(item)
    shares = {seed: top1(items) for seed, items in by_seed.items()}
    return {
        'config': name,
        'photos': len({path for _, path in found}),
        'top1': statistics.fmean(share.percent or 0 for share in shares.values()),
        'seeds': {seed: share.as_dict() for seed, share in shares.items()},
        'nll': statistics.fmean(mean_nll(*arrays(items)) for items in by_seed.values()),
        'ece': statistics.fmean(expected_calibration_error(*arrays(items)) for items in by_seed.values()),
        'difference': None if first is None else difference(found, first),
    }


def _row(found: Mapping[str, Any]) -> dict[str, str]:
    """The row of a config in the comparison."""
    shares, shared = list(found['seeds'].values()), found['difference']
    counts = ', '.join('{k}/{n}'.format(**share) for share in shares)
    if len(shares) == 1:
        counts += ', {:.2f}–{:.2f}'.format(*shares[0]['wilson95'])
    return {
        'config': found['config'],
        'photos': str(found['photos']),
        'seeds': ', '.join(map(str, found['seeds'])),
        'top-1': f'{spread([share["percent"] for share in shares])} % ({counts})',
        'NLL': f'{found["nll"]:.4f}',
        'ECE': f'{100 * found["ece"]:.2f} %',
        'top-1 − first, points': _signed(shared['accuracy'], 2) if shared else '–',
        'NLL − first': _signed(shared['nll'], 4) if shared else '–',
    }


def _signed(value: Sequence[float], digits: int) -> str:
    """A difference with its interval, with signs."""
    middle, low, high = (f'{part:+.{digits}f}'.replace('-', '−') for part in value)
    return f'{middle} ({low} to {high})'
