"""Checks of the built run before its first step, one trial batch of each loader, and the effective settings."""

import copy
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import Runner

from custom_modules.engine.effective_settings import effective_settings, lr_course, schedules_of, table
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.engine.loops import LinearProbeLoop, bare_model, counts_epochs
from custom_modules.engine.preflight import Finding, run_checks, warning
from custom_modules.engine.run import Run
from custom_modules.errors import InputError, as_configured, collect, refuse

SMALL = 10_000  # training images below which training from scratch is rarely intended
# Learning rates from which on pretrained weights are lost. SGD: 0.01 at batch 32 still reached 97 % on these photos,
# 0.045 destroyed the weights; the limit grows with the root of the batch. Adam: 1e-3 is usual for fine-tuning.
SGD_LIMIT, ADAM_LIMIT = 0.02, 0.003
# The attribute that names the metric to wait for; another class may call anything so.
METRIC_NAMES: dict[type, str] = {
    BestCheckpointHook: 'metric',
    EarlyStoppingHook: 'monitor',
    CheckpointHook: 'save_best',
    ReduceOnPlateauParamScheduler: 'monitor',
}
TRIED = 8  # images of each loader: enough for batch norm, and read in a tenth of a second
TIMED = 10  # steps


class DryRunDone(Exception):
    """Ends a dry run where training would begin."""


class PreflightHook(Hook):
    """Checks the built run before its first step, and prints the effective settings and all findings.

    Not registered: ``engine/training.py`` adds it itself. A dry run stops afterwards, by :class:`DryRunDone`.
    """

    priority = 'HIGHEST'

    def __init__(self, run: Run, dry_run: bool = False) -> None:
        self.run = run
        self.dry_run = dry_run

    def before_train(self, runner: Runner) -> None:
        if self.run.checkpoint:
            self.run.checkpoint.clear()  # it is loaded, and its optimizer state would fill the memory
        errors: list[str] = []
        metrics: dict[str, float] = {}
        run_checks(RUNNER_CHECKS, errors, self.run.warnings, self.run, runner)
        if not errors:
            with collect(errors):
                metrics = try_batches(runner)
        with as_configured('param_scheduler', 'Fit its lengths (total_steps, T_max, end) to the length of the run.'):
            rows = effective_settings(runner, sorted(metrics))
        if self.dry_run and not errors:
            rows['time'] = _time(runner)
        runner.logger.info(f'effective settings\n{table(rows)}', extra={'whole': True})
        for warning_text in self.run.warnings:
            runner.logger.warning(warning_text)
        refuse(errors)
        if self.dry_run:
            raise DryRunDone


def check_schedules(run: Run, runner: Runner) -> Iterator[Finding]:
    """Schedules that do not fit the length of the run."""
    written = runner.cfg.get('param_scheduler') or []
    epochs = runner.max_epochs if counts_epochs(runner) else None
    for item in [written] if isinstance(written, dict) else written:
        for problem in schedule_problems(item, epochs, runner.train_loop.max_iters):
            yield warning(f'param_scheduler: {item["type"]}{problem}')


def schedule_problems(item: dict, epochs: int | None, iters: int) -> Iterator[str]:
    """Parts of a schedule that do not fit a run of ``epochs`` (None for one that counts iterations) or ``iters``."""
    by_epoch, begin = item.get('by_epoch', True), item.get('begin', 0)
    if by_epoch and epochs is None:
        yield ' steps once per epoch, but train_cfg counts iterations: it never steps. Set by_epoch=False.'
        return
    total, unit = (epochs or 0, 'epochs') if by_epoch else (iters, 'iterations')
    length = min(item.get('end', total), total) - begin
    if begin >= total:
        yield f'.begin is {begin}, but the run has {total} {unit}: it never steps. Set it lower.'
        return
    for name in ('T_max', 'total_steps'):
        if item.get(name, length) != length:
            yield f'.{name} is {item[name]}, but it runs for {length} {unit}. Set it to {length}.'
    step = item.get('step_size', 0)
    if step >= length:
        yield f'.step_size is {step}, but it runs for {length} {unit}: the lr never drops. Set it lower.'
    elif step and not by_epoch and epochs and step <= epochs < iters / 3:
        yield f'.step_size {step} looks like epochs, but it runs for {length} {unit}. Set by_epoch=True.'
    if late := [mark for mark in item.get('milestones', ()) if begin + mark >= total]:
        yield f'.milestones {late} are not before the end of {total} {unit}: the lr never drops there. Set them lower.'


