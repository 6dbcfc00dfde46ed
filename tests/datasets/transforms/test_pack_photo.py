"""PackPhoto packs what PackInputs packs."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from custom_modules.datasets.transforms import pack_photo  # noqa: F401  registers it

init_default_scope('mmpretrain')

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    'photo',
    [
        PHOTO,
        PHOTO[:, ::-1],
        PHOTO[::-1],
        PHOTO[::-1, ::-1],
        PHOTO[3:17, 5:25],
        PHOTO[3:17, 5:25][:, ::-1],
        PHOTO[..., ::-1],
        np.asfortranarray(PHOTO),
        PHOTO[..., :1],
        PHOTO[..., 0],
        np.dstack([PHOTO, PHOTO[..., 0]]),
        PHOTO.astype(np.float32),
        PHOTO[None],
        Image.fromarray(PHOTO),
        [PHOTO, PHOTO[:, ::-1]],
    ],
    ids=[
        'as loaded', 'mirrored', 'upside down', 'turned by 180°', 'cropped', 'cropped and mirrored', 'RGB',
        'column by column', 'one channel', 'no channel', 'four channels', 'float32', 'several', 'Pillow', 'list',
    ],
)  # fmt: skip
def test_what_is_packed_is_what_upstream_packs(photo):
    given = {'img_path': 'a.jpg', 'gt_label': 3, 'ori_shape': (20, 30), 'flip': True}
    ours, upstream = (
        TRANSFORMS.build({'type': name})({'img': photo, **given}) for name in ('PackPhoto', 'PackInputs')
    )
    assert ours['data_samples'].metainfo == upstream['data_samples'].metainfo
    assert ours['data_samples'].gt_label.equal(upstream['data_samples'].gt_label)
    if isinstance(photo, list):
        assert all(one.equal(other) for one, other in zip(ours['inputs'], upstream['inputs'], strict=True))
    else:
        assert ours['inputs'].dtype == upstream['inputs'].dtype
        assert ours['inputs'].equal(upstream['inputs'])
        assert ours['inputs'].is_contiguous() == upstream['inputs'].is_contiguous()


@pytest.mark.parametrize(
    'label',
    [3, True, [0, 2], np.array([1, 4]), np.array(4), torch.tensor(1), torch.tensor([2])],
    ids=['index', 'bool', 'several', 'array', '0-d array', '0-d tensor', 'tensor'],
)
def test_labels_of_any_kind_are_upstream_s(label):
    given = {'img': PHOTO, 'gt_label': label}
    ours, upstream = (TRANSFORMS.build({'type': name})(given)['data_samples'] for name in ('PackPhoto', 'PackInputs'))
    assert ours.gt_label.dtype == upstream.gt_label.dtype == torch.int64
    assert ours.gt_label.equal(upstream.gt_label)
    assert given['gt_label'] is label


@pytest.mark.parametrize('name', ['PackPhoto', 'PackInputs'])
def test_photos_without_a_label(name):
    assert 'gt_label' not in TRANSFORMS.build({'type': name})({'img': PHOTO})['data_samples']
