"""Predictions as plain data: counts, proportions, tables, and the metric that collects them."""

import csv
import io
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from custom_modules.metrics.predictions import (
    Prediction,
    Proportion,
    columns,
    count,
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
    accuracy, error = counts['accuracy/top1'], counts['error/top1']
    assert (accuracy['k'], accuracy['n']) == (right, n)
    assert error['percent'] == pytest.approx(100 - accuracy['percent'])
    theirs = precision_recall_fscore_support(labels, predicted, labels=range(3), zero_division=np.nan)
    for i, (precision, recall, f1, support) in enumerate(zip(*theirs, strict=True)):
        found = counts['classes'][CLASSES[i]]
        assert found['recall']['n'] == support
        pairs_of_values = [(found['precision']['percent'], precision), (found['recall']['percent'], recall)]
        for value, expected in [*pairs_of_values, (found['f1'], f1)]:
            assert value == (None if math.isnan(expected) else pytest.approx(100 * expected))
        involved = sum(i in pair for pair in pairs)
        assert (found['f1_wilson95'] is None) == (involved == 0)
        if involved:
            share = np.array(binomtest(found['recall']['k'], involved).proportion_ci(method='wilson'))
            assert found['f1_wilson95'] == pytest.approx(200 * share / (1 + share), abs=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about classes that are only predicted
        assert counts['accuracy/balanced'] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert counts['f1/macro'] == pytest.approx(100 * f1_score(labels, predicted, average='macro'))
    assert sum(found['recall']['k'] for found in counts['classes'].values()) == right
    json.dumps(counts, allow_nan=False)


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
