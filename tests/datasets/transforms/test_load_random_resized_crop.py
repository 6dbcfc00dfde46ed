"""Training images: upstream's crops of small ones to the bit, large ones decoded at the scale that a crop allows."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms import load_random_resized_crop, pack_photo  # noqa: F401  registers them

init_default_scope('mmpretrain')


def upstream(**crop):
    flip = {'type': 'RandomFlip', 'prob': 0.5}
    return [{'type': 'LoadImageFromFile'}, {'type': 'RandomResizedCrop', **crop}, flip, {'type': 'PackInputs'}]


def ours(**crop):
    return [{'type': 'LoadRandomResizedCrop', 'flip_prob': 0.5, **crop}, {'type': 'PackPhoto'}]


def run(pipeline, path, seed):
    """The output of a pipeline, and the next random number."""
    np.random.seed(seed)
    item = Compose([TRANSFORMS.build(step) for step in pipeline])({'img_path': str(path), 'gt_label': 2})
    return item, np.random.rand()


@pytest.mark.parametrize(
    ('name', 'orientation', 'mode'),
    [('a.jpg', 1, 'RGB'), ('a.jpg', 2, 'L'), ('a.jpg', 6, 'CMYK'), ('a.png', 6, 'RGB'), ('a.webp', 1, 'RGB')],
)
@pytest.mark.parametrize('crop', [{'scale': 224}, {'scale': (160, 192), 'crop_ratio_range': (0.3, 0.9)}], ids=str)
def test_small_images_are_those_of_upstream(write, name, orientation, mode, crop):
    path = write(name, (320, 213), orientation, mode)
    for seed in range(8):
        (one, drawn), (other, redrawn) = run(upstream(**crop), path, seed), run(ours(**crop), path, seed)
        assert one['inputs'].equal(other['inputs'])
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        assert drawn == redrawn


@pytest.mark.parametrize('orientation', [1, 6])
def test_large_images_get_the_same_crops(write, orientation):
    path = write('a.jpg', (4001, 2997), orientation)
    for seed in range(3):
        (one, drawn), (other, redrawn) = (run(steps(scale=224), path, seed) for steps in (upstream, ours))
        assert drawn == redrawn
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        difference = one['inputs'].numpy().astype(int) - other['inputs'].numpy()
        # A crop's edge moves by half of a reduced pixel at most, where the image changes by 2 levels per pixel.
        assert np.abs(difference).max() <= 6
