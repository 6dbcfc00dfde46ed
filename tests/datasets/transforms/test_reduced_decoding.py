"""Pipelines that decode no more than they need: upstream's pixels for small images, the same crops of large ones."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

import custom_modules.register  # noqa: F401
from custom_modules.datasets.transforms.reduced_decoding import build_pipeline

init_default_scope('mmpretrain')


def steps(**crop):
    flip = {'type': 'RandomFlip', 'prob': 0.5}
    return [{'type': 'LoadImageFromFile'}, {'type': 'RandomResizedCrop', **crop}, flip, {'type': 'PackInputs'}]


def upstream(**crop):
    return Compose([TRANSFORMS.build(step) for step in steps(**crop)])


def ours(**crop):
    return build_pipeline(steps(**crop))


def named(**crop):
    """As configs until 2.4 name them."""
    return build_pipeline([{'type': 'LoadRandomResizedCrop', 'flip_prob': 0.5, **crop}, {'type': 'PackPhoto'}])


def run(pipeline, path, seed):
    """The output of a pipeline, and the next random number."""
    np.random.seed(seed)
    return pipeline({'img_path': str(path), 'gt_label': 2}), np.random.rand()


@pytest.mark.parametrize(
    ('name', 'orientation', 'mode'),
    [('a.jpg', 1, 'RGB'), ('a.jpg', 2, 'L'), ('a.jpg', 6, 'CMYK'), ('a.png', 6, 'RGB'), ('a.webp', 1, 'RGB')],
)
@pytest.mark.parametrize('reduced', [ours, named])
@pytest.mark.parametrize('crop', [{'scale': 224}, {'scale': (160, 192), 'crop_ratio_range': (0.3, 0.9)}], ids=str)
def test_small_images_are_those_of_upstream(write, name, orientation, mode, crop, reduced):
    path = write(name, (320, 213), orientation, mode)
    for seed in range(8):
        (one, drawn), (other, redrawn) = run(upstream(**crop), path, seed), run(reduced(**crop), path, seed)
        assert one['inputs'].equal(other['inputs'])
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        assert drawn == redrawn


@pytest.mark.parametrize('orientation', [1, 6])
def test_large_images_get_the_same_crops(write, orientation):
    path = write('a.jpg', (4001, 2997), orientation)
    for seed in range(3):
        (one, drawn), (other, redrawn) = (run(make(scale=224), path, seed) for make in (upstream, ours))
        assert drawn == redrawn
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        difference = one['inputs'].numpy().astype(int) - other['inputs'].numpy()
        # A crop's edge moves by half of a reduced pixel at most, where the image changes by 2 levels per pixel.
        assert np.abs(difference).max() <= 6


def test_only_loading_with_its_defaults_is_replaced():
    def first(load, *following):
        return repr(build_pipeline([load, *following]).transforms[0]).partition('(scale')[0]

    load, short = {'type': 'LoadImageFromFile'}, {'type': 'ResizeEdge', 'scale': 8}
    assert first(load, short) == 'LoadPhoto(min_short_edge=8)'
    assert first(load, {'type': 'RandomResizedCrop', 'scale': 8}) == 'LoadRandomResizedCrop'
    assert {first(load, {**short, 'edge': 'long'}), first(load)} == {'LoadPhoto(min_short_edge=None)'}
    assert first({**load, 'imdecode_backend': 'pillow'}, short).startswith('LoadImageFromFile')
