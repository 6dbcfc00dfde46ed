"""Shows a grid of augmented training photos before training; changes nothing, not even the random state."""

from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from PIL import Image, ImageDraw, ImageFont, ImageOps

from custom_modules.engine.hooks.seed_hook import random_state_kept

FONT = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
CELL, CAPTION, MARGIN = 192, 40, 4  # pixels


@HOOKS.register_module()
class AugmentedPhotosHook(Hook):
    """Adds a grid of augmented training photos, spread evenly over the training set, to the visualizer.

    Args:
        count: How many photos to show. Defaults to 16.
    """

    # Last of all: a photo that cannot be read is reported after everything else was set up.
    priority = 'VERY_LOW'

    def __init__(self, count: int = 16) -> None:
        self.count = count

    @master_only
    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0:  # resumed
            return
        dataset = runner.train_dataloader.dataset
        chosen = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        with random_state_kept():
            packed = [dataset[int(index)] for index in chosen]
        photos = [item['inputs'].numpy()[::-1].transpose(1, 2, 0) for item in packed]
        labels = [int(item['data_samples'].gt_label) for item in packed]
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        grid = photo_grid(photos, [str(classes[label] if classes else label) for label in labels])
        runner.visualizer.add_image('augmented training photos', grid)


def photo_grid(photos: list[np.ndarray], names: list[str]) -> np.ndarray:
    """Photos (H, W, 3) of any size in rows, each under its name of one or two lines; all uint8 RGB."""
    columns = ceil(len(photos) ** 0.5)
    rows = ceil(len(photos) / columns)
    grid = Image.new('RGB', (columns * CELL, rows * (CELL + CAPTION)), 'white')
    draw, font = ImageDraw.Draw(grid), ImageFont.truetype(FONT, 13)
    for index, (photo, name) in enumerate(zip(photos, names, strict=True)):
        left, top = index % columns * CELL, index // columns * (CELL + CAPTION)
        draw.text((left + CELL / 2, top + MARGIN), name, 'black', font, anchor='ma', align='center')
        fitted = ImageOps.contain(Image.fromarray(photo), (CELL - 2 * MARGIN,) * 2)
        grid.paste(fitted, (left + (CELL - fitted.width) // 2, top + CAPTION))
    return np.array(grid)
