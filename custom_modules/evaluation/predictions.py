"""Predictions as plain data: what is counted from them, and how they are written. No torch, no model."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from custom_modules.evaluation.intervals import wilson_interval


class Prediction(NamedTuple):
    """One photo: its ``path``, a softmax score for each of K classes and, where it is known, its true class."""

    path: str
    scores: list[float]
    truth: int | None = None

    @property
    def label(self) -> int:
        """The class with the highest score; the first of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)


@dataclass(frozen=True)
class Proportion:
    """``k`` of ``n``, with its Wilson 95 % interval; percentages are in 0-100."""

    k: int
    n: int

    @property
    def percent(self) -> float | None:
        """100 k / n; None where n is 0."""
        return 100 * self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The Wilson 95 % interval in percent; None where n is 0."""
        if not self.n:
            return None
        low, high = wilson_interval(self.k, self.n)
        return 100 * low, 100 * high

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
    """What a test counted: top-1 right over all photos; per class, precision and recall."""

    top1: Proportion
    precision: dict[str, Proportion]
    recall: dict[str, Proportion]

    @property
    def error(self) -> Proportion:
        """The photos that were wrong."""
        return Proportion(self.top1.n - self.top1.k, self.top1.n)

    def f1(self, name: str) -> float:
        """F1 of class ``name`` in percent: twice the right ones over those labelled plus those predicted."""
        total = self.precision[name].n + self.recall[name].n
        return 100 * 2 * self.recall[name].k / total if total else 0.0

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
                }
                for name in self.recall
            },
        }


def count(predictions: Sequence[Prediction], classes: Sequence[str]) -> Counts:
    """Counts top-1 and, for each of ``classes``, precision and recall, of predictions whose truth is known.

    Raises:
        ValueError: There are no predictions.
    """
    if not predictions:
        raise ValueError('no predictions to count')
    truths, labels = [p.truth for p in predictions], [p.label for p in predictions]
    right = [label for truth, label in zip(truths, labels, strict=True) if truth == label]
    return Counts(
        top1=Proportion(len(right), len(predictions)),
        precision={name: Proportion(right.count(i), labels.count(i)) for i, name in enumerate(classes)},
        recall={name: Proportion(right.count(i), truths.count(i)) for i, name in enumerate(classes)},
    )


def rows(predictions: Sequence[Prediction], classes: Sequence[str]) -> list[dict]:
    """One dict a photo, in input order.

    It has ``path``, ``truth`` (where known), ``label`` (the class predicted), its ``score``, and ``score_<class>`` for
    each class.
    """
    return [
        {
            'path': p.path,
            **({} if p.truth is None else {'truth': classes[p.truth]}),
            'label': classes[p.label],
            'score': p.scores[p.label],
            **{f'score_{name}': score for name, score in zip(classes, p.scores, strict=True)},
        }
        for p in predictions
    ]


def format_rows(table: Sequence[dict], suffix: str) -> str:
    """``table`` as text: ``suffix`` is ``'.csv'`` or ``'.json'``.

    Raises:
        ValueError: Another suffix.
    """
    if suffix == '.json':
        return json.dumps(list(table), indent=1, ensure_ascii=False) + '\n'
    if suffix == '.csv':
        text = io.StringIO()
        writer = csv.DictWriter(text, list(table[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(table)
        return text.getvalue()
    raise ValueError(f'unknown format {suffix!r}: use .csv or .json')


def format_counts(counts: Counts, nll: float | None) -> str:
    """The figures of a test as lines for a terminal; ``nll`` is the mean negative log-likelihood in nats, if known."""
    width = max(map(len, [*counts.recall, 'class']))
    lines = [
        f'top-1 accuracy  {counts.top1}',
        f'top-1 error     {counts.error}',
        *([] if nll is None else [f'mean NLL        {nll:.4f}']),
        '',
        f'{"class":{width}}  recall                       precision                    F1',
    ]
    for name, recall in counts.recall.items():
        cells = [
            '      - (0/0)' if part.percent is None else f'{part.percent:6.2f} % ({part.k}/{part.n})'
            for part in (recall, counts.precision[name])
        ]
        lines.append(f'{name:{width}}  {cells[0]:27}  {cells[1]:27}  {counts.f1(name):6.2f} %')
    return '\n'.join(lines)
