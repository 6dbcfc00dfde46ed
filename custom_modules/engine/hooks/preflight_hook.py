"""Checks of the built run before its first step, one trial batch of each loader, and the effective settings."""

import copy
import difflib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from custom_modules.engine.effective_settings import duration, effective_settings, lr_course, lr_origin, table
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.engine.loops import LinearProbeLoop
from custom_modules.engine.preflight import Finding, findings_of, refuse_errors, schedules
from custom_modules.engine.run import Run
from custom_modules.errors import InputError, as_configured

SMALL = 10_000  # training images below which training from scratch is rarely intended
# Learning rates from which on pretrained weights are lost. SGD with momentum: 0.01 at batch 32 still reached 97 % on
# these photos, 0.045 destroyed the weights in an epoch, and ImageNet's recipe from scratch has 0.1 at batch 256: hence
# 0.02 at batch 32, growing with the root of the batch. Adam divides by the gradient's size, so the batch hardly
# matters: 1e-3 is usual for fine-tuning, and three times that for training from scratch.
SGD_LIMIT, ADAM_LIMIT = 0.02, 0.003
METRIC_KEYS = {BestCheckpointHook: 'metric', EarlyStoppingHook: 'monitor', CheckpointHook: 'save_best'}
TRIED = 8  # images of each loader: enough for batch norm, and read in a tenth of a second
TIMED = 10  # steps


class DryRunDone(Exception):
    """Ends a dry run where training would begin."""


class PreflightHook(Hook):
    """Checks the built run before its first step, and prints the effective settings and all findings.

    Not registered: ``engine/training.py`` adds it itself.

    Args:
        run: The prepared run.
        dry_run: Whether to stop afterwards, by :class:`DryRunDone`. Defaults to False.
    """

    priority = 'HIGHEST'

    def __init__(self, run: Run, dry_run: bool = False) -> None:
        self.run = run
        self.dry_run = dry_run

    def before_train(self, runner: Runner) -> None:
        if self.run.checkpoint:
            self.run.checkpoint.clear()  # it is loaded, and its optimizer state would fill the memory
        findings = self.run.findings
        findings += findings_of(RUNNER_CHECKS, self.run, runner)
        metrics: dict[str, float] = {}
        if not any(finding.level == 'error' for finding in findings):
            findings += findings_of({'one batch': lambda: try_batches(runner, metrics)})
            findings += unknown_metrics(runner, metrics)
        with as_configured('param_scheduler'):
            rows = effective_settings(runner, sorted(metrics))
        failed = any(finding.level == 'error' for finding in findings)
        if self.dry_run and not failed:
            seconds, steps = seconds_per_step(runner)
            left = seconds * (runner.train_loop.max_iters - runner.iter)
            rows.append(('time', f'{seconds:.2f} s per step ({steps} timed): {duration(left)} without validation'))
        runner.logger.info(f'effective settings\n{table(rows)}', extra={'whole': True})
        for level, text in findings:
            if level == 'note':
                runner.logger.info(f'note: {text}')
            elif level == 'warning':
                runner.logger.warning(text)
        refuse_errors(findings)
        if self.dry_run:
            raise DryRunDone


def check_length(run: Run, runner: Runner) -> Iterator[Finding]:
    """Batch sizes and intervals that do not fit the number of images or epochs."""
    loader, loop = runner.train_dataloader, runner.train_loop
    images, batch = len(loader.dataset), loader.batch_size or 1
    if len(loader) == 0:
        yield Finding(
            'error',
            f'train_dataloader.batch_size: {batch} with drop_last, but there are {images} photos: no batch at all; '
            f'at most {images // runner.world_size}',
        )
        return
    if batch * runner.world_size > images:
        yield Finding(
            'warning',
            f'train_dataloader.batch_size: {batch} on {runner.world_size} process(es), but there are {images} photos: '
            'one smaller step per epoch',
        )
    if not isinstance(loop, EpochBasedTrainLoop):
        return
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook) and hook.interval > len(loader):
            yield Finding(
                'note',
                f'default_hooks.logger.interval: {hook.interval} is longer than an epoch of {len(loader)} iterations: '
                'one line per epoch',
            )


def check_schedules(run: Run, runner: Runner) -> Iterator[Finding]:
    """Schedules that do not fit the length of the run."""
    epochs = runner.max_epochs if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
    for key, item in schedules(runner.cfg):
        for problem in schedule_problems(item, key, epochs, runner.train_loop.max_iters):
            yield Finding('warning', problem)


