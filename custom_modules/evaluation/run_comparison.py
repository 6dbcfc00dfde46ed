"""Comparison of trainings: a table of their scores, and McNemar's test for each pair of tested ones."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from custom_modules.metrics.predictions import Proportion


@dataclass(frozen=True)
class TrainedRun:
    """A finished training; None for values that its work dir does not hold."""

    name: str  # the work dir
    model: str = ''  # the backbone
    recipe: str = ''  # optimizer, learning rate, batch size and epochs, in short
    settings: str = ''  # the config without seed, paths and launcher
    seed: int | None = None
    best: float | None = None  # best validation top-1, in percent
    best_epoch: int | None = None
    last: float | None = None  # validation top-1 of the last epoch, in percent
    epochs: int = 0
    photos: int | None = None  # for validation
    minutes: float | None = None  # of all epochs with their validation
    rate: float | None = None  # training photos per second, of all processes together
    pretrained: str | None = None  # the weights it began with
    dataset: str | None = None  # its digest
    history: list[dict] = field(default_factory=list)  # one dict per epoch, as CurvesHook keeps them
    # (true, predicted) class of each photo in a test of best.pth, by path within the dataset; empty without a test
    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A comparison of trainings or of cross-validated configs, ready to be shown."""

    rows: list[dict[str, str]]  # of the table, whose columns are the keys
    notes: list[str]
    content: dict[str, Any]  # the same for JSON
    pairs: list[dict[str, Any]] = field(default_factory=list)
    runs: Sequence[TrainedRun] = ()  # those with curves

    @property
    def markdown(self) -> str:
        """The table, the notes and the paired tests."""
        lines = [f'| {" | ".join(self.rows[0])} |', f'|{"---|" * len(self.rows[0])}']
        for row in self.rows:
            cells = [cell.replace('|', r'\|') for cell in row.values()]
            lines.append(f'| {" | ".join(cells)} |')
        tests = [f'{pair["first"]} and {pair["second"]}: {pair["verdict"]}' for pair in self.pairs]
        return '\n'.join([*lines, '', *(f'- {text}' for text in [*self.notes, *tests])]) + '\n'


def compare_runs(runs: Sequence[TrainedRun]) -> Comparison:
    """Compares trainings, and each pair of tested ones."""
    pairs = compare_pairs(runs)
    rows, notes = _table(runs), _notes(runs, pairs)
    return Comparison(rows, notes, {'runs': rows, 'notes': notes, 'pairs': pairs}, pairs, runs)


def compare_pairs(runs: Sequence[TrainedRun]) -> list[dict[str, Any]]:
    """McNemar's exact test (McNemar 1947; the binomial form) for each two runs with tested photos in common.

    ``only_first`` and ``only_second`` count the photos that only one run predicts correctly; ``differing`` holds path,
    truth and both predictions.
    """
    from scipy.stats import binomtest

    pairs = []
    for first, second in combinations(runs, 2):
        both = sorted(first.answers.keys() & second.answers.keys())
        if not both:
            continue
        rows = [(path, *first.answers[path], second.answers[path][1]) for path in both]
        b = sum(one == truth != other for _, truth, one, other in rows)
        c = sum(other == truth != one for _, truth, one, other in rows)
        p = binomtest(b, b + c).pvalue if b + c else 1.0
        counts = f'of {len(both)} photos, only the first is correct on {b}, only the second on {c}'
        verdict = 'a difference' if p < 0.05 else 'no evidence of a difference'
        pairs.append(
            {
                'first': first.name,
                'second': second.name,
                'photos': len(both),
                'only_first': b,
                'only_second': c,
                'differing': [row for row in rows if row[2] != row[3]],
                'p_value': p,
                'verdict': f'{counts}; McNemar’s exact test: p = {p:.3g}: {verdict}',
            }
        )
    return pairs


def spread(values: Sequence[float | None], unit: str = '') -> str:
    """Mean and sample standard deviation, with their unit; a dash where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < max(len(values), 1):
        return '–'
    deviation = f' ± {statistics.stdev(known):.2f}' if len(known) > 1 else ''
    return f'{statistics.fmean(known):.2f}{deviation}{unit}'


def _table(runs: Sequence[TrainedRun]) -> list[dict[str, str]]:
    """One row per run, and one with the mean of runs that differ only in their seed."""
    groups: dict[tuple[str, str, str | None], list[TrainedRun]] = {}
    for run in runs:
        groups.setdefault((run.settings or run.name, run.recipe, run.dataset), []).append(run)
    rows = []
    for group in groups.values():
        rows += [_row(run) for run in group]
        if len({run.seed for run in group} - {None}) == len(group) > 1:
            mean = {
                'run': f'mean of {len(group)} seeds',
                'seed': ', '.join(str(run.seed) for run in group),
                'best top-1': spread([run.best for run in group], ' %'),
                'last top-1': spread([run.last for run in group], ' %'),
                'minutes': spread([run.minutes for run in group]),
                'photos/s': spread([run.rate for run in group]),
            }
            rows.append(_row(group[0]) | mean)
    return rows


def _row(run: TrainedRun) -> dict[str, str]:
    def score(percent: float | None, epoch: int | None) -> str:
        if percent is None:
            return '–'
        share = Proportion(round(percent * (run.photos or 0) / 100), run.photos or 0)
        if share.interval is None:
            return f'{percent:.2f} %'
        low, high = share.interval
        when = '' if epoch is None else f', epoch {epoch}'
        return f'{share.percent:.2f} % ({share.k}/{share.n}, {low:.2f}–{high:.2f}){when}'

    return {
        'run': run.name,
        'model': run.model,
        'recipe': run.recipe,
        'seed': '–' if run.seed is None else str(run.seed),
        'best top-1': score(run.best, run.best_epoch),
        'last top-1': score(run.last, run.epochs),
        'minutes': '–' if run.minutes is None else f'{run.minutes:.1f}',
        'photos/s': '–' if run.rate is None else f'{run.rate:.1f}',
    }


def _notes(runs: Sequence[TrainedRun], pairs: Sequence[dict]) -> list[str]:
    """Limits of the table: other datasets, pretrained weights, runs without a test, many tests."""
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
