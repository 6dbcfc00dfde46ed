"""Recipes compared on photos that each of their trainings left out: the table of all answers, and what it comes to.

Nothing is trained here; the table is written by tools/cross_validate.py and read by tools/compare.py.
"""

import csv
import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import markdown_table, spread
from custom_modules.files import write_atomically
from custom_modules.metrics.calibration import expected_calibration_error, mean_nll, nll
from custom_modules.metrics.predictions import Prediction, Proportion, columns, write_rows

KEYS = ['config', 'seed', 'fold']  # before the columns of a prediction
RESAMPLES = 10_000
AT_ONCE = 100  # resamples: one by one takes longer, all together much memory
FIGURES = {'nll': mean_nll, 'ece': expected_calibration_error}


@dataclass(frozen=True)
class Recipe:
    """What the trainings of one config answered: seed to path to prediction, by the training without that photo."""

    name: str
    answers: Mapping[int, Mapping[str, Prediction]]

    @property
    def photos(self) -> set[str]:
        """Paths of the photos that any seed was asked about."""
        return set().union(*self.answers.values())

    @property
    def top1(self) -> dict[int, Proportion]:
        """Right answers by seed."""
        return {
            seed: Proportion(sum(answer.label == answer.truth for answer in answers.values()), len(answers))
            for seed, answers in self.answers.items()
        }

    def mean(self, figure: str) -> float:
        """Mean over the seeds of ``'nll'`` (nats) or ``'ece'`` (0-1)."""
        return statistics.fmean(FIGURES[figure](*_arrays(answers.values())) for answers in self.answers.values())


@dataclass(frozen=True)
class Difference:
    """A recipe less another, on the photos and seeds that both have.

    Args:
        photos: How many these are.
        seeds: Which these are.
        accuracy: Of top-1, in points, with its 95 % interval.
        nll: Of the mean NLL, in nats, with its 95 % interval.
    """

    photos: int
    seeds: list[int]
    accuracy: tuple[float, float, float]
    nll: tuple[float, float, float]