def schedule_problems(item: dict, key: str, epochs: int | None, iters: int) -> list[str]:
    """What in a schedule does not fit the run, one line each.

    Args:
        item: The schedule as configured.
        key: Its dotted key.
        epochs: How many epochs the run has; None for one that counts iterations.
        iters: How many iterations it has.
    """
    by_epoch = item.get('by_epoch', True)
    if by_epoch and epochs is None:
        return [f'{key}: steps once per epoch, but train_cfg counts iterations: it never steps; set by_epoch=False']
    unit, total = ('epochs', epochs or 0) if by_epoch else ('iterations', iters)
    begin, length = item.get('begin', 0), min(item.get('end', total), total) - item.get('begin', 0)
    runs = f'but it runs for {length} {unit}'
    if begin >= total:
        return [f'{key}.begin: {begin}, but the run has {total} {unit}: it never steps']
    problems = []
    if late := [str(mark) for mark in item.get('milestones', ()) if begin + mark >= total]:
        problems.append(
            f'{key}.milestones: {", ".join(late)} not before the end of {total} {unit}: the lr never drops there'
        )
    if (given := item.get('T_max')) and given != length:
        less = 'the lr stays high' if given > length else 'the lr rises again'
        problems.append(f'{key}.T_max: {given}, {runs}: {less}; set it to {length}')
    if (given := item.get('step_size')) and given >= length:
        problems.append(f'{key}.step_size: {given}, {runs}: the lr never drops')
    elif given and not by_epoch and epochs and given <= epochs < iters / 3:
        problems.append(f'{key}.step_size: {given} looks like epochs, {runs}; set by_epoch=True')
    if (given := item.get('total_steps')) and given != length:
        problems.append(f'{key}.total_steps: {given}, {runs}; set it to {length}')
    return problems


def check_lr(run: Run, runner: Runner) -> Iterator[Finding]:
    """A learning rate for training from scratch with pretrained weights, and its source."""
    pretrained = runner.cfg.get('pretrained') or runner._load_from
    if not pretrained or runner._resume or isinstance(runner.train_loop, LinearProbeLoop):
        return
    kind = type(runner.optim_wrapper.optimizer).__name__
    batch = (runner.train_dataloader.batch_size or 1) * runner.world_size
    batch *= getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    limit = {'SGD': SGD_LIMIT * math.sqrt(batch / 32)}.get(kind, ADAM_LIMIT if 'Adam' in kind else math.inf)
    peak = lr_course(runner).peak
    if peak >= limit:
        key = 'optim_wrapper.optimizer.lr'
        lr = runner.cfg.optim_wrapper.optimizer.get('lr')
        yield Finding(
            'warning',
            f'{key}: {lr}{"" if peak == lr else f", peak {peak:.3g}"} (from {lr_origin(runner.cfg, run.options)}) is '
            f'for training from scratch: with {kind} and {batch} photos per step it destroys pretrained weights; '
            f'stay below {limit:.2g}, e.g. --cfg-options {key}={limit / 10:.1g}',
        )


def check_from_scratch(run: Run, runner: Runner) -> Iterator[Finding]:
    """Training from scratch on few images."""
    images = len(runner.train_dataloader.dataset)
    whole = runner.cfg.model.get('pretrained') or 'Pretrained' in str(runner.cfg.model.get('init_cfg'))
    started = runner.cfg.get('pretrained') or whole or runner._load_from
    if run.needs_pretrained and not started and images < SMALL:
        yield Finding(
            'warning',
            f'model.backbone.init_cfg: no pretrained weights, so everything is learned from {images} photos; '
            'fetch some with: python tools/fetch_weights.py NAME',
        )


RUNNER_CHECKS = {
    'train_dataloader': check_length,
    'param_scheduler': check_schedules,
    'optim_wrapper.optimizer.lr': check_lr,
    'model.backbone.init_cfg': check_from_scratch,
}


def unknown_metrics(runner: Runner, metrics: dict[str, float]) -> Iterator[Finding]:
    """Hooks and schedules that wait for a metric which validation does not give."""
    wanted = [
        (f'{type(hook).__name__}.{key}', getattr(hook, key))
        for hook in runner.hooks
        for kind, key in (
            (BestCheckpointHook, 'metric'),
            (EarlyStoppingHook, 'monitor'),
            (CheckpointHook, 'save_best'),
        )
        if isinstance(hook, kind) and isinstance(getattr(hook, key), str) and getattr(hook, key) != 'auto'
    ]
    for schedule in runner.param_schedulers if isinstance(runner.param_schedulers, list) else ():
        if isinstance(schedule, ReduceOnPlateauParamScheduler):
            wanted.append(('param_scheduler.monitor', schedule.monitor))
    for key, name in wanted:
        if metrics and name not in metrics:
            near = difflib.get_close_matches(name, sorted(metrics), n=1, cutoff=0.5)
            hint = f'; did you mean {near[0]}?' if near else ''
            yield Finding('error', f'{key}: validation gives no {name!r}, but {", ".join(sorted(metrics))}{hint}')


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


