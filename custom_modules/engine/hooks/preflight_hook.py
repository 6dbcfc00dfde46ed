"""Checks of the built run before its first step, one trial batch of each loader, and the effective settings."""

import copy
import difflib
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from custom_modules.engine.config_validation import origin
from custom_modules.engine.effective_settings import effective_settings, lr_course, schedules_of, table
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.engine.loops import LinearProbeLoop
from custom_modules.engine.preflight import Finding, error, errors_added, findings_of, refuse_errors, warning
from custom_modules.engine.run import Run
from custom_modules.errors import InputError, as_configured

SMALL = 10_000  # training images below which training from scratch is rarely intended
# Learning rates from which on pretrained weights are lost. SGD: 0.01 at batch 32 still reached 97 % on these photos,
# 0.045 destroyed the weights; the limit grows with the root of the batch. Adam: 1e-3 is usual for fine-tuning.
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
            metrics, found = try_batches(runner)
            findings += found
            findings += unknown_metrics(runner, metrics)
        with as_configured('param_scheduler'):
            rows = effective_settings(runner, sorted(metrics))
        if self.dry_run and not any(finding.level == 'error' for finding in findings):
            rows['time'] = _time(runner)
        runner.logger.info(f'effective settings\n{table(rows)}', extra={'whole': True})
        for finding in findings:
            if finding.level == 'warning':
                runner.logger.warning(finding.text)
        refuse_errors(findings)
        if self.dry_run:
            raise DryRunDone


def check_length(run: Run, runner: Runner) -> Iterator[Finding]:
    """Batch sizes that do not fit the number of images."""
    loader, key = runner.train_dataloader, 'train_dataloader.batch_size'
    images, batch = len(loader.dataset), loader.batch_size or 1
    if len(loader) == 0:
        yield error(f'{key}: {batch} with drop_last, but there are {images} photos: no batch at all; set it lower')
    elif batch * runner.world_size > images:
        yield warning(f'{key}: {batch} on {runner.world_size} process(es), but there are {images} photos')


def check_schedules(run: Run, runner: Runner) -> Iterator[Finding]:
    """Schedules that do not fit the length of the run."""
    written = runner.cfg.get('param_scheduler') or []
    epochs = runner.max_epochs if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
    for item in [written] if isinstance(written, dict) else written:
        for problem in schedule_problems(item, epochs, runner.train_loop.max_iters):
            yield warning(f'param_scheduler: {item["type"]}{problem}')


def schedule_problems(item: dict, epochs: int | None, iters: int) -> Iterator[str]:
    """Parts of a schedule that do not fit a run of ``epochs`` (None for one that counts iterations) or ``iters``."""
    by_epoch, begin = item.get('by_epoch', True), item.get('begin', 0)
    if by_epoch and epochs is None:
        yield ' steps once per epoch, but train_cfg counts iterations: it never steps; set by_epoch=False'
        return
    total, unit = (epochs or 0, 'epochs') if by_epoch else (iters, 'iterations')
    length = min(item.get('end', total), total) - begin
    if begin >= total:
        yield f'.begin is {begin}, but the run has {total} {unit}: it never steps; set it lower'
        return
    for name in ('T_max', 'total_steps'):
        if item.get(name, length) != length:
            yield f'.{name} is {item[name]}, but it runs for {length} {unit}; set it to {length}'
    step = item.get('step_size', 0)
    if step >= length:
        yield f'.step_size is {step}, but it runs for {length} {unit}: the lr never drops; set it lower'
    elif step and not by_epoch and epochs and step <= epochs < iters / 3:
        yield f'.step_size {step} looks like epochs, but it runs for {length} {unit}; set by_epoch=True'
    if late := [mark for mark in item.get('milestones', ()) if begin + mark >= total]:
        yield f'.milestones {late} are not before the end of {total} {unit}: the lr never drops there; set them lower'


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
        source = '--cfg-options' if key in run.options else Path(origin(runner.cfg.filename, key)).name
        yield warning(
            f'{key}: {runner.cfg.optim_wrapper.optimizer.get("lr")} (from {source}), peak {peak:.3g}, is for training '
            f'from scratch: {kind} with {batch} photos per step destroys pretrained weights; '
            f'stay below {limit:.2g}, e.g. --cfg-options {key}={limit / 10:.1g}'
        )


