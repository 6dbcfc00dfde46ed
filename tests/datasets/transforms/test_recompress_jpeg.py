"""An image stored as a JPEG and read again, compared with Pillow's libjpeg."""

import io

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from custom_modules.datasets.transforms.recompress_jpeg import RecompressJPEG


@pytest.mark.parametrize('quality', [10, 30, 95])
def test_pixels_are_those_of_pillow_at_that_quality(quality):
    rows, columns = np.mgrid[:40, :56]
    smooth = np.stack([4 * columns, 5 * rows, 255 - 4 * columns], axis=2)
    img = np.clip(smooth + np.random.default_rng(0).integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(img[..., ::-1]).save(file, 'JPEG', quality=quality, subsampling='4:2:0')
    expected = np.asarray(Image.open(file))[..., ::-1]
    given = {'img': img.copy(), 'gt_label': 3}
    results = TRANSFORMS.build({'type': 'RecompressJPEG', 'quality': quality})({**given})
    found = results['img']
    assert (found.shape, found.dtype, results['gt_label']) == (img.shape, np.uint8, 3)
    # Both are libjpeg-turbo, with different versions of its arithmetic: a level or two apart.
    assert abs(found.astype(int) - expected).max() <= 4
    assert abs(found.astype(int) - expected).mean() < 0.5
    np.testing.assert_array_equal(given['img'], img)


@pytest.mark.parametrize('quality', [0, 101])
def test_bad_arguments(quality):
    with pytest.raises(ValueError, match=r'^quality must lie in \[1, 100\]'):
        RecompressJPEG(quality)