def check_lr(run: Run, runner: Runner) -> Iterator[Finding]:
    """A learning rate for training from scratch with pretrained weights, and its source."""
    pretrained = runner.cfg.get('pretrained') or runner._load_from
    if not pretrained or runner._resume or isinstance(runner.train_loop, LinearProbeLoop):
        return
    kind = type(runner.optim_wrapper.optimizer).__name__
    batch = (runner.train_dataloader.batch_size or 1) * runner.world_size
    batch *= getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    limit = {'SGD': SGD_LIMIT * math.sqrt(batch / 32)}.get(kind, ADAM_LIMIT if 'Adam' in kind else math.inf)
    peak = max(lr_course(runner))
    if peak >= limit:
        key = 'optim_wrapper.optimizer.lr'
        yield warning(
            f'{key}: {runner.cfg.optim_wrapper.optimizer.get("lr")}, peak {peak:.3g}, is for training '
            f'from scratch: {kind} with {batch} photos per step destroys pretrained weights. '
            f'Stay below {limit:.2g}, e.g. --cfg-options {key}={limit / 10:.1g}'
        )


def check_from_scratch(run: Run, runner: Runner) -> Iterator[Finding]:
    """Training from scratch on few images."""
    cfg, images = runner.cfg, len(runner.train_dataloader.dataset)
    parts = cfg, cfg.model, cfg.model.backbone  # timm's backbones load their own weights
    given = any(part.get('pretrained') for part in parts) or 'Pretrained' in str(cfg.model.get('init_cfg'))
    if run.needs_pretrained and images < SMALL and not (given or runner._load_from):
        yield warning(
            f'model.backbone.init_cfg: no pretrained weights, so everything is learned from {images} photos. '
            'Fetch some with: python tools/fetch_weights.py NAME'
        )


def check_best_checkpoint(run: Run, runner: Runner) -> Iterator[Finding]:
    """Runs that validate, but keep no best.pth."""
    if runner.val_loop is not None and not any(isinstance(hook, BestCheckpointHook) for hook in runner.hooks):
        yield warning(
            'default_hooks: no BestCheckpointHook, so no best.pth will be saved. Inherit '
            "configs/_base_/default_runtime.py, or add dict(type='BestCheckpointHook')."
        )


RUNNER_CHECKS = {
    'param_scheduler': check_schedules,
    'optim_wrapper.optimizer.lr': check_lr,
    'model.backbone.init_cfg': check_from_scratch,
    'default_hooks': check_best_checkpoint,
}


def check_metrics(runner: Runner, metrics: dict[str, float]) -> None:
    """Refuses hooks and schedules that wait for a metric which validation does not give."""
    problems = []
    for part in (*runner.hooks, *schedules_of(runner)):
        for kind, key in METRIC_NAMES.items():
            name = getattr(part, key) if isinstance(part, kind) else None
            if isinstance(name, str) and name not in ('auto', *metrics):
                where, known = f'{type(part).__name__}.{key}', ', '.join(sorted(metrics))
                problems.append(f'{where}: validation gives no {name!r}. Choose one of: {known}')
    refuse(problems)


def try_batches(runner: Runner) -> dict[str, float]:
    """Sends a few images of each loader through a copy of the model, as validation and training do.

    The images are read in this process, without sampler and workers. All random states are left as they were.

    Returns:
        The metrics of so few images, of which only the names count; empty without validation.

    Raises:
        InputError: All problems that this shows.
    """
    model = copy.deepcopy(bare_model(runner))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    metrics: dict[str, float] = {}
    problems: list[str] = []
    with random_state_kept(), torch.random.fork_rng(devices=devices), torch.no_grad():
        if runner.val_loop is not None:
            with collect(problems):
                metrics = _try_validation(runner, model.eval())
                check_metrics(runner, metrics)
        with collect(problems):
            _try_training(runner, model.train())
    refuse(problems)
    return metrics


