"""Small JPEG copies of images as ``data:`` URLs, for self-contained HTML pages."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_modules.photos.decoding import decode_photo
from custom_modules.photos.image_files import file_problem


def thumbnail(photo: Path, size: int = 320) -> str | None:
    """An upright JPEG of an image, its longer side ``size`` pixels at most, as a ``data:`` URL; None if unreadable."""
    if file_problem(str(photo)):
        return None
    try:
        picture, _ = decode_photo(photo.read_bytes())
    except (OSError, ValueError):
        return None
    return data_address(resized(picture, min(size, max(picture.shape[:2]))))


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image with ``size`` pixels on its longer side."""
    scale = size / max(picture.shape[:2])
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def data_address(picture: Any) -> str:
    """An image, (H, W, 3) uint8, BGR, as the ``data:`` URL of a JPEG."""
    _, jpeg = cv2.imencode('.jpg', picture, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}'
