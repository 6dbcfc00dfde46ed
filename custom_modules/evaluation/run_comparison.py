"""Comparison of trainings: a table of their scores, and McNemar's test for each pair of tested ones."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from custom_modules.metrics.predictions import Proportion


class Answer(NamedTuple):
    """The true and the predicted class of a photo, by name."""

    truth: str
    label: str


@dataclass(frozen=True)
class Run:
    """A finished training; None for values that its work dir does not hold.

    Args:
        name: The work dir.
        model: The backbone.
        recipe: Optimizer, learning rate, batch size and epochs, in short.
        settings: The config without seed, paths and launcher.
        seed: The seed.
        best: Best validation top-1, in percent.
        best_epoch: The epoch of the best.
        last: Validation top-1 of the last epoch, in percent.
        epochs: Number of epochs trained.
        photos: Number of validation photos.
        minutes: Duration of all epochs with their validation.
        rate: Training photos per second, of all processes together.
        pretrained: The weights it began with.
        dataset: Digest of the dataset.
        history: One dict per epoch, as CurvesHook keeps them.
        answers: Predictions of best.pth in its test, by path within the dataset; empty if it was not tested.
    """

    name: str
    model: str = ''
    recipe: str = ''
    settings: str = ''
    seed: int | None = None
    best: float | None = None
    best_epoch: int | None = None
    last: float | None = None
    epochs: int = 0
    photos: int | None = None
    minutes: float | None = None
    rate: float | None = None
    pretrained: str | None = None
    dataset: str | None = None
    history: list[dict] = field(default_factory=list)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    def share(self, percent: float | None) -> Proportion | None:
        """``percent`` of the validation photos, with k, n and interval; None if either is unknown."""
        if percent is None or not self.photos:
            return None
        return Proportion(round(percent * self.photos / 100), self.photos)


@dataclass(frozen=True)
class Pair:
    """Two runs on the photos that both were tested on.

    Args:
        first: Name of the first run.
        second: Name of the second run.
        photos: Number of photos that both were tested on.
        only_first: Number of photos that only the first predicted correctly.
        only_second: Number of photos that only the second predicted correctly.
        differing: Path, truth and both predictions of each photo with different ones.
    """

    first: str
    second: str
    photos: int
    only_first: int
    only_second: int
    differing: list[tuple[str, str, str, str]]

    @property
    def p_value(self) -> float:
        """Two-sided p-value of McNemar's exact test (McNemar 1947; the binomial form), 0-1."""
        from scipy.stats import binomtest

        discordant = self.only_first + self.only_second
        return binomtest(self.only_first, discordant).pvalue if discordant else 1.0

    @property
    def verdict(self) -> str:
        """The counts, the test, and whether the two differ."""
        verdict = 'a difference' if self.p_value < 0.05 else 'no evidence of a difference'
        return (
            f'of {self.photos} photos, only the first is correct on {self.only_first}, only the second on '
            f'{self.only_second}; McNemar’s exact test: p = {self.p_value:.3g}: {verdict}'
        )

    def __str__(self) -> str:
        return f'{self.first} and {self.second}: {self.verdict}'


def compare_pairs(runs: Sequence[Run]) -> list[Pair]:
    """Each two runs with tested photos in common."""
    pairs = []
    for first, second in combinations([run for run in runs if run.answers], 2):
        both = sorted(first.answers.keys() & second.answers.keys())
        if not both:
            continue
        rows = [(path, *first.answers[path], second.answers[path].label) for path in both]
        pairs.append(
            Pair(
                first.name,
                second.name,
                len(both),
                sum(one == truth != other for _, truth, one, other in rows),
                sum(other == truth != one for _, truth, one, other in rows),
                [row for row in rows if row[2] != row[3]],
            )
        )
    return pairs


