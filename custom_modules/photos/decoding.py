"""Decodes the bytes of an image file, as training and prediction see it; JPEGs also at a reduced size.

A JPEG stores the frequencies of blocks of 8 x 8 pixels. Without the higher frequencies it decodes to a smaller image
in a fraction of the time, each pixel an average. Other formats gain nothing from this.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from custom_modules.photos.image_files import (
    BROKEN,
    BY_PILLOW,
    MAX_PIXELS,
    NoDecoder,
    decoder_problem,
    file_problem,
    image_kind,
    orientation,
    upright,
)

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
        ValueError: It is of no kind that can be decoded here, or broken.
    """
    kind = image_kind(content)
    if kind and (problem := decoder_problem(kind)):
        raise NoDecoder(problem)
    img = None
    try:
        if kind in BY_PILLOW:
            with Image.open(io.BytesIO(content), formats=(kind,)) as image:
                img = np.ascontiguousarray(np.asarray(upright(image).convert('RGB'))[..., ::-1])
        elif kind:
            img = cv2.imdecode(np.frombuffer(content, np.uint8), REDUCTIONS[reduction])
    except Exception as error:  # on garbage, decoders raise almost anything
        raise ValueError(f'it cannot be decoded: {getattr(error, "err", error)}') from error
    if img is None:
        raise ValueError('it cannot be decoded')
    return img


def decode_photo(content: bytes, min_short_edge: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes an image, a JPEG so far reduced that its short edge keeps this length; also its full height and width.

    Without a length, only JPEGs of more than :data:`MAX_PIXELS` are reduced.
    """
    size = jpeg_size(content)
    img = decode(content, greatest_reduction(min(size) / min_short_edge if min_short_edge else 1, size) if size else 1)
    return img, size or img.shape[:2]


def greatest_reduction(shrinking: float, size: tuple[int, int] = (0, 0)) -> int:
    """The largest reduction for an image whose height and width will be divided by ``shrinking`` or more anyway.

    At least 2 for a ``size`` of more than :data:`MAX_PIXELS`.
    """
    shrinking = max(shrinking, 2 if size[0] * size[1] > MAX_PIXELS else 1)
    return next(reduction for reduction in REDUCTIONS if reduction <= shrinking)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a decoded JPEG, upright, from its header; None for other formats and broken headers."""
    if image_kind(content) != 'JPEG':
        return None
    try:
        with JpegImageFile(io.BytesIO(content)) as image:
            width, height = image.size
            # Where there is no EXIF, Pillow takes the orientation from XMP, which OpenCV ignores.
            sideways = 'exif' in image.info and orientation(image) > 4
    except Exception:  # on garbage, decoders raise almost anything
        return None
    return (width, height) if sideways else (height, width)


def photo_problem(path: str) -> str | None:
    """Why training and prediction cannot read a file; None if they can."""
    if problem := file_problem(path):
        return problem
    try:
        decode_photo(Path(path).read_bytes())
    except (OSError, ValueError):
        return BROKEN
    return None