def _try_validation(runner: Runner, model: Any) -> dict[str, float]:
    """The metrics of one batch."""
    batch = _batch(runner.val_dataloader, 1, 'val_dataloader')
    evaluator = copy.deepcopy(runner.val_loop.evaluator)
    with as_configured('one batch of val_dataloader through model and val_evaluator'):
        outputs = model.val_step(batch)
        if not all(torch.isfinite(sample.pred_score).all() for sample in outputs if 'pred_score' in sample):
            raise InputError('one batch of val_dataloader: scores are not finite. Look at the weights.')
        evaluator.process(data_samples=outputs, data_batch=batch)
        return evaluator.evaluate(len(outputs))


def _try_training(runner: Runner, model: Any) -> None:
    """Refuses labels, an input range, a loss or a size of the last batch of an epoch that cannot be trained on."""
    loader = runner.train_dataloader
    if len(loader) == 0:
        found = f'{loader.batch_size} with drop_last, but there are {len(loader.dataset)} photos: no batch at all'
        raise InputError(f'train_dataloader.batch_size: {found}. Set it lower.')
    batch = _batch(loader, 2, 'train_dataloader')
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    labels = {int(label) for sample in batch.get('data_samples') or () for label in sample.gt_label.flatten()}
    if wrong := sorted(label for label in labels if classes and not 0 <= label < classes):
        # On a GPU these end the run with an error that does not name them.
        raise InputError(f'train_dataloader: labels {wrong}, but model.head.num_classes is {classes}. Correct one.')
    with as_configured('one batch of train_dataloader through model'), runner.optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    inputs = data['inputs']
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        channels = inputs.float().transpose(0, 1).flatten(1)
        spread, largest = float(channels.std(1).max()), float(channels.abs().max())
        if spread < 0.05 or largest > 20:  # ImageNet's values give 1 and under 3
            raise InputError(
                f'data_preprocessor: the input has standard deviation {spread:.3g}, values up to {largest:.3g}; about '
                '1 and 3 are usual. Correct mean and std: are the pixels of 0 to 255 or of 0 to 1?'
            )
    if not torch.isfinite(loss):
        raise InputError(
            f'one batch of train_dataloader: its loss is {float(loss)}. Look at the weights, mean and std.'
        )
    images_per_rank = math.ceil(len(loader.dataset) / runner.world_size)
    size = loader.batch_size or images_per_rank
    if not loader.drop_last and (images_per_rank % size or size) == 1:
        problem = f'train_dataloader.batch_size: {size} of {images_per_rank} photos leaves a batch of one'
        with as_configured(problem, 'Take another size, or set train_dataloader.drop_last=True.'):
            model(**model.data_preprocessor(loader.collate_fn([loader.dataset[0]]), True), mode='loss')


def _batch(loader: Any, at_least: int, name: str) -> Any:
    """A few images spread over the loader's dataset, as the loader would join them."""
    dataset = loader.dataset
    count = min(max(min(loader.batch_size or 1, TRIED), at_least), len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).round()
    with as_configured(f'photos of {name} through dataset.pipeline and collate_fn'):
        return loader.collate_fn([dataset[int(place)] for place in places])


def _time(runner: Runner) -> str:
    """Trains and times a few steps, loading included, without the first; the model is of no use afterwards."""
    times = [time.perf_counter()]
    runner.model.train()
    for batch in runner.train_dataloader:
        runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) > TIMED + 1:
            break
    timed = np.diff(times)[1:] if len(times) > 2 else np.diff(times)
    left = timedelta(seconds=round(timed.mean() * (runner.train_loop.max_iters - runner.iter)))
    return f'{timed.mean():.2f} s per step ({len(timed)} timed): {left} h without validation'
