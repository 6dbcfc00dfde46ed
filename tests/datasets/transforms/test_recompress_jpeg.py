"""A picture stored as a JPEG and read again: Pillow's libjpeg is the other opinion."""

import io

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from custom_modules.datasets.transforms.recompress_jpeg import RecompressJPEG


@pytest.fixture
def img():
    """A gradient with some noise: something that a JPEG changes, but not beyond recognition."""
    rows, columns = np.mgrid[:40, :56]
    smooth = np.stack([4 * columns, 5 * rows, 255 - 4 * columns], axis=2)
    noise = np.random.default_rng(0).integers(-12, 13, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def test_it_is_registered():
    built = TRANSFORMS.build({'type': 'RecompressJPEG'})
    assert isinstance(built, RecompressJPEG)
    assert repr(built) == 'RecompressJPEG(quality=30)'


@pytest.mark.parametrize('quality', [10, 30, 95])
def test_pixels_are_those_that_pillow_gets_at_that_quality(img, quality):
    file = io.BytesIO()
    Image.fromarray(img[..., ::-1]).save(file, 'JPEG', quality=quality, subsampling='4:2:0')
    expected = np.asarray(Image.open(file))[..., ::-1]
    found = RecompressJPEG(quality)({'img': img})['img']
    assert found.shape == img.shape
    assert found.dtype == np.uint8
    # Both are libjpeg-turbo, with different versions of its arithmetic: a level or two apart.
    assert abs(found.astype(int) - expected).max() <= 4
    assert abs(found.astype(int) - expected).mean() < 0.5


def test_a_lower_quality_takes_more_away(img):
    errors = [np.square(RecompressJPEG(q)({'img': img})['img'].astype(float) - img).mean() for q in (5, 30, 60, 95)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] > 10


def test_the_same_picture_gives_the_same_pixels_and_keeps_its_own(img):
    before = img.copy()
    first, second = (RecompressJPEG()({'img': img, 'gt_label': 3}) for _ in range(2))
    np.testing.assert_array_equal(first['img'], second['img'])
    np.testing.assert_array_equal(img, before)
    assert first['gt_label'] == 3


@pytest.mark.parametrize('quality', [0, 101, -5])
def test_bad_arguments(quality):
    with pytest.raises(ValueError, match=r'^quality must lie in \[1, 100\]'):
        RecompressJPEG(quality)