def group_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups runs that differ only in their seed, in the order of their first."""
    groups: dict[tuple[str, str, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.settings or run.name, run.recipe, run.dataset), []).append(run)
    return list(groups.values())


def spread(values: Sequence[float | None], unit: str = '') -> str:
    """Mean and sample standard deviation, with their unit; a dash where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < max(len(values), 1):
        return '–'
    deviation = f' ± {statistics.stdev(known):.2f}' if len(known) > 1 else ''
    return f'{statistics.fmean(known):.2f}{deviation}{unit}'


def table(runs: Sequence[Run]) -> list[dict[str, str]]:
    """One row per run, and one with the mean of runs that differ only in their seed; the columns are the keys."""
    rows = []
    for group in group_seeds(runs):
        rows += [_row(run) for run in group]
        if len({run.seed for run in group} - {None}) == len(group) > 1:
            rows.append(
                {
                    **_row(group[0]),
                    'run': f'mean of {len(group)} seeds',
                    'seed': ', '.join(str(run.seed) for run in group),
                    'best top-1': spread([run.best for run in group], ' %'),
                    'last top-1': spread([run.last for run in group], ' %'),
                    'minutes': spread([run.minutes for run in group]),
                    'photos/s': spread([run.rate for run in group]),
                }
            )
    return rows


def _row(run: Run) -> dict[str, str]:
    def score(percent: float | None, epoch: int | None) -> str:
        share = run.share(percent)
        if share is None or share.interval is None:
            return '–' if percent is None else f'{percent:.2f} %'
        low, high = share.interval
        return f'{share.percent:.2f} % ({share.k}/{share.n}, {low:.2f}–{high:.2f}), epoch {epoch}'

    def number(value: float | None, form: str) -> str:
        return '–' if value is None else format(value, form)

    return {
        'run': run.name,
        'model': run.model,
        'recipe': run.recipe,
        'seed': str(run.seed if run.seed is not None else '–'),
        'best top-1': score(run.best, run.best_epoch),
        'last top-1': score(run.last, run.epochs),
        'minutes': number(run.minutes, '.1f'),
        'photos/s': number(run.rate, '.1f'),
    }


def notes(runs: Sequence[Run], pairs: Sequence[Pair]) -> list[str]:
    """What a reader has to know: other datasets, pretrained weights, runs without a test, many tests."""
    found = ['Best is the best epoch, chosen on the same photos; compare last as well. Intervals are Wilson’s 95 %.']
    if len({run.dataset for run in runs}) > 1:
        found.append('The runs were validated on different splits, so on different photos.')
    for weights in dict.fromkeys(run.pretrained for run in runs if run.pretrained):
        names = ', '.join(run.name for run in runs if run.pretrained == weights)
        found.append(f'{names}: began with {weights}.')
    if untested := [run.name for run in runs if not run.answers]:
        found.append(f'No predictions of best.pth, so no paired test: {", ".join(untested)}; test them with --report.')
    if len(pairs) > 1:
        found.append(
            f'Each p is for one pair: of {len(pairs)} pairs, {len(pairs) / 20:.1f} are below 0.05 by chance alone.'
        )
    return found


def as_markdown(runs: Sequence[Run], pairs: Sequence[Pair]) -> str:
    """The table, the notes and the paired tests."""
    return markdown_table(table(runs), [*notes(runs, pairs), *map(str, pairs)])


def markdown_table(rows: Sequence[Mapping[str, str]], remarks: Sequence[str]) -> str:
    """A table whose columns are the keys of the first row, and a list of remarks below it."""
    lines = [f'| {" | ".join(rows[0])} |', f'|{"---|" * len(rows[0])}']
    for row in rows:
        cells = [cell.replace('|', r'\|') for cell in row.values()]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', *(f'- {text}' for text in remarks)]) + '\n'


def as_dict(runs: Sequence[Run], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The same for JSON."""
    return {
        'runs': table(runs),
        'notes': notes(runs, pairs),
        'pairs': [{**vars(pair), 'p_value': pair.p_value} for pair in pairs],
    }
