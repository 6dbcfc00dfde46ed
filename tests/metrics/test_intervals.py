"""Wilson's interval against statsmodels and against what any such interval has to satisfy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from custom_modules.metrics.intervals import wilson_interval

counts = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(('k', 'n'), [(0, 1), (1, 1), (0, 572), (540, 572), (572, 572), (3, 7)])
@pytest.mark.parametrize('confidence', [0.5, 0.95, 0.99])
def test_agrees_with_statsmodels(k, n, confidence):
    expected = proportion_confint(k, n, alpha=1 - confidence, method='wilson')
    assert wilson_interval(k, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    """8 of 10: Wilson's 49.0 … 94.3 %, where the normal approximation gives 55.2 … 104.8 %."""
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-7)


@given(counts)
def test_holds_the_proportion_within_bounds(count):
    k, n = count
    low, high = wilson_interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high


@given(counts)
def test_is_the_mirror_image_for_errors(count):
    k, n = count
    low, high = wilson_interval(k, n)
    assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counts)
def test_more_confidence_is_wider(count):
    narrow, wide = wilson_interval(*count, 0.9), wilson_interval(*count, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@pytest.mark.parametrize('arguments', [(0, 0), (3, 2), (-1, 5), (0, -1), (1, 2, 0.0), (1, 2, 1.0), (1, 2, 95)])
def test_refuses(arguments):
    with pytest.raises(ValueError, match=r'no proportion|confidence'):
        wilson_interval(*arguments)
