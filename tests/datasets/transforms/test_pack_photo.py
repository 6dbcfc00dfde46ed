"""PackPhoto packs the same as PackInputs."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from custom_modules.datasets.transforms import pack_photo  # noqa: F401  registers it

init_default_scope('mmpretrain')

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
IMAGES = {
    'as loaded': PHOTO,
    'mirrored': PHOTO[:, ::-1],
    'cropped and mirrored': PHOTO[3:17, 5:25][:, ::-1],
    'RGB': PHOTO[..., ::-1],
    'column by column': np.asfortranarray(PHOTO),
    'one channel': PHOTO[..., :1],
    'no channel': PHOTO[..., 0],
    'four channels': np.dstack([PHOTO, PHOTO[..., 0]]),
    'float32': PHOTO.astype(np.float32),
    'several': PHOTO[None],
    'Pillow': Image.fromarray(PHOTO),
}


def packed(**given):
    return (TRANSFORMS.build({'type': name})(given) for name in ('PackPhoto', 'PackInputs'))


@pytest.mark.parametrize('kind', IMAGES)
def test_images_of_any_kind(kind):
    ours, upstream = packed(img=IMAGES[kind], img_path='a.jpg', gt_label=3, ori_shape=(20, 30), flip=True)
    assert ours['data_samples'].metainfo == upstream['data_samples'].metainfo
    assert ours['inputs'].dtype == upstream['inputs'].dtype
    assert ours['inputs'].equal(upstream['inputs'])
    assert ours['inputs'].is_contiguous() == upstream['inputs'].is_contiguous()
