"""Predictions as plain data: counts, proportions with intervals, and tables. No torch, no model."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import BinaryIO, NamedTuple

from custom_modules.errors import InputError

SUFFIXES = ('.csv', '.json', '.jsonl')  # of prediction tables
SURE = 0.9  # the lowest score that counts as confident


class Prediction(NamedTuple):
    """One image: its ``path``, a softmax score for each of K classes and, where it is known, its true class."""

    path: str
    scores: list[float]
    truth: int | None = None

    @property
    def label(self) -> int:
        """The class with the highest score; the first of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)


def check_scores(predictions: Iterable[Prediction], classes: Sequence[str]) -> None:
    """Raises an :class:`InputError` unless there is a finite score for each class."""
    for path, scores, _ in predictions:
        if not all(map(isfinite, scores)):
            raise InputError(f'{path}: its scores are not finite: the weights are broken. Use another checkpoint.')
        if len(scores) != len(classes):
            raise InputError(
                f'{path}: has {len(scores)} scores, but the model names {len(classes)} classes: it was changed after '
                'training. Use another checkpoint.'
            )


@dataclass(frozen=True)
class Proportion:
    """``k`` of ``n``, with its Wilson 95 % interval; percentages are in 0-100."""

    k: int
    n: int

    @property
    def percent(self) -> float | None:
        """100 k / n; None where n is 0."""
        return 100 * self.k / self.n if self.n else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The Wilson 95 % interval in percent; None where n is 0."""
        if not self.n:
            return None
        from scipy.stats import binomtest  # a second, which prediction does not need

        found = binomtest(self.k, self.n).proportion_ci(method='wilson')
        return 100 * float(found.low), 100 * float(found.high)

    def __str__(self) -> str:
        if self.interval is None:
            return '- (0/0)'
        low, high = self.interval
        return f'{self.percent:.2f} % ({self.k}/{self.n}, 95 % interval {low:.2f}-{high:.2f})'

    def as_dict(self) -> dict:
        """``percent``, ``k``, ``n`` and ``wilson95``, for JSON."""
        return {'percent': self.percent, 'k': self.k, 'n': self.n, 'wilson95': self.interval}


@dataclass(frozen=True)
class Counts:
    """Top-1 accuracy, and precision and recall per class."""

    top1: Proportion
    precision: dict[str, Proportion]
    recall: dict[str, Proportion]

    @property
    def error(self) -> Proportion:
        """Top-1 error."""
        return Proportion(self.top1.n - self.top1.k, self.top1.n)

    def f1(self, name: str) -> float | None:
        """F1 of class ``name`` in percent; None where no image is of it or predicted as it."""
        total = self.precision[name].n + self.recall[name].n
        return 100 * 2 * self.recall[name].k / total if total else None

    def f1_interval(self, name: str) -> tuple[float, float] | None:
        """The 95 % interval of the F1 of class ``name`` in percent; None where there is no F1.

        F1 is 2 J / (1 + J), where J is the share of correct images among those of the class or predicted as it. J is a
        proportion, which has a Wilson interval, and F1 increases with it.
        """
        right = self.recall[name].k
        interval = Proportion(right, self.precision[name].n + self.recall[name].n - right).interval
        if interval is None:
            return None
        low, high = (2 * share / (100 + share) * 100 for share in interval)
        return low, high

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            'accuracy/top1': self.top1.as_dict(),
            'error/top1': self.error.as_dict(),
            'classes': {
                name: {
                    'precision': self.precision[name].as_dict(),
                    'recall': self.recall[name].as_dict(),
                    'f1': self.f1(name),
                    'f1_wilson95': self.f1_interval(name),
                }
                for name in self.recall
            },
        }


def count(predictions: Sequence[Prediction], classes: Sequence[str]) -> Counts:
    """Counts predictions with a known truth."""
    truths, labels = [p.truth for p in predictions], [p.label for p in predictions]
    right = [label for truth, label in zip(truths, labels, strict=True) if truth == label]
    return Counts(
        top1=Proportion(len(right), len(predictions)),
        precision={name: Proportion(right.count(i), labels.count(i)) for i, name in enumerate(classes)},
        recall={name: Proportion(right.count(i), truths.count(i)) for i, name in enumerate(classes)},
    )


def columns(classes: Sequence[str], with_truth: bool = True) -> list[str]:
    """The fields of a row: ``path``, ``truth`` if known, predicted ``label``, its ``score``, a score per class."""
    return ['path', *(['truth'] if with_truth else []), 'label', 'score', *(f'score_{name}' for name in classes)]


def row(prediction: Prediction, classes: Sequence[str]) -> dict:
    """The fields of one image, named by :func:`columns`; ``score`` is that of the predicted class."""
    values = [prediction.path, classes[prediction.label], prediction.scores[prediction.label], *prediction.scores]
    if prediction.truth is not None:
        values.insert(1, classes[prediction.truth])
    return dict(zip(columns(classes, prediction.truth is not None), values, strict=True))


def write_rows(file: BinaryIO, table: Iterable[dict], fields: Sequence[str], suffix: str) -> None:
    """Writes rows with ``fields`` one by one, in UTF-8; bytes of a path that are no UTF-8 are written unchanged.

    ``suffix`` is ``'.csv'``, ``'.json'`` (one list) or ``'.jsonl'`` (one object per line); others are a ValueError.
    """
    text = io.TextIOWrapper(file, encoding='utf-8', errors='surrogateescape', newline='', write_through=True)
    if suffix == '.csv':
        writer = csv.DictWriter(text, fields, lineterminator='\n')
        writer.writeheader()
        writer.writerows(table)
    elif suffix == '.jsonl':
        for values in table:
            text.write(json.dumps(values, ensure_ascii=False) + '\n')
    elif suffix == '.json':
        text.write('[')
        for number, values in enumerate(table):
            text.write((',\n' if number else '\n') + json.dumps(values, ensure_ascii=False))
        text.write('\n]\n')
    else:
        raise ValueError(f'unknown format {suffix!r}: use one of {", ".join(SUFFIXES)}')
    text.detach()


def format_counts(counts: Counts, nll: float | None, ece: float | None = None) -> str:
    """Counts, mean NLL in nats and ECE in 15 bins (0-1), if known, for a terminal."""
    width = max(map(len, [*counts.recall, 'class']))
    lines = [f'top-1 accuracy  {counts.top1}', f'top-1 error     {counts.error}']
    lines += [] if nll is None else [f'mean NLL        {nll:.4f}']
    lines += [] if ece is None else [f'ECE, 15 bins    {100 * ece:.2f} %']
    lines += ['', f'{"class":{width}}  recall                       precision                    F1']
    for name in counts.recall:
        parts = [counts.recall[name], counts.precision[name]]
        cells = [f'{_percent(part.percent)} ({part.k}/{part.n})' for part in parts]
        lines.append(f'{name:{width}}  {cells[0]:27}  {cells[1]:27}  {_percent(counts.f1(name))}')
    return '\n'.join(lines)


def _percent(value: float | None) -> str:
    return '     -' if value is None else f'{value:6.2f} %'
