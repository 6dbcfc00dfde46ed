"""Training photos: upstream's crops of small ones to the bit, and of large ones at the scale that each crop allows."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image

from custom_modules.datasets import flower_dataset  # noqa: F401  registers it
from custom_modules.datasets.transforms import load_random_resized_crop, pack_photo  # noqa: F401  registers them
from custom_modules.engine.hooks.seed_hook import seed_generators

init_default_scope('mmpretrain')

FLIP = {'type': 'RandomFlip', 'prob': 0.5}


def upstream(**crop):
    return [{'type': 'LoadImageFromFile'}, {'type': 'RandomResizedCrop', **crop}, FLIP, {'type': 'PackInputs'}]


def ours(**crop):
    return [{'type': 'LoadRandomResizedCrop', 'flip_prob': 0.5, **crop}, {'type': 'PackPhoto'}]


def write(path, size, orientation=1, mode='RGB'):
    """A smooth picture, (width, height) pixels in the file."""
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(cv2.resize(colours, size)).convert(mode).save(path, exif=exif, quality=95)
    return path


def run(pipeline, path, seed):
    """What a pipeline makes of a photo, and what would be drawn next."""
    seed_generators('photo', 0, 0, seed)
    item = Compose([TRANSFORMS.build(step) for step in pipeline])({'img_path': str(path), 'gt_label': 2})
    return item, np.random.rand()


def test_a_dataset_of_small_photos_is_augmented_as_upstream_does_it(data):
    built = [
        DATASETS.build({'type': 'FlowerDataset', 'data_root': str(data), 'pipeline': pipeline})
        for pipeline in (upstream(scale=32), ours(scale=32))
    ]
    for place in range(len(built[0])):
        items = []
        for dataset in built:
            seed_generators('photo', 0, 0, place)
            items.append(dataset[place])
        one, other = items
        assert one['inputs'].equal(other['inputs'])
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        assert one['data_samples'].gt_label.equal(other['data_samples'].gt_label)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp'])
@pytest.mark.parametrize('orientation', [1, 2, 6])
@pytest.mark.parametrize('crop', [{'scale': 224}, {'scale': (160, 192), 'crop_ratio_range': (0.3, 0.9)}], ids=str)
def test_small_photos_of_any_kind(tmp_path, name, orientation, crop):
    path = write(tmp_path / name, (320, 213), orientation)
    for seed in range(8):
        (one, drawn), (other, redrawn) = run(upstream(**crop), path, seed), run(ours(**crop), path, seed)
        assert one['inputs'].equal(other['inputs'])
        assert drawn == redrawn


@pytest.mark.parametrize('mode', ['L', 'CMYK'])
def test_grey_and_cmyk_jpegs(tmp_path, mode):
    path = write(tmp_path / 'a.jpg', (320, 213), mode=mode)
    assert run(upstream(scale=224), path, 0)[0]['inputs'].equal(run(ours(scale=224), path, 0)[0]['inputs'])


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    """A photo of 12 megapixels by each EXIF orientation of a phone."""
    folder = tmp_path_factory.mktemp('large')
    return {
        orientation: write(folder / f'{orientation}.jpg', (4001, 2997), orientation) for orientation in (1, 3, 6, 8)
    }


@pytest.mark.parametrize('orientation', [1, 6])
def test_large_photos_get_the_same_crops(large, orientation):
    for seed in range(3):
        (one, drawn), (other, redrawn) = (
            run(steps(scale=224), large[orientation], seed) for steps in (upstream, ours)
        )
        assert drawn == redrawn
        assert one['data_samples'].metainfo == other['data_samples'].metainfo
        difference = one['inputs'].numpy().astype(int) - other['inputs'].numpy()
        # A crop's edge moves by half of a reduced pixel at most, where the picture changes by 2 levels a pixel.
        assert np.abs(difference).max() <= 6


@settings(deadline=None, max_examples=30)
@given(
    size=st.tuples(st.integers(40, 900), st.integers(40, 900)),
    orientation=st.sampled_from([1, 6]),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([16, 32, (16, 64)]),
)
def test_the_reduction_is_the_greatest_that_enlarges_no_crop(size, orientation, seed, scale):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new('RGB', size).save(file, 'JPEG', exif=exif)
    shape = size if orientation == 6 else size[::-1]
    transform = TRANSFORMS.build({'type': 'LoadRandomResizedCrop', 'scale': scale})
    np.random.seed(seed)
    _, _, height, width = transform.rand_crop_params(np.empty(shape))
    shrinking = min(height / transform.scale[0], width / transform.scale[1])
    expected = max([reduction for reduction in (1, 2, 4, 8) if reduction <= shrinking], default=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_random_resized_crop, 'open', lambda *_: io.BytesIO(file.getvalue()), raising=False)
        decoded = []
        decode = load_random_resized_crop.decode
        patch.setattr(load_random_resized_crop, 'decode', lambda *args: decoded.append(args[1:]) or decode(*args))
        np.random.seed(seed)
        results = transform({'img_path': 'a.jpg'})
    assert decoded == [(expected,)]
    assert results['img'].shape == (*transform.scale, 3)
    assert results['ori_shape'] == shape
