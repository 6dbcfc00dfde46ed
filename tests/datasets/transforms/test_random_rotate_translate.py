"""One warp for rotation and translation: fixed parameters give exact pixels, drawn ones stay within their bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms.random_rotate_translate import RandomRotateTranslate, RotateTranslateParams


@pytest.fixture
def img():
    return np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)


def test_it_is_registered():
    built = TRANSFORMS.build({'type': 'RandomRotateTranslate', 'degrees': 5})
    assert isinstance(built, RandomRotateTranslate)
    assert repr(built) == 'RandomRotateTranslate(degrees=5, translate=0.1, prob=1.0, pad_val=0)'


@pytest.mark.parametrize(('dx', 'dy'), [(0, 0), (3, 0), (0, 5), (-4, 2), (29, -19)])
def test_a_whole_pixel_shift_moves_pixels_and_fills_the_rest(img, dx, dy):
    out = RandomRotateTranslate(pad_val=7).apply(img, RotateTranslateParams(0, dx, dy))
    expected = np.full_like(img, 7)
    height, width = img.shape[:2]
    expected[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = img[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize('size', [20, 21])
@pytest.mark.parametrize(('angle', 'turns'), [(90, 1), (-90, -1), (180, 2), (-180, 2)])
def test_quarter_turns_are_counter_clockwise_and_about_the_centre(size, angle, turns):
    img = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    out = RandomRotateTranslate(degrees=180).apply(img, RotateTranslateParams(angle, 0, 0))
    np.testing.assert_array_equal(out, np.rot90(img, turns))


def test_the_shift_comes_after_the_rotation():
    img = np.zeros((21, 21), np.uint8)
    img[10, 15] = 255  # right of the centre
    out = RandomRotateTranslate().apply(img, RotateTranslateParams(90, 3, 0))
    assert np.argwhere(out).tolist() == [[5, 13]]  # above it, then to the right


def test_corners_laid_bare_are_filled():
    out = RandomRotateTranslate(pad_val=99).apply(np.full((20, 20, 3), 200, np.uint8), RotateTranslateParams(45, 0, 0))
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert (out[corner] == 99).all()
    assert (out[5:15, 5:15] == 200).all()


@given(
    degrees=st.floats(0, 180),
    translate=st.floats(0, 1),
    height=st.integers(1, 1000),
    width=st.integers(1, 1000),
    seed=st.integers(0, 1000),
)
def test_drawn_parameters_stay_within_their_bounds(degrees, translate, height, width, seed):
    np.random.seed(seed)
    params = RandomRotateTranslate(degrees, translate).make_params(height, width)
    assert abs(params.angle) <= degrees
    assert abs(params.dx) <= translate * width
    assert abs(params.dy) <= translate * height


def test_drawn_parameters_are_uniform():
    np.random.seed(0)
    transform = RandomRotateTranslate(degrees=10, translate=0.1)
    drawn = np.array([transform.make_params(100, 200) for _ in range(4000)]) / [10, 20, 10]
    # Of 4000 uniform draws a quarter is off by more than 4 standard deviations (0.027) once in 10^4.
    for column in drawn.T:
        shares = np.histogram(column, bins=4, range=(-1, 1))[0] / 4000
        np.testing.assert_allclose(shares, 0.25, atol=0.03)
    assert abs(np.corrcoef(drawn.T)[np.triu_indices(3, 1)]).max() < 0.07  # drawn independently of one another


@given(
    shape=st.sampled_from([(7, 9), (9, 7, 1), (8, 8, 3), (5, 6, 4)]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    seed=st.integers(0, 100),
)
def test_shape_and_dtype_stay(shape, dtype, seed):
    np.random.seed(seed)
    results = RandomRotateTranslate()({'img': np.ones(shape, dtype), 'gt_label': 3})
    assert results['img'].shape == shape
    assert results['img'].dtype == dtype
    assert results['gt_label'] == 3


def test_prob(img):
    assert RandomRotateTranslate(prob=0)({'img': img})['img'] is img
    np.random.seed(0)
    transform = RandomRotateTranslate(prob=0.3)
    drawn = [transform.make_params(10, 10) is not None for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.03)  # 4 standard deviations
    assert all(RandomRotateTranslate(prob=1).make_params(10, 10) for _ in range(100))


def test_nothing_to_draw_from_is_the_identity(img):
    np.testing.assert_array_equal(RandomRotateTranslate(0, 0)({'img': img.copy()})['img'], img)


@pytest.mark.parametrize(
    'given', [{'degrees': -1}, {'degrees': 181}, {'translate': -0.1}, {'translate': 10}, {'prob': 1.5}, {'prob': -1}]
)
def test_bad_arguments(given):
    (name,) = given
    with pytest.raises(ValueError, match=f'^{name} must lie in'):
        RandomRotateTranslate(**given)
