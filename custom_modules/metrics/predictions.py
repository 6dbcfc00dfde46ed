"""Predictions as plain data: counts, proportions with intervals, and tables. No torch, no model."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from statistics import fmean
from typing import Any, BinaryIO, NamedTuple

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


def top1(predictions: Sequence[Prediction]) -> Proportion:
    """Top-1 accuracy of predictions with a known truth."""
    return Proportion(sum(p.label == p.truth for p in predictions), len(predictions))


def count(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """Top-1 accuracy and error, and precision, recall and F1 per class, of predictions with a known truth, for JSON.

    ``accuracy/balanced`` is the mean recall of the classes with images, ``f1/macro`` the mean F1, both in percent.
    F1 is 2 J / (1 + J), where J is the share of correct images among those of the class or predicted as it. J is a
    proportion, which has a Wilson interval, and F1 increases with it.
    """
    accuracy = top1(predictions)
    truths, labels = Counter(p.truth for p in predictions), Counter(p.label for p in predictions)
    right = Counter(p.label for p in predictions if p.label == p.truth)
    found: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(classes):
        total = truths[i] + labels[i]
        interval = Proportion(right[i], total - right[i]).interval
        found[name] = {
            'precision': Proportion(right[i], labels[i]).as_dict(),
            'recall': Proportion(right[i], truths[i]).as_dict(),
            'f1': 100 * 2 * right[i] / total if total else None,
            'f1_wilson95': interval and tuple(2 * share / (100 + share) * 100 for share in interval),
        }
    recalls = [one['recall']['percent'] for one in found.values() if one['recall']['n']]
    f1s = [one['f1'] for one in found.values() if one['f1'] is not None]
    return {
        'accuracy/top1': accuracy.as_dict(),
        'error/top1': Proportion(accuracy.n - accuracy.k, accuracy.n).as_dict(),
        'accuracy/balanced': fmean(recalls),
        'f1/macro': fmean(f1s),
        'classes': found,
    }


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
