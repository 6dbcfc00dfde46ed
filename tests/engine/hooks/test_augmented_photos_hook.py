"""The grid of photos that TensorBoard shows before training."""

import numpy as np
import torch

from custom_modules.engine.hooks.augmented_photos_hook import AugmentedPhotosHook


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
