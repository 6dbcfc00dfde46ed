"""Confusion: counts against scikit-learn's, and the pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as scikit_learns

from custom_modules.metrics.confusion import confused_pairs, confusion_matrix, row_normalised

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(LABELS)
def test_counts_are_scikit_learns(photos):
    truths, labels = zip(*photos, strict=True)
    matrix = confusion_matrix(truths, labels, 4)
    assert np.array_equal(matrix, scikit_learns(truths, labels, labels=range(4)))
    for row, shares in zip(matrix, row_normalised(matrix), strict=True):
        assert np.isnan(shares).all() if row.sum() == 0 else np.allclose(shares, 100 * row / row.sum())


@given(LABELS)
def test_pairs_are_the_wrong_photos_the_most_frequent_first(photos):
    truths, labels = zip(*photos, strict=True)
    pairs = confused_pairs(truths, labels)
    for pair in pairs:
        assert all((truths[i], labels[i]) == (pair.truth, pair.label) for i in pair.photos)
        assert (pair.share.k, pair.share.n) == (len(pair.photos), truths.count(pair.truth))
    wrong = [i for i, (truth, label) in enumerate(photos) if truth != label]
    assert sorted(i for pair in pairs for i in pair.photos) == wrong
    counts = [pair.share.k for pair in pairs]
    assert counts == sorted(counts, reverse=True)
