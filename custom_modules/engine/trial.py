"""One batch of train and one of val through the built model before the first epoch; what it touches is put back."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.errors import InputError, as_configured

PHOTOS = 8  # of each side: enough for batch norm, and read in a tenth of a second


@contextmanager
def kept_as_is(model: nn.Module) -> Iterator[None]:
    """Leaves buffers (batch-norm statistics), modes and all random states as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        with random_state_kept(), torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for module, training in modes.items():
            module.training = training


def try_batches(runner: Runner) -> tuple[dict[str, float], list[str]]:
    """Sends a few photos of each side through the model, as training and validation do.

    The photos are read in this process, past sampler and workers.

    Returns:
        What the validation's metrics give on so few photos (their names count), and the problems, a line each.

    Raises:
        InputError: A photo cannot be read, or the batch does not go through the model.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    problems: list[str] = []
    metrics: dict[str, float] = {}
    with kept_as_is(model):
        if runner.val_loop is not None:
            model.eval()
            batch = _batch(runner.val_dataloader, 1, 'val_dataloader')
            evaluator = copy.deepcopy(runner.val_loop.evaluator)
            with as_configured('one batch of val_dataloader through model and val_evaluator'):
                outputs = model.val_step(batch)
                problems += _about_scores(model, outputs)
                if not problems:
                    evaluator.process(data_samples=outputs, data_batch=batch)
                    metrics = evaluator.evaluate(len(outputs))
        model.train()
        batch = _batch(runner.train_dataloader, 2, 'train_dataloader')
        problems += _about_last_batch(runner, model)
        problems += _about_labels(model, batch)
        if not problems:
            with (
                as_configured('one batch of train_dataloader through model'),
                runner.optim_wrapper.optim_context(model),
            ):
                data = model.data_preprocessor(batch, True)
                problems += _about_input(data['inputs'])
                loss, parts = model.parse_losses(model(**data, mode='loss'))
            if not torch.isfinite(loss):
                values = {key: float(value) for key, value in parts.items() if isinstance(value, torch.Tensor)}
                problems.append(
                    f'one batch of train_dataloader: its loss is {float(loss)} ({values}) before any step; '
                    'look at the weights, data_preprocessor.mean and std, and the loss'
                )
    return metrics, problems


def _about_last_batch(runner: Runner, model: nn.Module) -> list[str]:
    """Whether an epoch ends with a batch of one photo that batch norm cannot take."""
    loader = runner.train_dataloader
    share = math.ceil(len(loader.dataset) / runner.world_size)
    batch = loader.batch_size or share
    if loader.drop_last or (share % batch or batch) != 1:
        return []
    preprocess: Any = model.data_preprocessor
    try:
        model(**preprocess(loader.collate_fn([loader.dataset[0]]), True), mode='loss')
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        return [
            f'train_dataloader.batch_size: {batch} of {share} photos leaves a batch of one, which batch norm cannot '
            'take; take another size, or set train_dataloader.drop_last=True'
        ]
    return []


def _batch(loader: Any, at_least: int, name: str) -> Any:
    """A few photos spread over the loader's dataset, as the loader would join them."""
    dataset = loader.dataset
    count = min(max(min(loader.batch_size or 1, PHOTOS), at_least), len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).round()
    with as_configured(f'photos of {name} through dataset.pipeline and collate_fn'):
        return loader.collate_fn([dataset[int(place)] for place in places])


def _about_scores(model: nn.Module, outputs: Any) -> list[str]:
    """What is wrong with the predictions of a batch: a score for each class is wanted."""
    wanted = getattr(getattr(model, 'head', None), 'num_classes', None)
    scores = [sample.pred_score for sample in outputs if 'pred_score' in sample]
    given = {tuple(score.shape) for score in scores}
    if wanted and scores and given != {(wanted,)}:
        return [f'one batch of val_dataloader: the model gives scores of shape {sorted(given)}, not ({wanted},)']
    if any(not torch.isfinite(score).all() for score in scores):
        return ['one batch of val_dataloader: scores are not finite before any step; look at the weights']
    return []


def _about_labels(model: nn.Module, batch: Any) -> list[str]:
    """The labels that the head has no output for: on a GPU they would end the run with a riddle."""
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    samples = batch.get('data_samples') or []
    labels = {int(label) for sample in samples if 'gt_label' in sample for label in sample.gt_label.flatten()}
    wrong = sorted(label for label in labels if classes and not 0 <= label < classes)
    return [f'train_dataloader: label {label}, but model.head.num_classes is {classes}' for label in wrong]


def _about_input(inputs: Any) -> list[str]:
    """Whether what goes into the model looks normalised: within 20 standard deviations, and not all alike."""
    if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
        return []
    spread, largest = float(inputs.float().std()), float(inputs.float().abs().max())
    if spread >= 0.05 and largest <= 20:  # ImageNet's values give 1 and under 3
        return []
    return [
        f'data_preprocessor: the photos that go into the model have a standard deviation of {spread:.3g} and values '
        f'up to {largest:.3g}; about 1 and 3 are usual: mean and std do not fit the range of the pixels'
    ]


def seconds_per_step(runner: Runner, steps: int = 10) -> tuple[float, int]:
    """Trains for a few steps and times them, without the first; the model is of no use afterwards.

    Returns:
        Seconds a step, loading included, and how many steps were timed.
    """
    times = []
    runner.model.train()
    began = time.perf_counter()
    for batch in runner.train_dataloader:
        runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        if len(times) > steps:
            break
    timed = times[1:] or times
    if not timed:
        raise InputError('train_dataloader: gives no batch')
    return sum(timed) / len(timed), len(timed)
