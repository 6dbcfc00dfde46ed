"""The grid of photos that TensorBoard shows before training."""

import random

import numpy as np
import pytest
import torch

from custom_modules.engine.hooks.augmented_photos_hook import AugmentedPhotosHook, photo_grid
from custom_modules.engine.hooks.seed_hook import random_state_kept


def images(runner, monkeypatch):
    shown = []
    monkeypatch.setattr(runner.visualizer, 'add_image', lambda name, image: shown.append((name, image)))
    runner.train()
    return shown


def test_shown_once_before_training(tiny_run, monkeypatch):
    [(name, grid)] = images(tiny_run([AugmentedPhotosHook(4)], epochs=1), monkeypatch)
    assert name == 'augmented training photos'
    assert grid.dtype == np.uint8
    assert grid.ndim == 3
    # TinyPhotos holds the index in blue, so RGB (200, 200, 7) is the last photo, not (7, 200, 200).
    assert (grid == (200, 200, 7)).all(axis=2).any()
    assert images(tiny_run([AugmentedPhotosHook(4)], epochs=2, resume=True), monkeypatch) == []


def test_training_is_the_same_with_and_without(tiny_run, tmp_path):
    shown = tiny_run([AugmentedPhotosHook(100)], epochs=1, work_dir=tmp_path / 'a')
    plain = tiny_run([], epochs=1, work_dir=tmp_path / 'b')
    assert torch.equal(shown.train().fc.weight, plain.train().fc.weight)


def test_random_state_is_kept():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with random_state_kept():
        first = draw()
    assert draw() == first


@pytest.mark.parametrize(('count', 'shape'), [(1, (1, 1)), (3, (2, 2)), (16, (4, 4))])
def test_grid_takes_photos_of_different_sizes(count, shape):
    photos = [np.full((20 + i, 30, 3), 10 * i, np.uint8) for i in range(count)]
    height, width, _ = photo_grid(photos, ['gänseblümchen\nas tulip 0.98'] * count).shape
    assert (height / 232, width / 192) == shape
