"""Cross-validated configs compared: the table of out-of-fold predictions, scores, and paired differences."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import Comparison, spread
from custom_modules.files import write_atomically
from custom_modules.metrics import predictions
from custom_modules.metrics.calibration import expected_calibration_error, mean_nll, nll
from custom_modules.metrics.predictions import Prediction, Proportion, columns

Row = dict[str, str]  # of the table: KEYS and the columns of a prediction

KEYS = ['config', 'settings', 'dataset', 'seed', 'fold']
OLD_KEYS = ['config', 'seed', 'fold']  # of version 2.3.3


@dataclass(frozen=True)
class Recipe:
    """The out-of-fold predictions of one config, by seed and path."""

    name: str
    predictions: Mapping[int, Mapping[str, Prediction]]

    @property
    def photos(self) -> set[str]:
        """Paths of the photos with a prediction for any seed."""
        return set().union(*self.predictions.values())

    @property
    def top1(self) -> dict[int, Proportion]:
        """Top-1 accuracy by seed."""
        return {
            seed: Proportion(sum(item.label == item.truth for item in found.values()), len(found))
            for seed, found in self.predictions.items()
        }

    @property
    def nll(self) -> float:
        """Mean NLL in nats, averaged over the seeds."""
        return statistics.fmean(mean_nll(*_arrays(found.values())) for found in self.predictions.values())

    @property
    def ece(self) -> float:
        """Expected calibration error, 0-1, averaged over the seeds."""
        return statistics.fmean(
            expected_calibration_error(*_arrays(found.values())) for found in self.predictions.values()
        )


def write_rows(path: Path, rows: Iterable[Row], classes: Sequence[str]) -> None:
    """Writes the table of predictions as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: predictions.write_rows(file, rows, [*KEYS, *columns(classes)], '.csv'))


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Reads the table of predictions: its rows and the class names."""
    try:
        with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            rows, fields = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f'{path}: cannot be read ({reason}). Name another file.') from None
    classes = [name.removeprefix('score_') for name in fields if name.startswith('score_')]
    if not classes or fields not in ([*keys, *columns(classes)] for keys in (KEYS, OLD_KEYS)):
        raise InputError(f'{path}: no table of tools/cross_validate.py. Name another file.')
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f'{path}:{line}: {len(fields)} values are expected. Make the table again.')
    return rows, classes


def read_table(path: Path) -> list[Recipe]:
    """Reads the table of predictions; the configs are in its order."""
    return as_recipes(*read_rows(path), path)


def as_recipes(rows: Sequence[Row], classes: Sequence[str], path: Path) -> list[Recipe]:
    """The predictions in rows of the table by config; ``path`` is the table, for messages."""
    recipes: dict[str, dict[int, dict[str, Prediction]]] = {}
    for line, row in enumerate(rows, 2):
        try:
            scores = [float(row[f'score_{name}']) for name in classes]
            if not all(0 <= score <= 1 for score in scores):  # never true of NaN
                raise ValueError('a score is not between 0 and 1')
            if row['truth'] not in classes:
                raise ValueError(f'{row["truth"]!r} is no class of this table')
            item = Prediction(row['path'], scores, classes.index(row['truth']))
            known = recipes.setdefault(row['config'], {}).setdefault(int(row['seed']), {})
            if item.path in known:
                raise ValueError(f'a second prediction of this config and seed for {item.path!r}')
            known[item.path] = item
        except ValueError as error:
            raise InputError(f'{path}:{line}: {error}. Make the table again.') from None
    if not recipes:
        raise InputError(f'{path}: holds no predictions yet. Wait for tools/cross_validate.py.')
    return [Recipe(name, found) for name, found in recipes.items()]


def difference(recipe: Recipe, first: Recipe, seed: int = 0) -> dict[str, Any] | None:
    """The scores of ``recipe`` minus those of ``first``; None where they have no photo and seed in common.

    Each photo counts once, with the mean over the seeds that both have for it. The interval is the percentile interval
    of the mean over photos by bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    ``accuracy`` (points) and ``nll`` (nats) are (difference, low, high) with its 95 % interval.
    """
    from scipy.stats import bootstrap

    by_photo: dict[str, list[np.ndarray]] = {}
    seeds = []
    for number in sorted(recipe.predictions.keys() & first.predictions.keys()):
        here, there = recipe.predictions[number], first.predictions[number]
        if both := sorted(here.keys() & there.keys()):
            seeds.append(number)
            values = _by_photo(here[path] for path in both) - _by_photo(there[path] for path in both)
            for path, value in zip(both, values, strict=True):
                by_photo.setdefault(path, []).append(value)
    if not by_photo:
        return None
    table = np.array([np.mean(by_photo[path], axis=0) for path in sorted(by_photo)])
    means = low = high = table.mean(axis=0)
    if len(table) > 1:
        options = {'n_resamples': 10_000, 'batch': 100, 'method': 'percentile', 'rng': seed}  # a batch fits the memory
        low, high = bootstrap((table,), np.mean, axis=0, **options).confidence_interval
    accuracy, loss = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return {'photos': len(table), 'seeds': seeds, 'accuracy': accuracy, 'nll': loss}


def compare_recipes(recipes: Sequence[Recipe]) -> Comparison:
    """Compares each config with the first."""
    first = recipes[0]
    rows, content = [], []
    notes = [
        'Cross-validation: each photo is predicted by the training that left it out, with the weights of the last '
        'epoch. Top-1 in brackets: correct of all, for each seed; with one seed, Wilson’s 95 % interval.',
        f'Differences are to {first.name}, on the photos and seeds that both have, with a 95 % interval by '
        'bootstrap over the photos. It covers other photos, not other seeds; of many configs, some differ by chance.',
    ]
    for recipe in recipes:
        shared = None if recipe is first else difference(recipe, first)
        rows.append(_row(recipe, shared))
        content.append(
            {
                'config': recipe.name,
                'photos': len(recipe.photos),
                'top1': statistics.fmean(share.percent or 0 for share in recipe.top1.values()),
                'seeds': {seed: share.as_dict() for seed, share in recipe.top1.items()},
                'nll': recipe.nll,
                'ece': recipe.ece,
                'difference': shared,
            }
        )
        if shared is None and recipe is not first:
            notes.append(f'{recipe.name}: has no photo and seed in common with {first.name}.')
        elif shared and (
            shared['photos'] < max(len(recipe.photos), len(first.photos))
            or set(shared['seeds']) != recipe.predictions.keys() | first.predictions.keys()
        ):
            notes.append(
                f'{recipe.name}: its difference is on {shared["photos"]} photos and seeds '
                f'{", ".join(map(str, shared["seeds"]))} alone; the other figures are of all photos and seeds.'
            )
    return Comparison(rows, notes, {'recipes': content, 'notes': notes})


def _row(recipe: Recipe, shared: Mapping[str, Any] | None) -> dict[str, str]:
    """The row of a config, with its difference from the first."""
    top1 = list(recipe.top1.values())
    counts = ', '.join(f'{share.k}/{share.n}' for share in top1)
    if len(top1) == 1 and top1[0].interval:
        counts += ', {:.2f}–{:.2f}'.format(*top1[0].interval)
    return {
        'config': recipe.name,
        'photos': str(len(recipe.photos)),
        'seeds': ', '.join(map(str, recipe.predictions)),
        'top-1': f'{spread([share.percent for share in top1])} % ({counts})',
        'NLL': f'{recipe.nll:.4f}',
        'ECE': f'{100 * recipe.ece:.2f} %',
        'top-1 − first, points': _signed(shared['accuracy'], 2) if shared else '–',
        'NLL − first': _signed(shared['nll'], 4) if shared else '–',
    }


def _by_photo(found: Iterable[Prediction]) -> np.ndarray:
    """100 for a correct prediction and 0 for a wrong one, and the NLL, ``(N, 2)``."""
    scores, truths = _arrays(found)
    return np.stack([100.0 * (scores.argmax(axis=1) == truths), nll(scores, truths)], axis=1)


def _arrays(found: Iterable[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, ``(N, K)``, and truths, ``(N,)``."""
    known = list(found)
    return np.array([item.scores for item in known]), np.array([item.truth for item in known])


def _signed(value: Sequence[float], digits: int) -> str:
    """A difference with its interval, with signs."""
    middle, low, high = (f'{part:+.{digits}f}'.replace('-', '−') for part in value)
    return f'{middle} ({low} to {high})'
