"""Seeds each photo and each iteration, so that a resumed run draws the same random numbers."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch.utils.data import Sampler

from custom_modules.engine.loops import counts_epochs


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds Python, NumPy and torch for every training photo and every iteration.

    The augmentation of a photo depends on (seed, epoch or pass over the dataset, index), the draws of the model and of
    batch augmentations on (seed, rank, iteration). So no random state has to be saved. MMEngine seeds each worker
    once: its augmentation depends on the number of workers, and repeats in every epoch unless they persist.
    """

    priority = 'VERY_HIGH'  # before any other hook draws
    _sampler_seed: int | None = None

    def before_train(self, runner: Runner) -> None:
        sampler = runner.train_dataloader.sampler
        if self._sampler_seed is not None:  # resumed: without a seed in the config, a new one was drawn for the order
            sampler.seed = self._sampler_seed
        dataset, batches = runner.train_dataloader.dataset, runner.train_dataloader.batch_sampler
        if not counts_epochs(runner):
            batches.sampler = CountedPasses(batches.sampler, len(dataset))
        self._photos = SeededPhotos(dataset)
        # DataLoader asks the outermost dataset for a whole batch by this method, in whatever process.
        dataset.__getitems__ = self._photos

    def before_train_epoch(self, runner: Runner) -> None:
        self._photos.progress[:] = torch.tensor([runner.seed, runner.epoch])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        number = seed_generators('iteration', runner.seed, runner.rank, runner.iter)
        if get_device() != 'cpu':
            torch.manual_seed(number)  # all devices; where there are none, it would cost a walk over the stack

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['SeedHook'] = {'sampler_seed': getattr(runner.train_dataloader.sampler, 'seed', None)}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and 'SeedHook' in checkpoint:
            self._sampler_seed = checkpoint['SeedHook']['sampler_seed']


class CountedPasses(Sampler):
    """A sampler that adds the size of the dataset to an index once per pass over it, by all ranks together."""

    def __init__(self, sampler: Any, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def __iter__(self) -> Iterator[int]:
        before, ranks = getattr(self.sampler, 'epoch', 0), getattr(self.sampler, 'world_size', 1)
        for number, index in enumerate(self.sampler):
            yield index + (before + number * ranks // self.size) * self.size

    def __len__(self) -> int:
        return len(self.sampler)


class SeededPhotos:
    """Takes photos from a dataset, each with generators seeded for it.

    Attributes:
        progress: (2,) int64, seed and epoch; in shared memory, so that persistent workers see the next epoch.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.progress = torch.zeros(2, dtype=torch.int64).share_memory_()

    def __call__(self, places: Sequence[int]) -> list:
        """The photos at ``places``, which are those of the first pass again after the size of the dataset."""
        seed, epoch = self.progress.tolist()
        photos = []
        for place in places:
            seed_generators('photo', seed, epoch, int(place))
            photos.append(self.dataset[place % len(self.dataset)])
        return photos


def seed_generators(*key: str | int) -> int:
    """Seeds Python's, NumPy's and torch's CPU generator from a hash of ``key``, which it returns."""
    number = int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest())
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.default_generator.manual_seed(number)
    return number


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leaves the random states of Python, NumPy and torch's CPU generator as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
