"""Decodes the bytes of an image file with OpenCV, as training and prediction see it; JPEGs also at a reduced size.

A JPEG stores the frequencies of blocks of 8 x 8 pixels. Without the higher frequencies it decodes to a smaller image
in a fraction of the time, each pixel an average. Other formats gain nothing from this.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from custom_modules.photos.image_files import orientation

REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
"""OpenCV's flag for each divisor of height and width, largest first; all apply the EXIF orientation."""


def decode(content: bytes, reduction: int = 1) -> np.ndarray:
    """Decodes an image to (H, W, 3) uint8, BGR, upright; a JPEG at 1/``reduction`` of its size, rounded up.

    Raises:
        ValueError: OpenCV cannot decode it.
    """
    try:
        img = cv2.imdecode(np.frombuffer(content, np.uint8), REDUCTIONS[reduction]) if content else None
    except cv2.error as error:  # e.g. more pixels than OpenCV accepts
        raise ValueError(f'it cannot be decoded: {error.err or error}') from error
    if img is None:
        raise ValueError('it cannot be decoded')
    return img


def greatest_reduction(shrinking: float) -> int:
    """The largest reduction for an image whose height and width will be divided by ``shrinking`` or more anyway."""
    return next((reduction for reduction in REDUCTIONS if reduction <= shrinking), 1)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a decoded JPEG, upright, from its header; None for other formats and broken headers."""
    try:
        with Image.open(io.BytesIO(content), formats=('JPEG',)) as image:
            width, height = image.size
            # Where there is no EXIF, Pillow takes the orientation from XMP, which OpenCV ignores.
            sideways = 'exif' in image.info and orientation(image) > 4
    except Exception:  # on garbage, decoders raise almost anything
        return None
    return (width, height) if sideways else (height, width)


def is_readable(path: str) -> bool:
    """Whether OpenCV, which the pipelines load images with, can decode a file."""
    try:
        decode(Path(path).read_bytes())
    except (OSError, ValueError):
        return False
    return True
