"""Predictions as plain data: counts, proportions, tables, and the metric that collects them."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from custom_modules.metrics.predictions import (
    Prediction,
    Proportion,
    columns,
    count,
    format_counts,
    row,
    write_rows,
)

CLASSES = ['daisy', 'rose, wild', 'tulip']


def predictions(pairs):
    """A prediction for each (label, predicted)."""
    return [
        Prediction(f'{i}.jpg', [0.8 if k == predicted else 0.1 for k in range(3)], label)
        for i, (label, predicted) in enumerate(pairs)
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_counts_equal_scikit_learns(pairs):
    counts = count(predictions(pairs), CLASSES)
    labels, predicted = zip(*pairs, strict=True)
    n, right = len(pairs), sum(label == guess for label, guess in pairs)
    assert (counts.top1.k, counts.top1.n) == (right, n)
    assert counts.error.percent == pytest.approx(100 - counts.top1.percent)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(3), zero_division=np.nan
    )
    for i, name in enumerate(CLASSES):
        assert counts.recall[name].n == support[i]
        for ours, theirs in ((counts.precision[name].percent, precision[i]), (counts.recall[name].percent, recall[i])):
            assert (ours is None) == math.isnan(theirs)
            if ours is not None:
                assert ours == pytest.approx(100 * theirs)
        assert counts.f1(name) == (None if math.isnan(f1[i]) else pytest.approx(100 * f1[i]))
        involved = sum(i in pair for pair in pairs)
        assert (counts.f1_interval(name) is None) == (involved == 0)
        if involved:
            share = np.array(binomtest(counts.recall[name].k, involved).proportion_ci(method='wilson'))
            assert counts.f1_interval(name) == pytest.approx(200 * share / (1 + share), abs=1e-9)
    assert sum(part.k for part in counts.recall.values()) == right
    json.dumps(counts.as_dict(), allow_nan=False)


def test_proportions():
    assert str(Proportion(540, 572)) == '94.41 % (540/572, 95 % interval 92.21-96.01)'
    assert str(Proportion(0, 0)) == '- (0/0)'
    assert Proportion(0, 0).as_dict() == {'percent': None, 'k': 0, 'n': 0, 'wilson95': None}


def written(table, fields, suffix):
    """What a table becomes, as text."""
    file = io.BytesIO()
    write_rows(file, iter(table), fields, suffix)
    return file.getvalue().decode('utf-8', 'surrogateescape')


@pytest.mark.parametrize('truth', [1, None])
def test_rows_are_read_back_from_csv_and_json(truth):
    fields = columns(CLASSES, with_truth=truth is not None)
    table = [row(Prediction(path, [0.125, 0.25, 0.625], truth), CLASSES) for path in ('a, "b"\n.jpg', '\udcff.jpg')]
    assert list(table[0]) == fields
    assert fields[:4] == ['path', 'truth', 'label', 'score'] if truth else ['path', 'label', 'score', 'score_daisy']
    assert json.loads(written(table, fields, '.json')) == table
    assert [json.loads(line) for line in written(table, fields, '.jsonl').splitlines()] == table
    read = list(csv.DictReader(io.StringIO(written(table, fields, '.csv'), newline='')))
    assert read == [{key: str(value) for key, value in values.items()} for values in table]
    assert (read[0]['label'], read[0]['score']) == ('tulip', '0.625')


def test_the_table_for_the_terminal():
    text = format_counts(count(predictions([(0, 0), (0, 1), (1, 1)]), CLASSES), 0.51234, 0.0123)
    for line in (
        'top-1 accuracy  66.67 % (2/3, 95 % interval 20.77-93.85)',
        'top-1 error     33.33 % (1/3, 95 % interval 6.15-79.23)',
        'mean NLL        0.5123',
        'ECE, 15 bins    1.23 %',
    ):
        assert line in text.splitlines()
    *_, daisy, _, tulip = text.splitlines()
    assert daisy.split() == ['daisy', '50.00', '%', '(1/2)', '100.00', '%', '(1/1)', '66.67', '%']
    assert tulip.split() == ['tulip', '-', '(0/0)', '-', '(0/0)', '-']
