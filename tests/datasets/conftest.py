"""Photos for the checks: sharp, colourful, and each seed unlike the others."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope='session')
def draw() -> Callable[..., Image.Image]:
    """A function that draws blocks of random colours with a spot in each: ``draw(seed, (width, height))``, pixels."""

    def draw(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
        rng = np.random.default_rng(seed)
        blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
        values = np.asarray(blocks).copy()
        values[2::8, 2::8] = 255 - values[2::8, 2::8]
        return Image.fromarray(values)

    return draw