def try_batches(runner: Runner, metrics: dict[str, float]) -> Iterator[Finding]:
    """Sends a few images of each loader through the model, as training and validation do, and changes nothing.

    The images are read in this process, without sampler and workers.

    Args:
        runner: The built run.
        metrics: Gets what the validation metrics give on so few images; their names count.

    Raises:
        InputError: An image cannot be read, or the batch does not go through the model.
    """
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    with kept_as_is(model):
        if runner.val_loop is not None:
            model.eval()
            batch = _batch(runner.val_dataloader, 1, 'val_dataloader')
            evaluator = copy.deepcopy(runner.val_loop.evaluator)
            with as_configured('one batch of val_dataloader through model and val_evaluator'):
                outputs = model.val_step(batch)
                scores = [sample.pred_score for sample in outputs if 'pred_score' in sample]
                if not all(torch.isfinite(score).all() for score in scores):
                    raise InputError('one batch of val_dataloader: scores are not finite; look at the weights')
                evaluator.process(data_samples=outputs, data_batch=batch)
                metrics.update(evaluator.evaluate(len(outputs)))
        model.train()
        batch = _batch(runner.train_dataloader, 2, 'train_dataloader')
        labels = {int(label) for sample in batch.get('data_samples') or () for label in sample.gt_label.flatten()}
        if wrong := sorted(label for label in labels if classes and not 0 <= label < classes):
            # On a GPU these end the run with an error that does not name them.
            raise InputError(f'train_dataloader: labels {wrong}, but model.head.num_classes is {classes}')
        with (
            as_configured('one batch of train_dataloader through model'),
            runner.optim_wrapper.optim_context(model),
        ):
            data = model.data_preprocessor(batch, True)
            loss, parts = model.parse_losses(model(**data, mode='loss'))
            yield from _about_input(data['inputs'])
        if not torch.isfinite(loss):
            values = {key: float(value) for key, value in parts.items() if isinstance(value, torch.Tensor)}
            yield Finding(
                'error',
                f'one batch of train_dataloader: its loss is {float(loss)} ({values}) before any step; '
                'look at the weights, data_preprocessor.mean and std, and the loss',
            )
        yield from _about_last_batch(runner, model)


def _batch(loader: Any, at_least: int, name: str) -> Any:
    """A few images spread over the loader's dataset, as the loader would join them."""
    dataset = loader.dataset
    count = min(max(min(loader.batch_size or 1, TRIED), at_least), len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).round()
    with as_configured(f'photos of {name} through dataset.pipeline and collate_fn'):
        return loader.collate_fn([dataset[int(place)] for place in places])


def _about_input(inputs: Any) -> Iterator[Finding]:
    """Whether the model's input looks normalised: within 20 standard deviations, and not all alike."""
    if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
        return
    spread, largest = float(inputs.float().std()), float(inputs.float().abs().max())
    if spread < 0.05 or largest > 20:  # ImageNet's values give 1 and under 3
        yield Finding(
            'error',
            f'data_preprocessor: the photos that go into the model have a standard deviation of {spread:.3g} and '
            f'values up to {largest:.3g}; about 1 and 3 are usual: mean and std do not fit the range of the pixels',
        )


def _about_last_batch(runner: Runner, model: Any) -> Iterator[Finding]:
    """Whether an epoch ends with a batch of one image that batch norm cannot take."""
    loader = runner.train_dataloader
    share = math.ceil(len(loader.dataset) / runner.world_size)
    batch = loader.batch_size or share
    if loader.drop_last or (share % batch or batch) != 1:
        return
    try:
        model(**model.data_preprocessor(loader.collate_fn([loader.dataset[0]]), True), mode='loss')
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        yield Finding(
            'error',
            f'train_dataloader.batch_size: {batch} of {share} photos leaves a batch of one, which batch norm cannot '
            'take; take another size, or set train_dataloader.drop_last=True',
        )


def seconds_per_step(runner: Runner) -> tuple[float, int]:
    """Trains for a few steps and times them, without the first; the model is of no use afterwards.

    Returns:
        Seconds per step, loading included, and how many steps were timed.
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
        if len(times) > TIMED:
            break
    timed = times[1:] or times
    return sum(timed) / len(timed), len(timed)
