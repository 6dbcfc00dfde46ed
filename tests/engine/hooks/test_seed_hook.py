"""Random numbers depend for an image on seed, epoch and index; for an iteration on seed, rank and number."""

import os
import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from custom_modules.engine.hooks.seed_hook import CountedPasses, SeededPhotos, SeedHook, seed_generators


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


class Draws(Dataset):
    """Photos that are three random numbers."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int) -> torch.Tensor:
        return torch.tensor(draws())


def load(dataset: Dataset, epochs: int = 2, **loader: object) -> torch.Tensor:
    """Two epochs in order, as the hook has them loaded."""
    dataset.__getitems__ = photos = SeededPhotos(dataset)
    batches = DataLoader(dataset, batch_size=3, **loader)
    loaded = []
    for epoch in range(epochs):
        photos.progress[:] = torch.tensor([7, epoch])
        loaded.append(torch.cat(list(batches)))
    return torch.stack(loaded)


@pytest.mark.parametrize('method', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_workers_change_nothing_and_no_two_images_or_epochs_draw_alike(method):
    repeated = ConcatDataset([Draws()] * 2)  # as RepeatDataset does
    loaded = load(repeated)
    workers = {'num_workers': 2, 'persistent_workers': True, 'multiprocessing_context': method}
    assert torch.equal(loaded, load(repeated, **workers))
    for column in loaded.reshape(-1, 3).T:
        assert len(column.unique()) == len(column)


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_no_two_passes_of_a_run_of_iterations_draw_alike(sampler):
    dataset = Draws()
    dataset.__getitems__ = SeededPhotos(dataset)
    batches = DataLoader(dataset, batch_size=3, sampler=CountedPasses(sampler(dataset, seed=0), len(dataset)))
    loaded = []
    for epoch in range(2):
        batches.sampler.sampler.set_epoch(epoch)
        loaded += islice(batches, 12)
    drawn = torch.cat(loaded)[:, 0]
    assert len(drawn.unique()) == len(drawn) > len(dataset)


class Drawn(Hook):
    """Notes the images of each iteration, and random numbers as the model would draw them."""

    def __init__(self) -> None:
        self.rows: dict[int, list] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rows[runner.iter] = [int(image[0, 0, 0]) for image in data_batch['inputs']] + draws()


class Disturbs(Hook):
    """Leaves the generators as nothing else would, which without workers the loading of photos does too."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seed_generators(os.urandom(8).hex())


def test_iterations_of_a_resumed_run_draw_the_same(tiny_run, tmp_path):
    straight, resumed = Drawn(), Drawn()
    tiny_run([Disturbs(), SeedHook(), straight], epochs=3, work_dir=tmp_path / 'straight').train()
    tiny_run([SeedHook()], epochs=2).train()
    tiny_run([Disturbs(), SeedHook(), resumed], epochs=3, resume=True).train()
    assert resumed.rows == {number: straight.rows[number] for number in (6, 7, 8)}
    assert len({tuple(row) for row in straight.rows.values()}) == 9


@pytest.mark.parametrize('randomness', [{'seed': None}, {'seed': 3, 'diff_rank_seed': True}], ids=str)
def test_a_seed_that_was_not_given_survives_a_resume(randomness, tiny_run, tmp_path):
    straight, resumed = Drawn(), Drawn()
    first = tiny_run([SeedHook(), straight], epochs=2, randomness=randomness)
    first.train()
    (tmp_path / 'epoch_2.pth').unlink()
    settings = {'resume': True, 'load_from': str(tmp_path / 'epoch_1.pth'), 'randomness': randomness}
    second = tiny_run([SeedHook(), resumed], epochs=2, **settings)
    second.train()
    assert second.seed == first.seed
    assert resumed.rows == {number: straight.rows[number] for number in (3, 4, 5)}


def test_the_seeds_are_fixed():
    # Another hash would change every result there is.
    assert seed_generators('photo', 0, 0, 0) == 3898112121142150493
    assert draws() == pytest.approx([0.691955822446417, 0.013564730518517, 0.472571790218354])


def test_every_rank_draws_another_number(tiny_run):
    runner = tiny_run([])
    numbers = set()
    for runner._rank in range(4):
        SeedHook().before_train_iter(runner, 0)
        numbers.add(tuple(draws()))
    assert len(numbers) == 4
