"""Validation images: decoded at the scale that the next resize allows, and otherwise as upstream loads them."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms import load_photo  # noqa: F401  registers it

init_default_scope('mmpretrain')


def load(path, **step):
    return TRANSFORMS.build(step)({'img_path': str(path)})


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp'])
@pytest.mark.parametrize(('size', 'orientation'), [((64, 48), 3), ((511, 800), 1), ((511, 800), 6)])
def test_small_images_are_those_of_upstream(write, name, size, orientation):
    path = write(name, size, orientation)
    ours, upstream = load(path, type='LoadPhoto', min_short_edge=256), load(path, type='LoadImageFromFile')
    np.testing.assert_array_equal(ours.pop('img'), upstream.pop('img'))
    assert ours == upstream


@pytest.mark.parametrize(
    ('name', 'size', 'orientation', 'loaded'),
    [
        ('a.jpg', (512, 511), 1, (511, 512)),
        ('a.jpg', (1023, 1111), 1, (556, 512)),
        ('a.jpg', (1024, 1111), 1, (278, 256)),
        ('a.jpg', (1111, 1024), 6, (278, 256)),  # upright it is 1024 wide
        ('a.jpg', (4500, 2300), 1, (288, 563)),
        ('a.png', (1100, 1024), 1, (1024, 1100)),  # only JPEGs are reduced
    ],
)
def test_the_short_edge_stays_long_enough(write, name, size, orientation, loaded):
    results = load(write(name, size, orientation), type='LoadPhoto', min_short_edge=256)
    assert results['img'].shape == (*loaded, 3)
    assert results['img_shape'] == loaded
    assert results['ori_shape'] == (size if orientation == 6 else size[::-1])


def test_an_impossible_length_is_refused():
    with pytest.raises(ValueError, match='min_short_edge must be 1 or more, got 0'):
        TRANSFORMS.build({'type': 'LoadPhoto', 'min_short_edge': 0})
