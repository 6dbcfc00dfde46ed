"""The registered transform that loads an image, decoded no larger than the next resize needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmpretrain.registry import TRANSFORMS

from custom_modules.errors import PhotoError
from custom_modules.photos.decoding import decode_photo


@contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Turns the error of reading or decoding a file into a :class:`PhotoError` that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        problem = f'no readable photo ({" ".join(str(error).split())})'
        fix = 'Replace it, or delete it and list the photos again (tools/generate_metadata.py)'
        raise PhotoError(f'{path}: {problem}. {fix}.') from None


@TRANSFORMS.register_module()
class LoadPhoto(BaseTransform):
    """Loads an image upright, a JPEG at 1/2, 1/4 or 1/8 of its size if its short edge stays long enough.

    For pipelines that continue with ``ResizeEdge`` of the short edge. Reduced pixels are averages; a bilinear resize
    to a tenth skips most pixels. An image with a short edge below ``2 * min_short_edge`` is loaded in full, with the
    pixels of ``LoadImageFromFile``.

    Required key: ``img_path``. Added keys: ``img``, (H, W, 3) uint8, BGR; ``img_shape``, its height and width;
    ``ori_shape``, those in the file.

    Args:
        min_short_edge: Least length of the reduced short edge, in pixels: the ``scale`` of ``ResizeEdge``. Without it,
            only JPEGs of more than 89 million pixels are reduced. Defaults to ``None``.
    """

    def __init__(self, min_short_edge: int | None = None) -> None:
        if min_short_edge is not None and min_short_edge < 1:
            raise ValueError(f'min_short_edge must be 1 or more, got {min_short_edge}')
        self.min_short_edge = min_short_edge

    def transform(self, results: dict) -> dict:
        """Loads ``results['img_path']``."""
        if 'img' in results:  # from MMPretrain's inferencer, which loads images itself
            return results
        with named_errors(results['img_path']):
            img, size = decode_photo(fileio.get(results['img_path']), self.min_short_edge)
        return {**results, 'img': img, 'img_shape': img.shape[:2], 'ori_shape': size}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_short_edge={self.min_short_edge})'
