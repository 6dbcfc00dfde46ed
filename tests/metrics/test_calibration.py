"""Calibration: cases worked by hand, scikit-learn's loss, a known temperature, and cross-fitting."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from custom_modules.metrics.calibration import (
    at_coverage,
    calibration,
    coverage_curve,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    folds,
    mean_nll,
    reliability_bins,
    scale,
    tempered,
)


def two_classes(*confidences):
    """Scores of two classes; the first is predicted with each confidence."""
    return [[confidence, 1 - confidence] for confidence in confidences]


def drawn(n, sharpness=1.0, seed=0):
    """Truths drawn from the softmax of random logits, and the scores of logits ``sharpness`` times as large."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(n, 5))
    return softmax(sharpness * logits, axis=1), draw_truths(softmax(logits, axis=1), random)


def draw_truths(scores, random):
    return (random.random((len(scores), 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=4)


@pytest.mark.parametrize(
    ('confidences', 'truths', 'bins', 'ece'),
    [
        # (0.87, 0.93]: two images, one correct, gap 0.4; (0.6, 0.67]: two images, both correct, gap 0.35.
        ([0.9, 0.9, 0.65, 0.65], [0, 1, 0, 0], 15, 0.375),
        ([1, 1], [0, 0], 15, 0),
        ([1, 1], [1, 1], 15, 1),
        ([0.75] * 4, [0, 0, 0, 1], 15, 0),
        ([0.6, 0.9], [1, 0], 1, 0.25),
    ],
)
def test_ece_worked_by_hand(confidences, truths, bins, ece):
    assert expected_calibration_error(two_classes(*confidences), truths, bins) == pytest.approx(ece)


def test_bins_contain_their_upper_edge():
    bins = reliability_bins(two_classes(0.6, 0.61, 1), [0, 1, 0], bins=5)
    assert [(right.k, right.n) for _, right in bins] == [(0, 0), (0, 0), (1, 1), (0, 1), (1, 1)]
    assert [confidence for confidence, _ in bins] == [None, None, 0.6, 0.61, 1]


def test_nll_equals_scikit_learns():
    scores, truths = drawn(200)
    assert mean_nll(scores, truths) == pytest.approx(log_loss(truths, scores), rel=1e-12)
    assert mean_nll([[1.0, 0.0]], [1]) == pytest.approx(87.3, abs=0.05)


@pytest.mark.parametrize('sharpness', [0.4, 3.0])
def test_a_known_temperature_is_found(sharpness):
    scores, truths = drawn(20000, sharpness)
    temperature = fit_temperature(scores, truths)
    assert temperature == pytest.approx(sharpness, rel=0.03)
    best = mean_nll(tempered(scores, temperature), truths)
    assert all(mean_nll(tempered(scores, factor * temperature), truths) > best for factor in (0.98, 1.02))


def test_temperatures_without_an_optimum_are_at_the_bounds():
    assert fit_temperature(two_classes(0.9, 0.8), [0, 0]) == 0.05
    assert fit_temperature(two_classes(0.9, 0.8), [1, 1]) == 20


def test_scaled_scores_are_those_of_divided_logits():
    logits = np.random.default_rng(1).normal(size=(20, 4))
    assert tempered(softmax(logits, axis=1), 0.3) == pytest.approx(softmax(logits / 0.3, axis=1), rel=1e-9)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(2, 10))
def test_folds_share_every_class(truths, number):
    fold = folds(truths, number)
    for images in (fold, *(fold[np.array(truths) == label] for label in set(truths))):
        sizes = np.bincount(images, minlength=number)
        assert len(sizes) == number
        assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(fold, folds(truths, number))


def test_each_fold_is_scaled_by_a_temperature_fitted_on_the_others():
    scores, truths = drawn(301, 2.0)
    fold = folds(truths)
    scaled, temperatures = cross_fitted(scores, truths)
    for i in range(10):
        assert temperatures[i] == fit_temperature(scores[fold != i], truths[fold != i])
        np.testing.assert_array_equal(scaled[fold == i], tempered(scores[fold == i], temperatures[i]))
    found = scale(scores, truths)
    assert found['temperature'] == fit_temperature(scores, truths)
    assert found['fold_temperatures'] == temperatures
    assert (found['before'], found['after']) == (calibration(scores, truths), calibration(scaled, truths))
    assert all(found['after'][key] < found['before'][key] for key in ('nll', 'ece'))
    json.dumps(found, allow_nan=False)
    assert len(scale(scores[:3], truths[:3])['fold_temperatures']) == 3
    assert scale(scores[:1], truths[:1]) is None


def test_ece_by_chance_is_that_of_calibrated_scores():
    scores, random = drawn(100)[0], np.random.default_rng(1)
    calibrated = [expected_calibration_error(scores, draw_truths(scores, random)) for _ in range(2000)]
    # The standard deviation of one is some 0.03: 5 of those of the two means.
    assert calibration(scores, draw_truths(scores, random))['ece_by_chance'] == pytest.approx(
        np.mean(calibrated), abs=0.005
    )


@pytest.mark.parametrize(('sharpness', 'least'), [(1.0, 90), (0.6, 80), (2.0, 80)])
def test_the_interval_contains_the_ece_of_the_model(sharpness, least, monkeypatch):
    monkeypatch.setattr('custom_modules.metrics.calibration.DRAWS', 200)
    truth = expected_calibration_error(*drawn(100000, sharpness, seed=1000))
    found = [calibration(*drawn(300, sharpness, seed)) for seed in range(100)]
    intervals = [one['ece_interval95'] for one in found]
    # It does in 100, 92 and 88 of these; the percentiles of the bootstrap never do for calibrated scores.
    assert sum(low <= truth <= high for low, high in intervals) >= least
    assert all(low <= one['ece'] <= high for one, (low, high) in zip(found, intervals, strict=True))
    from_zero = sum(low == 0 for low, _ in intervals)
    assert from_zero > 90 if sharpness == 1 else from_zero < 50


def test_coverage_worked_by_hand():
    curve = coverage_curve(two_classes(0.9, 0.6, 0.8, 0.6, 0.7), [0, 1, 0, 0, 1])
    assert [(point.min_score, point.kept.k, point.right.k) for point in curve] == [
        (0.9, 1, 1),
        (0.8, 2, 2),
        (0.7, 3, 2),
        (0.6, 5, 3),  # equal scores are rejected together
    ]
    assert [at_coverage(curve, share).kept.k for share in (0.4, 0.41, 0.7)] == [2, 3, 5]
