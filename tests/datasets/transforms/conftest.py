"""Images for the loading transforms."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a smooth image, (width, height) pixels in the file."""

    def write(name: str, size: tuple[int, int], orientation: int = 1, mode: str = 'RGB') -> Path:
        colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(cv2.resize(colours, size)).convert(mode).save(tmp_path / name, exif=exif, quality=95)
        return tmp_path / name

    return write
