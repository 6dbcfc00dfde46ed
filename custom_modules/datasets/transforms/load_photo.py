"""The registered transform that loads an image for a resize, decoded no larger than the resize needs."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmpretrain.registry import TRANSFORMS

from custom_modules.errors import PhotoError
from custom_modules.photos.decoding import decode, greatest_reduction, jpeg_size


def decode_photo(path: str, content: bytes, reduction: int = 1) -> np.ndarray:
    """What :func:`decode` makes of the ``content`` of ``path``; a :class:`PhotoError` where it cannot decode it."""
    try:
        return decode(content, reduction)
    except ValueError as error:
        raise PhotoError(f'{path}: {error}. Replace it, or delete it.') from None


@TRANSFORMS.register_module()
class LoadPhoto(BaseTransform):
    """Loads an image upright, a JPEG at 1/2, 1/4 or 1/8 of its size if its short edge stays long enough.

    For pipelines that continue with ``ResizeEdge`` of the short edge. Reduced pixels are averages; a bilinear resize
    to a tenth skips most pixels. An image with a short edge below ``2 * min_short_edge`` is loaded in full, with the
    pixels of ``LoadImageFromFile``.

    Required key: ``img_path``. Added keys: ``img``, (H, W, 3) uint8, BGR; ``img_shape``, its height and width;
    ``ori_shape``, those in the file.

    Args:
        min_short_edge: Least length of the reduced short edge, in pixels: the ``scale`` of ``ResizeEdge``.
    """

    def __init__(self, min_short_edge: int) -> None:
        if min_short_edge < 1:
            raise ValueError(f'min_short_edge must be 1 or more, got {min_short_edge}')
        self.min_short_edge = min_short_edge

    def transform(self, results: dict) -> dict:
        """Loads ``results['img_path']``."""
        if 'img' in results:  # from MMPretrain's inferencer, which loads images itself
            return results
        content = fileio.get(results['img_path'])
        size = jpeg_size(content)
        img = decode_photo(
            results['img_path'], content, greatest_reduction(min(size) / self.min_short_edge) if size else 1
        )
        return {**results, 'img': img, 'img_shape': img.shape[:2], 'ori_shape': size or img.shape[:2]}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_short_edge={self.min_short_edge})'