def check_from_scratch(run: Run, runner: Runner) -> Iterator[Finding]:
    """Training from scratch on few images."""
    cfg, images = runner.cfg, len(runner.train_dataloader.dataset)
    whole = cfg.model.get('pretrained') or 'Pretrained' in str(cfg.model.get('init_cfg'))
    if run.needs_pretrained and images < SMALL and not (cfg.get('pretrained') or whole or runner._load_from):
        yield warning(
            f'model.backbone.init_cfg: no pretrained weights, so everything is learned from {images} photos; '
            'fetch some with: python tools/fetch_weights.py NAME'
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
        for kind, key in METRIC_KEYS.items()
        if isinstance(hook, kind)
    ]
    measured = [one for one in schedules_of(runner) if isinstance(one, ReduceOnPlateauParamScheduler)]
    wanted += [('param_scheduler.monitor', schedule.monitor) for schedule in measured]
    for key, name in wanted:
        if metrics and isinstance(name, str) and name not in ('auto', *metrics):
            near = difflib.get_close_matches(name, sorted(metrics), n=1, cutoff=0.5)
            hint = f'; did you mean {near[0]}?' if near else ''
            yield error(f'{key}: validation gives no {name!r}, but {", ".join(sorted(metrics))}{hint}')


def try_batches(runner: Runner) -> tuple[dict[str, float], list[Finding]]:
    """Sends a few images of each loader through a copy of the model, as validation and training do.

    The images are read in this process, without sampler and workers. All random states are left as they were.

    Returns:
        The metrics of so few images, of which only the names count; and the findings.
    """
    model: Any = copy.deepcopy(runner.model.module if is_model_wrapper(runner.model) else runner.model)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    metrics: dict[str, float] = {}
    findings: list[Finding] = []
    with errors_added(findings), random_state_kept(), torch.random.fork_rng(devices=devices), torch.no_grad():
        if runner.val_loop is not None:
            metrics = _try_validation(runner, model.eval())
        findings += _try_training(runner, model.train())
    return metrics, findings


def _try_validation(runner: Runner, model: Any) -> dict[str, float]:
    """The metrics of one batch."""
    batch = _batch(runner.val_dataloader, 1, 'val_dataloader')
    evaluator = copy.deepcopy(runner.val_loop.evaluator)
    with as_configured('one batch of val_dataloader through model and val_evaluator'):
        outputs = model.val_step(batch)
        if not all(torch.isfinite(sample.pred_score).all() for sample in outputs if 'pred_score' in sample):
            raise InputError('one batch of val_dataloader: scores are not finite; look at the weights')
        evaluator.process(data_samples=outputs, data_batch=batch)
        return evaluator.evaluate(len(outputs))


def _batch(loader: Any, at_least: int, name: str) -> Any:
    """A few images spread over the loader's dataset, as the loader would join them."""
    dataset = loader.dataset
    count = min(max(min(loader.batch_size or 1, TRIED), at_least), len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).round()
    with as_configured(f'photos of {name} through dataset.pipeline and collate_fn'):
        return loader.collate_fn([dataset[int(place)] for place in places])


def _try_training(runner: Runner, model: Any) -> Iterator[Finding]:
    """Labels, input range and loss of one batch, and whether the last batch of an epoch is too small."""
    loader = runner.train_dataloader
    batch = _batch(loader, 2, 'train_dataloader')
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    labels = {int(label) for sample in batch.get('data_samples') or () for label in sample.gt_label.flatten()}
    if wrong := sorted(label for label in labels if classes and not 0 <= label < classes):
        # On a GPU these end the run with an error that does not name them.
        raise InputError(f'train_dataloader: labels {wrong}, but model.head.num_classes is {classes}')
    with as_configured('one batch of train_dataloader through model'), runner.optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    inputs = data['inputs']
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        spread, largest = float(inputs.float().std()), float(inputs.float().abs().max())
        if spread < 0.05 or largest > 20:  # ImageNet's values give 1 and under 3
            found = f'standard deviation {spread:.3g}, values up to {largest:.3g}'
            yield error(f'data_preprocessor: the input has {found}; about 1 and 3 are usual: correct mean and std')
    if not torch.isfinite(loss):
        yield error(f'one batch of train_dataloader: its loss is {float(loss)}; look at the weights, mean and std')
    share = math.ceil(len(loader.dataset) / runner.world_size)
    batch_size = loader.batch_size or share
    if not loader.drop_last and (share % batch_size or batch_size) == 1:
        problem = f'train_dataloader.batch_size: {batch_size} of {share} photos leaves a batch of one'
        with as_configured(problem, 'take another size, or set train_dataloader.drop_last=True'):
            model(**model.data_preprocessor(loader.collate_fn([loader.dataset[0]]), True), mode='loss')


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
