"""The registered transform that compresses an image as JPEG and decodes it again, for robustness tests."""

import cv2
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RecompressJPEG(BaseTransform):
    """Compresses the picture as libjpeg does at a quality, with halved colour resolution, and decodes it again.

    MMPretrain has this only through albumentations, which it needs for nothing else here.

    Required and modified key: ``img``, (H, W, 3) uint8, BGR; the shape stays.

    Args:
        quality: libjpeg's, 1 (worst) to 100. Defaults to ``30``.
    """

    def __init__(self, quality: int = 30) -> None:
        if not 1 <= quality <= 100:
            raise ValueError(f'quality must lie in [1, 100], got {quality}')
        self.quality = quality

    def transform(self, results: dict) -> dict:
        """Transforms ``results['img']``."""
        _, content = cv2.imencode('.jpg', results['img'], (cv2.IMWRITE_JPEG_QUALITY, self.quality))
        results['img'] = cv2.imdecode(content, cv2.IMREAD_COLOR)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(quality={self.quality})'
