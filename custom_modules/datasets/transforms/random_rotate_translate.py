"""The registered augmentation: a random rotation and translation in one warp."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomRotateTranslate(BaseTransform):
    """Rotates about the image centre and shifts, both by uniform random amounts, interpolating only once.

    MMPretrain's ``Rotate`` and ``Translate`` would each resample the image and draw a sign, not an amount.

    Required and modified key: ``img``, (H, W) or (H, W, C) uint8; the shape stays.

    Args:
        degrees: The angle is drawn from [-degrees, degrees]. Defaults to ``15.0``.
        translate: The shift is drawn from [-translate, translate] of the width and of the height. Defaults to ``0.1``.
        prob: How often an image is transformed at all. Defaults to ``1.0``.
        pad_val: Grey value of the corners laid bare, 0-255. Defaults to ``0``.
    """

    def __init__(self, degrees: float = 15.0, translate: float = 0.1, prob: float = 1.0, pad_val: int = 0) -> None:
        for name, value, most in (('degrees', degrees, 180), ('translate', translate, 1), ('prob', prob, 1)):
            if not 0 <= value <= most:
                raise ValueError(f'{name} must lie in [0, {most}], got {value}')
        self.degrees = degrees
        self.translate = translate
        self.prob = prob
        self.pad_val = pad_val

    def make_params(self, height: int, width: int) -> tuple[float, float, float] | None:
        """Draws the arguments of :meth:`apply` for one ``height`` x ``width`` image; None leaves it as it is."""
        if np.random.rand() >= self.prob:
            return None
        angle, dx, dy = np.random.uniform(-1, 1, 3)
        return angle * self.degrees, dx * self.translate * width, dy * self.translate * height

    def apply(self, img: np.ndarray, angle: float, dx: float, dy: float) -> np.ndarray:
        """Turns ``img`` by degrees counter-clockwise and shifts it by pixels to the right and down, bilinearly."""
        height, width = img.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        matrix[:, 2] += dx, dy
        border = (self.pad_val,) * 4
        warped = cv2.warpAffine(img, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=border)
        return warped.reshape(img.shape)  # OpenCV drops a channel axis of length 1

    def transform(self, results: dict) -> dict:
        """Transforms ``results['img']``."""
        params = self.make_params(*results['img'].shape[:2])
        if params is not None:
            results['img'] = self.apply(results['img'], *params)
        return results

    def __repr__(self) -> str:
        options = ', '.join(f'{name}={value}' for name, value in vars(self).items())
        return f'{type(self).__name__}({options})'
