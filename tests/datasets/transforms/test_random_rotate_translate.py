"""Rotation and translation in one warp: fixed parameters give exact pixels, drawn ones are uniform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms.random_rotate_translate import RandomRotateTranslate


def noise(height, width):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(('dx', 'dy'), [(0, 0), (3, 0), (0, 5), (-4, 2), (29, -19)])
def test_a_shift_by_pixels_moves_them_and_fills_the_rest(dx, dy):
    img = noise(20, 30)
    assert RandomRotateTranslate(prob=0)({'img': img})['img'] is img
    out = RandomRotateTranslate(pad_val=7).apply(img, 0, dx, dy)
    expected = np.full_like(img, 7)
    expected[max(dy, 0) : 20 + min(dy, 0), max(dx, 0) : 30 + min(dx, 0)] = img[
        max(-dy, 0) : 20 + min(-dy, 0), max(-dx, 0) : 30 + min(-dx, 0)
    ]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize('size', [20, 21])
@pytest.mark.parametrize(('angle', 'turns'), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_is_counter_clockwise_about_the_centre_and_before_the_shift(size, angle, turns):
    img = noise(size, size)
    transform = RandomRotateTranslate(degrees=180)
    np.testing.assert_array_equal(transform.apply(img, angle, 0, 0), np.rot90(img, turns))
    shifted = transform.apply(img, angle, 3, 0)
    np.testing.assert_array_equal(shifted[:, 3:], np.rot90(img, turns)[:, :-3])


@given(
    shape=st.sampled_from([(7, 9), (9, 7, 1), (8, 8, 3), (5, 6, 4), (1, 1000)]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    degrees=st.floats(0, 180),
    translate=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_shape_dtype_and_bounds(shape, dtype, degrees, translate, seed):
    np.random.seed(seed)
    transform = TRANSFORMS.build({'type': 'RandomRotateTranslate', 'degrees': degrees, 'translate': translate})
    results = transform({'img': np.ones(shape, dtype), 'gt_label': 3})
    assert (results['img'].shape, results['img'].dtype, results['gt_label']) == (shape, dtype, 3)
    angle, dx, dy = transform.make_params(*shape[:2])
    assert abs(angle) <= degrees
    assert abs(dx) <= translate * shape[1]
    assert abs(dy) <= translate * shape[0]


def test_parameters_are_uniform_independent_and_as_frequent_as_prob():
    np.random.seed(0)
    transform = RandomRotateTranslate(degrees=10, translate=0.1, prob=0.8)
    params = [transform.make_params(100, 200) for _ in range(5000)]
    drawn = np.array([item for item in params if item]) / [10, 20, 10]
    assert len(drawn) / 5000 == pytest.approx(0.8, abs=0.023)  # 4 standard deviations
    for column in drawn.T:
        shares = np.histogram(column, bins=4, range=(-1, 1))[0] / len(drawn)
        np.testing.assert_allclose(shares, 0.25, atol=0.03)  # 4 standard deviations
    assert abs(np.corrcoef(drawn.T)[np.triu_indices(3, 1)]).max() < 0.07


@pytest.mark.parametrize('given', [{'degrees': -1}, {'degrees': 181}, {'translate': 10}, {'prob': 1.5}])
def test_bad_arguments(given):
    (name,) = given
    with pytest.raises(ValueError, match=f'^{name} must lie in'):
        RandomRotateTranslate(**given)