def write_table(path: Path, rows: Iterable[Mapping[str, str]], classes: Sequence[str]) -> None:
    """Writes the table of all answers: ``config``, ``seed``, ``fold`` and the columns of a prediction, as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: write_rows(file, map(dict, rows), [*KEYS, *columns(classes)], '.csv'))


def check_table(path: Path, planned: Mapping[tuple[str, int, int], Container[str]]) -> None:
    """Makes sure that a table can be written at ``path`` without the loss of anything but an older one of these runs.

    Args:
        path: The file.
        planned: The photos of each run of the new table, by its config, seed and fold.

    Raises:
        InputError: Something else is there, or answers of other runs.
    """
    if path.is_dir():
        raise InputError(f'--out {path}: is a folder; name a file')
    if not path.exists():
        return
    start = [*KEYS, *columns([])]
    with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        reader = csv.reader(file)
        if next(reader, [])[: len(start)] != start:
            raise InputError(f'--out {path}: exists already, and is no table of this tool; name another file')
        runs = {(config, str(seed), str(fold)): photos for (config, seed, fold), photos in planned.items()}
        for line in reader:
            config, seed, fold, photo = [*line, '', '', '', ''][:4]
            if photo not in runs.get((config, seed, fold), ()):
                raise InputError(
                    f'--out {path}: its line {reader.line_num} is of no run that was asked for '
                    f'({config}, seed {seed}, fold {fold}, {photo}), and would be lost; name another file'
                )


def read_table(path: Path) -> list[Recipe]:
    """Reads the table of all answers; the recipes in its order.

    Raises:
        InputError: The file cannot be read or is no such table; it names the line.
    """
    recipes: dict[str, dict[int, dict[str, Prediction]]] = {}
    try:
        with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            fields = list(reader.fieldnames or [])
            classes = [name.removeprefix('score_') for name in fields if name.startswith('score_')]
            if not classes or fields != [*KEYS, *columns(classes)]:
                raise InputError(f'{path}: no table of tools/cross_validate.py; its columns are others')
            for row in reader:
                try:
                    if None in row or None in row.values():
                        raise ValueError(f'{len(fields)} values are expected')
                    scores = [float(row[f'score_{name}']) for name in classes]
                    if not all(0 <= score <= 1 for score in scores):  # never true of NaN
                        raise ValueError('a score is not between 0 and 1')
                    if row['truth'] not in classes:
                        raise ValueError(f'{row["truth"]!r} is no class of this table')
                    answer = Prediction(row['path'], scores, classes.index(row['truth']))
                    known = recipes.setdefault(row['config'], {}).setdefault(int(row['seed']), {})
                    if answer.path in known:
                        raise ValueError(f'{answer.path!r} has been answered by this config and seed already')
                    known[answer.path] = answer
                except ValueError as error:
                    raise InputError(f'{path}:{reader.line_num}: {error}; make the table anew') from None
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f'{path}: cannot be read ({reason})') from None
    if not recipes:
        raise InputError(f'{path}: holds no answers yet')
    return [Recipe(name, answers) for name, answers in recipes.items()]


def difference(recipe: Recipe, first: Recipe, seed: int = 0) -> Difference | None:
    """What ``recipe`` has more than ``first``; None where they have no photo in common.

    Each photo counts once, with the mean over the seeds that both have for it.
    """
    by_photo: dict[str, list[tuple[float, float]]] = {}
    seeds = []
    for number in sorted(recipe.answers.keys() & first.answers.keys()):
        both = sorted(recipe.answers[number].keys() & first.answers[number].keys())
        if not both:
            continue
        seeds.append(number)
        figures = []
        for one in (recipe, first):
            scores, truths = _arrays(one.answers[number][path] for path in both)
            figures.append(np.stack([100.0 * (scores.argmax(axis=1) == truths), nll(scores, truths)], axis=1))
        for path, values in zip(both, (figures[0] - figures[1]).tolist(), strict=True):
            by_photo.setdefault(path, []).append(values)
    if not by_photo:
        return None
    values = np.array([np.mean(by_photo[path], axis=0) for path in sorted(by_photo)])
    low, high = bootstrap_interval(values, seed)
    accuracy, loss = zip(values.mean(axis=0).tolist(), low, high, strict=True)
    return Difference(len(values), seeds, accuracy, loss)


def bootstrap_interval(values: ArrayLike, seed: int = 0) -> tuple[list[float], list[float]]:
    """The 95 % percentile interval of the mean over photos, of which as many are drawn with replacement.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        values: ``(N, K)``, K figures of N photos.
        seed: What the photos are drawn from.

    Returns:
        Lower and upper bounds, K each.
    """
    table = np.asarray(values, float)
    random = np.random.default_rng(seed)
    draws = (random.integers(len(table), size=(AT_ONCE, len(table))) for _ in range(RESAMPLES // AT_ONCE))
    means = [table[drawn].mean(axis=1) for drawn in draws]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return low.tolist(), high.tolist()


def differences(recipes: Sequence[Recipe]) -> list[Difference | None]:
    """That of each recipe to the first; None for the first itself."""
    return [None, *(difference(recipe, recipes[0]) for recipe in recipes[1:])]


def summary(recipes: Sequence[Recipe], found: Sequence[Difference | None]) -> list[dict[str, str]]:
    """One row a recipe; the columns are the keys.

    Args:
        recipes: The recipes.
        found: Their differences to the first.
    """
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
                'seeds': ', '.join(map(str, recipe.answers)),
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
        'Cross-validation: each photo was left out by the training that is asked about it, while those of the other '
        'folds trained on it. Asked are the weights of the last epoch. Top-1 in brackets: right of all, for each '
        'seed; with one seed, Wilson’s 95 % interval.',
        f'Differences are to {recipes[0].name}, on the photos and seeds that both have, with a 95 % interval by '
        'bootstrap over the photos. It covers other photos, not other seeds; of many recipes, some differ by chance.',
    ]
    for recipe, shared in list(zip(recipes, found, strict=True))[1:]:
        if shared is None:
            lines.append(f'{recipe.name}: has no photo and seed in common with {recipes[0].name}.')
        elif shared.photos < max(len(recipe.photos), len(recipes[0].photos)) or set(shared.seeds) != {
            *recipe.answers,
            *recipes[0].answers,
        }:
            lines.append(
                f'{recipe.name}: its difference is on {shared.photos} photos and seeds '
                f'{", ".join(map(str, shared.seeds))} alone; the other figures are of all that each has.'
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


def _arrays(answers: Iterable[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, ``(N, K)``, and truths, ``(N,)``."""
    known = list(answers)
    return np.array([answer.scores for answer in known]), np.array([answer.truth for answer in known])


def _signed(value: tuple[float, float, float] | None, digits: int) -> str:
    """A difference with its interval."""
    if value is None:
        return '–'
    middle, low, high = (f'{part:+.{digits}f}'.replace('-', '−') for part in value)
    return f'{middle} ({low} to {high})'
