"""The registered transform that loads a training image and crops it, decoded no larger than the crop needs."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import mmcv
import numpy as np
from mmengine import fileio
from mmpretrain.datasets import RandomFlip, RandomResizedCrop
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms.load_photo import named_errors
from custom_modules.photos.decoding import decode, greatest_reduction, jpeg_size


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(RandomResizedCrop):
    """``LoadImageFromFile`` and MMPretrain's ``RandomResizedCrop`` in one, which configs need not name.

    The crop is drawn as upstream does, from the size in a JPEG's header. Where it will be shrunk to half or less, the
    JPEG is decoded at 1/2, 1/4 or 1/8, and the edges of the crop move to the nearest of those larger pixels. Other
    crops have the same pixels as upstream.

    Required key: ``img_path``. Added keys: ``img``, (height, width, 3) uint8, BGR; ``img_shape``, its shape;
    ``ori_shape``, the photo's height and width.

    Args:
        scale: Height and width of the result, or one number for both, in pixels.
        flip_prob: Probability of ``RandomFlip`` afterwards, as configs of 2.x have it. Defaults to ``0.0``.
        **kwargs: ``RandomResizedCrop``'s: ``crop_ratio_range``, ``aspect_ratio_range``, ``max_attempts``,
            ``interpolation``, ``backend``.
    """

    def __init__(self, scale: Sequence[int] | int, flip_prob: float = 0.0, **kwargs: Any) -> None:
        super().__init__(scale, **kwargs)
        self.flip = RandomFlip(flip_prob) if flip_prob else None

    def transform(self, results: dict) -> dict:
        """Loads and crops ``results['img_path']``."""
        with named_errors(results['img_path']):
            content = fileio.get(results['img_path'])
            size = jpeg_size(content)
            img = np.empty(0) if size else decode(content)  # other formats have to be decoded in full anyway
        height, width = size or img.shape[:2]
        # Upstream looks at the shape alone.
        top, left, rows, columns = self.rand_crop_params(SimpleNamespace(shape=(height, width)))
        shrinking = min(rows / self.scale[0], columns / self.scale[1])
        reduction = greatest_reduction(shrinking, size) if size else 1
        with named_errors(results['img_path']):
            img = decode(content, reduction) if size else img
        edges = [round(edge / reduction) for edge in (top, top + rows, left, left + columns)]
        img = img[edges[0] : edges[1], edges[2] : edges[3]]
        img = mmcv.imresize(img, self.scale[::-1], interpolation=self.interpolation, backend=self.backend)
        results.update(img=img, img_shape=img.shape, ori_shape=(height, width))
        return self.flip(results) if self.flip else results
