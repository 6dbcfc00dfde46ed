"""Figures from samples: on numbers whose answer is known by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_modules.benchmarks.summaries import (
    Costs,
    at_scale,
    compare_losses,
    figure,
    moving_mean,
    ratio,
    reached,
    spread,
    time_to,
)

POSITIVE = st.floats(1e-3, 1e6)


@pytest.mark.parametrize(
    ('value', 'shown'),
    [(0, '0'), (0.012345, '0.0123'), (4.567, '4.57'), (45.67, '45.7'), (456.7, '457'), (45678, '45700'), (1, '1.00')],
)
def test_three_digits_count(value, shown):
    assert figure(value) == shown


@given(st.floats(1e-6, 1e9))
def test_a_figure_is_within_half_a_percent(value):
    assert 'e' not in figure(value)
    assert float(figure(value)) == pytest.approx(value, rel=0.0051)


def test_samples_in_short():
    assert str(spread([3, 1, 2])) == '2.00 (1.00–3.00)'
    assert str(spread([3])) == '3.00'


def test_the_ratio_is_of_neighbours():
    found = ratio([2, 30, 4], [1, 10, 4])
    assert (found.median, found.low, found.high) == (2, 1, 3)


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.floats(0.1, 10))
def test_a_constant_factor_is_the_ratio(samples, factor):
    found = ratio([factor * sample for sample in samples], samples)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_moving_mean():
    assert moving_mean([1, 2, 3, 4], 2) == [1.5, 2.5, 3.5]
    assert moving_mean([1, 2], 10) == [1.5]


def test_equal_losses_do_not_differ():
    found = compare_losses([1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0], window=2)
    assert found['largest_difference'] == 0
    assert found['mean_stock'] == found['mean_ours'] == 1.5
    assert found['noise'] == pytest.approx(math.sqrt(0.5) / math.sqrt(2))  # batches differ by 1: variance 1/2 each


def test_losses_drift_apart():
    found = compare_losses([1.0] * 6, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 9.0], window=2)
    assert found == {
        'iterations': 6,
        'window': 2,
        'mean_stock': 1,
        'mean_ours': pytest.approx(8 / 6),
        'largest_difference': 1,
        'noise': 0,
    }


RUN = [{'seconds': 10, 'top1': 80.0}, {'seconds': 20, 'top1': 93.5}, {'seconds': 30, 'top1': 91.0}]


def test_the_first_validation_of_a_level_counts():
    assert reached(RUN, [80, 90, 93, 95]) == {80: 10, 90: 20, 93: 20, 95: None}


def test_how_many_seeds_got_there():
    slower = [{'seconds': 40, 'top1': 90.0}]
    found = time_to([RUN, slower], [90, 93, 95])
    assert [str(time) for time in found.values()] == [
        '30.0 s (20.0–40.0), 2 of 2 seeds',
        '20.0 s, 1 of 2 seeds',
        'not reached, 0 of 2 seeds',
    ]


COSTS = Costs(
    photo_bytes=100_000,
    load_seconds=0.01,
    train_seconds=0.004,
    step_seconds=0.128,
    gradient_bytes=10_000_000,
    index_bytes=100,
    index_seconds=1e-5,
)


def test_a_million_photos_by_hand():
    found = at_scale(COSTS, photos=1_000_000, processes=(2, 8))
    reduced = found.pop('all_reduce')
    assert found == pytest.approx(
        {
            'photos': 1_000_000,
            'loading_hours': 10_000 / 3600,
            'training_hours': 4_000 / 3600,
            'loaders': 3,  # 2.5 would do
            'read_mb_per_s': 25,
            'photos_gb': 100,
            'index_mb': 100,
            'index_seconds': 10,
        }
    )
    assert [row['mb'] for row in reduced] == pytest.approx([10, 17.5])
    assert reduced[0]['mbit_per_s'] == pytest.approx(80 / 0.0128)


@given(POSITIVE, POSITIVE, st.integers(1, 10**7))
def test_cost_grows_with_the_photos(load, train, photos):
    costs = Costs(1e5, load, train, 1.0, 4, 100, 1e-5)
    one, two = at_scale(costs, photos), at_scale(costs, 2 * photos)
    assert two['loading_hours'] == pytest.approx(2 * one['loading_hours'])
    assert one['loaders'] == two['loaders'] >= max(1, load / train * (1 - 1e-9))
