"""Confusion matrix and the pairs of classes in it. Plain data in, plain data out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.metrics.predictions import Proportion


class ConfusedPair(NamedTuple):
    """Images of class ``truth`` predicted as ``label``: their ``share`` of the true class, and their indices."""

    truth: int
    label: int
    share: Proportion
    photos: list[int]


def confusion_matrix(truths: ArrayLike, labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts, ``(K, K)``: a row per true class, a column per predicted class."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(truths, int), np.asarray(labels, int)), 1)
    return matrix


def row_normalised(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row in percent of its sum, ``(K, K)``; NaN where a class has no image."""
    with np.errstate(invalid='ignore'):
        return 100 * matrix / matrix.sum(axis=1, keepdims=True)


def confused_pairs(truths: Sequence[int], labels: Sequence[int]) -> list[ConfusedPair]:
    """All pairs of true and predicted class that differ, the most frequent first, then by their labels."""
    photos: dict[tuple[int, int], list[int]] = {}
    for i, pair in enumerate(zip(truths, labels, strict=True)):
        if pair[0] != pair[1]:
            photos.setdefault(pair, []).append(i)
    ordered = sorted(photos.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        ConfusedPair(truth, label, Proportion(len(found), truths.count(truth)), found)
        for (truth, label), found in ordered
    ]
