"""Shows a grid of augmented training photos before training; changes nothing, not even the random state."""

from math import ceil

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.engine.hooks.seed_hook import random_state_kept


@HOOKS.register_module()
class AugmentedPhotosHook(Hook):
    """Adds a grid of augmented training photos to the visualizer before the first epoch.

    They are spread evenly over the training set and have the tag ``augmented training photos``, each with its class.
    The pipeline has to give uint8 BGR, as ``PackPhoto`` at its end does.

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
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        photos, names = [], []
        for item in packed:
            photos.append(item['inputs'].numpy()[::-1].transpose(1, 2, 0))
            label = int(item['data_samples'].gt_label)
            names.append(str(classes[label] if classes else label))
        runner.visualizer.add_image('augmented training photos', photo_grid(photos, names))


def photo_grid(photos: list[np.ndarray], names: list[str]) -> np.ndarray:
    """Photos in rows, each under its name.

    Args:
        photos: ``(H, W, 3)`` uint8 RGB each, of any size.
        names: One for each photo.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    columns = ceil(len(photos) ** 0.5)
    rows = ceil(len(photos) / columns)
    figure = Figure(figsize=(2.2 * columns, 2.45 * rows), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis('off')
    for cell, photo, name in zip(cells, photos, names, strict=False):
        cell.imshow(photo)
        cell.set_title(name, fontsize=11)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
