"""Calibration: cases worked by hand, scikit-learn's loss, a known temperature, and cross-fitting."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
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
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    truths = (random.random((n, 1)) > cumulated).sum(axis=1).clip(max=4)
    return softmax(sharpness * logits, axis=1), truths


def test_ece_worked_by_hand():
    # (0.87, 0.93]: two photos, one right, gap 0.4; (0.6, 0.67]: two photos, both right, gap 0.35.
    assert expected_calibration_error(two_classes(0.9, 0.9, 0.65, 0.65), [0, 1, 0, 0]) == pytest.approx(0.375)
    assert expected_calibration_error(two_classes(1, 1), [0, 0]) == 0
    assert expected_calibration_error(two_classes(1, 1), [1, 1]) == 1
    # Sure at 0.75 and right three times of four, in one bin or in bins that average out.
    assert expected_calibration_error(two_classes(*[0.75] * 4), [0, 0, 0, 1]) == pytest.approx(0)
    assert expected_calibration_error(two_classes(0.6, 0.9), [1, 0], bins=1) == pytest.approx(0.25)
    with pytest.raises(ValueError, match='no scores'):
        expected_calibration_error(np.empty((0, 2)), [])


def test_bins_hold_their_upper_edge_and_every_photo():
    bins = reliability_bins(two_classes(0.6, 0.61, 1), [0, 1, 0], bins=5)
    assert [(part.right.k, part.right.n) for part in bins] == [(0, 0), (0, 0), (1, 1), (0, 1), (1, 1)]
    assert [part.confidence for part in bins] == [None, None, 0.6, 0.61, 1]


def test_nll_is_scikit_learns():
    scores, truths = drawn(200)
    assert mean_nll(scores, truths) == pytest.approx(log_loss(truths, scores), rel=1e-12)
    assert mean_nll([[1.0, 0.0]], [1]) == pytest.approx(87.3, abs=0.05)


@pytest.mark.parametrize('sharpness', [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_again(sharpness):
    scores, truths = drawn(20000, sharpness)
    temperature = fit_temperature(scores, truths)
    assert temperature == pytest.approx(sharpness, rel=0.03)
    # It is the optimum: NLL rises on both sides of it.
    best = mean_nll(tempered(scores, temperature), truths)
    for other in (0.98, 1.02):
        assert mean_nll(tempered(scores, other * temperature), truths) > best


def test_temperatures_without_an_optimum_end_at_the_bounds():
    assert fit_temperature(two_classes(0.9, 0.8), [0, 0]) == 0.05
    assert fit_temperature(two_classes(0.9, 0.8), [1, 1]) == 20


def test_tempering_scores_is_dividing_logits():
    logits = np.random.default_rng(1).normal(size=(20, 4))
    for temperature in (0.3, 1, 7):
        expected = softmax(logits / temperature, axis=1)
        assert tempered(softmax(logits, axis=1), temperature) == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(log_softmax(tempered([[1.0, 0.0]], 0.05), axis=1)).all()


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(2, 10), st.integers(0, 5))
def test_folds_share_every_class_and_no_photo(truths, number, seed):
    fold = folds(truths, number, seed)
    for photos in (fold, *(fold[np.array(truths) == label] for label in set(truths))):
        sizes = np.bincount(photos, minlength=number)
        assert len(sizes) == number
        assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(fold, folds(truths, number, seed))


def test_no_photo_has_a_part_in_the_temperature_that_scales_it():
    scores, truths = drawn(301, 2.0)
    fold = folds(truths)
    scaled, temperatures = cross_fitted(scores, truths)
    for i in range(10):
        assert temperatures[i] == fit_temperature(scores[fold != i], truths[fold != i])
        np.testing.assert_array_equal(scaled[fold == i], tempered(scores[fold == i], temperatures[i]))
    changed = scores.copy()
    changed[fold == 3] = tempered(scores[fold == 3], 3)
    others = cross_fitted(changed, truths)[1]
    assert others[3] == temperatures[3]
    assert others[4] != temperatures[4]

    found = scale(scores, truths)
    assert found['temperature'] == fit_temperature(scores, truths)
    assert found['fold_temperatures'] == temperatures
    assert found['before'] == asdict(calibration(scores, truths))
    assert found['after'] == asdict(calibration(scaled, truths))
    assert found['after']['nll'] < found['before']['nll']
    assert found['after']['ece'] < found['before']['ece']
    json.dumps(found, allow_nan=False)


def test_few_photos():
    assert scale(two_classes(0.9), [0]) is None
    assert len(scale(two_classes(0.9, 0.6, 0.7), [0, 0, 1])['fold_temperatures']) == 3


def test_the_ece_by_chance_is_that_of_scores_that_are_perfect():
    scores, _ = drawn(100)
    of_perfect = []
    random = np.random.default_rng(1)
    for _ in range(2000):
        truths = (random.random((100, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=4)
        of_perfect.append(expected_calibration_error(scores, truths))
    # The standard deviation of one is some 0.03: 5 of those of the two means.
    assert calibration(scores, truths).ece_by_chance == pytest.approx(np.mean(of_perfect), abs=0.005)


@pytest.mark.parametrize(('sharpness', 'least'), [(1.0, 90), (0.6, 80), (2.0, 80)])
def test_the_interval_holds_the_ece_of_the_model(sharpness, least, monkeypatch):
    monkeypatch.setattr('custom_modules.metrics.calibration.DRAWS', 200)
    truth = expected_calibration_error(*drawn(100000, sharpness, seed=1000))
    found = [calibration(*drawn(300, sharpness, seed)) for seed in range(100)]
    # It does so in 100, 92 and 88 of these; the percentiles of the bootstrap never do for scores that are perfect.
    assert sum(one.ece_interval95[0] <= truth <= one.ece_interval95[1] for one in found) >= least
    assert all(one.ece_interval95[0] <= one.ece <= one.ece_interval95[1] for one in found)
    from_zero = sum(one.ece_interval95[0] == 0 for one in found)
    assert from_zero > 90 if sharpness == 1 else from_zero < 50


def test_the_same_photos_have_the_same_interval():
    scores, truths = drawn(50)
    assert calibration(scores, truths) == calibration(scores, truths)
    assert calibration(scores, truths) != calibration(scores, truths, seed=1)
    sure = calibration(two_classes(1, 1), [0, 0])
    assert (sure.ece, sure.ece_interval95, sure.ece_by_chance) == (0, (0, 0), 0)


def test_coverage_of_a_case_worked_by_hand():
    curve = coverage_curve(two_classes(0.9, 0.6, 0.8, 0.6, 0.7), [0, 1, 0, 0, 1])
    assert [(point.min_score, point.kept.k, point.right.k) for point in curve] == [
        (0.9, 1, 1),
        (0.8, 2, 2),
        (0.7, 3, 2),
        (0.6, 5, 3),  # equal scores are set aside together
    ]
    assert at_coverage(curve, 0.4).kept.k == 2
    assert at_coverage(curve, 0.41).kept.k == 3
    assert at_coverage(curve, 0.7).kept.k == 5
