"""Cross-validated configs compared: the table of out-of-fold predictions, scores, and paired differences."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import markdown_table, spread
from custom_modules.files import write_atomically
from custom_modules.metrics import predictions
from custom_modules.metrics.calibration import expected_calibration_error, mean_nll, nll
from custom_modules.metrics.predictions import Prediction, Proportion, columns

Row = dict[str, str]  # of the table: KEYS and the columns of a prediction

KEYS = ['config', 'settings', 'dataset', 'seed', 'fold']
FIGURES = {'nll': mean_nll, 'ece': expected_calibration_error}


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

    def mean(self, figure: str) -> float:
        """Mean over the seeds of ``'nll'`` (nats) or ``'ece'`` (0-1)."""
        return statistics.fmean(FIGURES[figure](*_arrays(found.values())) for found in self.predictions.values())


@dataclass(frozen=True)
class Difference:
    """One config minus another, on the photos and seeds that both have.

    Args:
        photos: Number of photos.
        seeds: The seeds.
        accuracy: Difference of top-1 accuracy in points, with its 95 % interval.
        nll: Difference of the mean NLL in nats, with its 95 % interval.
    """

    photos: int
    seeds: list[int]
    accuracy: tuple[float, float, float]
    nll: tuple[float, float, float]


def write_rows(path: Path, rows: Iterable[Row], classes: Sequence[str]) -> None:
    """Writes the table of predictions as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [*KEYS, *columns(classes)]
    write_atomically(path, lambda file: predictions.write_rows(file, rows, fields, '.csv'))


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Reads the table of predictions: its rows and the class names.

    Raises:
        InputError: The file cannot be read or is no such table.
    """
    try:
        with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            rows, fields = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f'{path}: cannot be read ({reason}). Name another file.') from None
    classes = [name.removeprefix('score_') for name in fields if name.startswith('score_')]
    if not classes or fields != [*KEYS, *columns(classes)]:
        raise InputError(f'{path}: no table of this version of tools/cross_validate.py. Name another file.')
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f'{path}:{line}: {len(fields)} values are expected. Make the table again.')
    return rows, classes


def read_table(path: Path) -> list[Recipe]:
    """Reads the table of predictions; the configs are in its order.

    Raises:
        InputError: The file cannot be read, or a line is wrong.
    """
    return as_recipes(*read_rows(path), path)


def as_recipes(rows: Sequence[Row], classes: Sequence[str], path: Path) -> list[Recipe]:
    """The predictions in rows of the table by config; ``path`` is the table, for messages.

    Raises:
        InputError: A row is wrong, or there are none.
    """
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


def difference(recipe: Recipe, first: Recipe, seed: int = 0) -> Difference | None:
    """The scores of ``recipe`` minus those of ``first``; None where they have no photo and seed in common.

    Each photo counts once, with the mean over the seeds that both have for it. The interval is the percentile interval
    of the mean over photos by bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    """
    from scipy.stats import bootstrap

    by_photo: dict[str, list[np.ndarray]] = {}
    seeds = []
    for number in sorted(recipe.predictions.keys() & first.predictions.keys()):
        both = sorted(recipe.predictions[number].keys() & first.predictions[number].keys())
        if not both:
            continue
        seeds.append(number)
        here, there = (_by_photo(one.predictions[number][path] for path in both) for one in (recipe, first))
        for path, values in zip(both, here - there, strict=True):
            by_photo.setdefault(path, []).append(values)
    if not by_photo:
        return None
    table = np.array([np.mean(by_photo[path], axis=0) for path in sorted(by_photo)])
    means = table.mean(axis=0)
    low = high = means
    if len(table) > 1:
        options = {'n_resamples': 10_000, 'batch': 100, 'method': 'percentile', 'rng': seed}  # a batch fits the memory
        low, high = bootstrap((table,), np.mean, axis=0, **options).confidence_interval
    accuracy, loss = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return Difference(len(table), seeds, accuracy, loss)


def _by_photo(found: Iterable[Prediction]) -> np.ndarray:
    """100 for a correct prediction and 0 for a wrong one, and the NLL, ``(N, 2)``."""
    scores, truths = _arrays(found)
    return np.stack([100.0 * (scores.argmax(axis=1) == truths), nll(scores, truths)], axis=1)


def differences(recipes: Sequence[Recipe]) -> list[Difference | None]:
    """The difference of each config to the first; None for the first itself."""
    return [None, *(difference(recipe, recipes[0]) for recipe in recipes[1:])]


def summary(recipes: Sequence[Recipe], found: Sequence[Difference | None]) -> list[dict[str, str]]:
    """One row per config, with its difference to the first; the columns are the keys."""
    rows = []
    for recipe, shared in zip(recipes, found, strict=True):
        top1 = list(recipe.top1.values())
        counts = ', '.join(f'{share.k}/{share.n}' for share in top1)
        if len(top1) == 1 and top1[0].interval:
            low, high = top1[0].interval
            counts += f', {low:.2f}–{high:.2f}'
        rows.append(
            {
                'config': recipe.name,
                'photos': str(len(recipe.photos)),
                'seeds': ', '.join(map(str, recipe.predictions)),
                'top-1': f'{spread([share.percent for share in top1])} % ({counts})',
                'NLL': f'{recipe.mean("nll"):.4f}',
                'ECE': f'{100 * recipe.mean("ece"):.2f} %',
                'top-1 − first, points': _signed(shared.accuracy if shared else None, 2),
                'NLL − first': _signed(shared.nll if shared else None, 4),
            }
        )
    return rows


def remarks(recipes: Sequence[Recipe], found: Sequence[Difference | None]) -> list[str]:
    """What a reader of the summary has to know."""
    lines = [
        'Cross-validation: each photo is predicted by the training that left it out, with the weights of the last '
        'epoch. Top-1 in brackets: correct of all, for each seed; with one seed, Wilson’s 95 % interval.',
        f'Differences are to {recipes[0].name}, on the photos and seeds that both have, with a 95 % interval by '
        'bootstrap over the photos. It covers other photos, not other seeds; of many configs, some differ by chance.',
    ]
    for recipe, shared in list(zip(recipes, found, strict=True))[1:]:
        seeds = {*recipe.predictions, *recipes[0].predictions}
        if shared is None:
            lines.append(f'{recipe.name}: has no photo and seed in common with {recipes[0].name}.')
        elif shared.photos < max(len(recipe.photos), len(recipes[0].photos)) or set(shared.seeds) != seeds:
            lines.append(
                f'{recipe.name}: its difference is on {shared.photos} photos and seeds '
                f'{", ".join(map(str, shared.seeds))} alone; the other figures are of all photos and seeds.'
            )
    return lines


def as_markdown(recipes: Sequence[Recipe], found: Sequence[Difference | None]) -> str:
    """The summary and the remarks."""
    return markdown_table(summary(recipes, found), remarks(recipes, found))


def as_dict(recipes: Sequence[Recipe], found: Sequence[Difference | None]) -> dict[str, Any]:
    """The same for JSON, in numbers."""
    rows = []
    for recipe, shared in zip(recipes, found, strict=True):
        top1 = recipe.top1
        rows.append(
            {
                'config': recipe.name,
                'photos': len(recipe.photos),
                'top1': statistics.fmean(share.percent or 0 for share in top1.values()),
                'seeds': {seed: share.as_dict() for seed, share in top1.items()},
                'nll': recipe.mean('nll'),
                'ece': recipe.mean('ece'),
                'difference': shared and vars(shared),
            }
        )
    return {'recipes': rows, 'notes': remarks(recipes, found)}


def _arrays(found: Iterable[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, ``(N, K)``, and truths, ``(N,)``."""
    known = list(found)
    return np.array([item.scores for item in known]), np.array([item.truth for item in known])


def _signed(value: tuple[float, float, float] | None, digits: int) -> str:
    """A difference with its interval, with signs."""
    if value is None:
        return '–'
    middle, low, high = (f'{part:+.{digits}f}'.replace('-', '−') for part in value)
    return f'{middle} ({low} to {high})'
