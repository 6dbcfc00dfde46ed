"""Small pictures for pages that stand for themselves. What is on the pages is the business of those who make them."""

import base64
from pathlib import Path

import cv2
import numpy as np

from custom_modules.errors import InputError

THUMBNAIL = 320  # pixels, the longer side


def thumbnail(photo: Path, size: int = THUMBNAIL) -> str:
    """A small JPEG of a photo as a ``data:`` address, read as training reads it: turned as its EXIF says."""
    picture = cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f'{photo}: changed while it was being looked at; run again')
    scale = min(1, size / max(picture.shape[:2]))
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', small, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}'
