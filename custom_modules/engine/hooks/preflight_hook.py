"""Between building and the first step: the effective settings, and what only the built run shows to be wrong.

What config, dataset and weights show before anything is built is found by preflight.py.
"""

import difflib
import math
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EarlyStoppingHook, Hook, LoggerHook
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from custom_modules.datasets.annotation import SPLIT_NAMES
from custom_modules.engine.config_sources import origin
from custom_modules.engine.effective_settings import Course, duration, effective_settings, lr_course, table
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.linear_probe_loop import LinearProbeLoop
from custom_modules.engine.preflight import Findings
from custom_modules.engine.trial import seconds_per_step, try_batches
from custom_modules.errors import as_configured
from custom_modules.files import sha256_of

SMALL = 10_000  # training photos below which training from scratch is hardly ever meant
LEAKED = 0.02  # share of the validation photos in training from which on the split is taken to be broken
# Learning rates from which on pretrained weights are lost. SGD with momentum: .01 at batch 32 still reached 97 % on
# these photos, .045 destroyed the weights in an epoch, and ImageNet's recipe from scratch has .1 at batch 256: hence
# .02 at batch 32, growing with the root of the batch. Adam divides by the gradient's size, so the batch hardly
# matters: 1e-3 is report 1's, and thrice that is for training from scratch.
SGD_LIMIT, ADAM_LIMIT = 0.02, 0.003
TIMED = 10  # iterations


class DryRunDone(Exception):
    """Ends a dry run where training would begin."""


class PreflightHook(Hook):
    """Looks at the built run before its first step, and tells how long it will take after ten iterations.

    Not registered: tools/train.py adds it itself.

    Args:
        findings: What was found before the run was built; more is added.
        options: ``--cfg-options``, to say where a value comes from. Defaults to ``None``.
        dry_run: Whether to stop after it, by :class:`DryRunDone`. Defaults to ``False``.
        from_scratch: Whether training without pretrained weights is meant. Defaults to ``False``.
    """

    priority = 'HIGHEST'

    def __init__(
        self, findings: Findings, options: dict | None = None, dry_run: bool = False, from_scratch: bool = False
    ) -> None:
        self.findings = findings
        self.options = options or {}
        self.dry_run = dry_run
        self.from_scratch = from_scratch
        self._began: float | None = None
        self._told = False

    def before_train(self, runner: Runner) -> None:
        """Checks, prints the table and the findings, and tries one batch of each side."""
        findings = self.findings
        check_built_datasets(runner, findings)
        check_length(runner, findings)
        check_schedules(runner, findings)
        with as_configured('param_scheduler'):
            course = lr_course(runner)
        self._check_lr(runner, course)
        self._check_weights(runner)
        metrics: dict[str, float] = {}
        if not findings.errors:
            with findings.collected():
                metrics, problems = try_batches(runner)
                findings.errors += problems
                findings.errors += unknown_metrics(runner, metrics)
        rows = effective_settings(runner, course, sorted(metrics))
        if self.dry_run and not findings.errors:
            seconds, steps = seconds_per_step(runner)
            left = seconds * (runner.train_loop.max_iters - runner.iter)
            rows.append(('time', f'{seconds:.2f} s a step ({steps} timed): {duration(left)}, validation aside'))
        runner.logger.info(f'effective settings\n{table(rows)}', extra={'whole': True})
        for note in findings.notes:
            runner.logger.info(f'note: {note}')
        for warning in findings.warnings:
            runner.logger.warning(warning)
        findings.refuse()
        if self.dry_run:
            raise DryRunDone

    def _check_lr(self, runner: Runner, course: Course) -> None:
        """Warns of a learning rate that suits training from scratch, when the weights are pretrained."""
        if not (runner.cfg.get('pretrained') or runner._load_from) or runner._resume:
            return
        if isinstance(runner.train_loop, LinearProbeLoop):  # no step of the optimizer is made
            return
        kind = type(runner.optim_wrapper.optimizer).__name__
        batch = (runner.train_dataloader.batch_size or 1) * runner.world_size
        batch *= getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        limit = {'SGD': SGD_LIMIT * math.sqrt(batch / 32)}.get(kind, ADAM_LIMIT if 'Adam' in kind else math.inf)
        if course.peak < limit:
            return
        key = 'optim_wrapper.optimizer.lr'
        lr = runner.cfg.optim_wrapper.optimizer.get('lr')
        if key in self.options:
            source = '--cfg-options'
        elif runner.cfg.get('auto_scale_lr', {}).get('enable'):
            source = '--auto-scale-lr'
        else:
            source = _short(origin(runner.cfg.filename, key)) if runner.cfg.filename else 'the config'
        peak = '' if course.peak == lr else f', peak {course.peak:.3g}'
        self.findings.warnings.append(
            f'{key}: {lr}{peak} (from {source}) is for training from scratch: with {kind} and {batch} photos a step '
            f'it destroys pretrained weights; stay below {limit:.2g}, e.g. --cfg-options {key}={limit / 10:.1g}'
        )

    def _check_weights(self, runner: Runner) -> None:
        photos = len(runner.train_dataloader.dataset)
        whole = runner.cfg.model.get('pretrained') or 'Pretrained' in str(runner.cfg.model.get('init_cfg'))
        started = runner.cfg.get('pretrained') or whole or runner._load_from or self.from_scratch
        if not started and photos < SMALL:
            self.findings.warnings.append(
                f'model.backbone.init_cfg: no pretrained weights, so all is to be learnt from {photos} photos; '
                'fetch some with: python tools/fetch_weights.py NAME'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """After the tenth iteration, or at the end of a shorter first epoch, tells how long the run will take."""
        if self._told:
            return
        if self._began is None:
            self._began, self._first = self._now(), runner.iter
            return
        done = runner.iter - self._first
        length = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else math.inf
        still = runner.train_loop.max_iters - runner.iter - 1
        if still and (done >= TIMED - 1 or batch_idx + 1 >= length):
            self._told = True
            left = (self._now() - self._began) / done * still
            runner.logger.info(f'about {duration(left)} of training left, validation aside')

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():  # twice in a run
            torch.cuda.synchronize()
        return time.perf_counter()


def check_built_datasets(runner: Runner, findings: Findings) -> None:
    """Looks at the classes that were found, the sizes, and whether photos stand on both sides."""
    sides = {'train_dataloader': runner.train_dataloader.dataset}
    if runner.val_loop is not None:
        sides['val_dataloader'] = runner.val_dataloader.dataset
    for name, dataset in sides.items():
        classes = list((getattr(dataset, 'metainfo', None) or {}).get('classes') or [])
        if split := [str(found) for found in classes if str(found).lower() in SPLIT_NAMES]:
            findings.errors.append(
                f'{name}.dataset: its classes are {", ".join(split)}: the folders of a split, not kinds of photo; '
                "point it at the folder whose subfolders are the classes, or take type='FlowerDataset' with data_root"
            )
        outputs = runner.cfg.model.get('head', {}).get('num_classes')
        if not split and classes and outputs and len(classes) != outputs:
            findings.errors.append(
                f'model.head.num_classes is {outputs}, but {name} has {len(classes)} classes '
                f'({", ".join(map(str, classes[:5]))}{", …" if len(classes) > 5 else ""})'
            )
    train = sides['train_dataloader']
    if hasattr(train, 'get_gt_labels') and (known := getattr(train, 'metainfo', {}).get('classes')):
        there = set(train.get_gt_labels().tolist())
        if missing := [str(name) for label, name in enumerate(known) if label not in there]:
            findings.warnings.append(
                f'train_dataloader.dataset: no photo of {", ".join(missing[:5])}{", …" if len(missing) > 5 else ""} '
                'to learn from, so none will ever be recognised; look at its ann_file and indices'
            )
    paths = {name: _paths(dataset) for name, dataset in sides.items()}
    if all(paths.values()) and len(paths) == 2:
        check_overlap(paths['train_dataloader'], paths['val_dataloader'], findings)


def _paths(dataset: Any) -> list[str]:
    """The photos' files, where the dataset names them."""
    try:
        return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    except (AttributeError, KeyError, TypeError):
        return []


def check_overlap(train: list[str], val: list[str], findings: Findings) -> None:
    """Compares the photos of both sides by name and by content; only files of the same size are opened."""
    sizes = defaultdict(list)
    for path in train:
        sizes[_size(path)].append(path)
    both = []
    for path in val:
        twins = sizes.get(_size(path), ())
        if path in twins or (twins and _digest(path) in {_digest(twin) for twin in twins}):
            both.append(path)
    if len(val) > len(train):
        findings.warnings.append(
            f'val_dataloader: {len(val)} photos, but only {len(train)} to train on: a broken split?'
        )
    if not both:
        return
    line = (
        f'val_dataloader: {len(both)} of its {len(val)} photos are among those trained on (e.g. {both[0]}); split the '
        'raw photos again, into a new folder: python tools/split_dataset.py PHOTOS NEW_FOLDER'
    )
    (findings.errors if len(both) >= LEAKED * len(val) else findings.warnings).append(line)


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else -1


def _digest(path: str) -> str:
    return sha256_of(Path(path)) if os.path.isfile(path) else path


def check_length(runner: Runner, findings: Findings) -> None:
    """Compares batch, epoch and intervals with each other."""
    loader, loop = runner.train_dataloader, runner.train_loop
    photos, batch = len(loader.dataset), loader.batch_size or 1
    if len(loader) == 0:
        findings.errors.append(
            f'train_dataloader.batch_size: {batch} with drop_last, but there are {photos} photos: no batch at all; '
            f'at most {photos // runner.world_size}'
        )
        return
    if batch * runner.world_size > photos:
        findings.warnings.append(
            f'train_dataloader.batch_size: {batch} on {runner.world_size} process(es), but there are {photos} photos: '
            'one smaller step an epoch'
        )
    if not isinstance(loop, EpochBasedTrainLoop):
        return
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook) and hook.interval > len(loader):
            findings.notes.append(
                f'default_hooks.logger.interval: {hook.interval} is longer than an epoch of {len(loader)} iterations: '
                'one line an epoch'
            )
    if runner.val_loop is None:
        return
    if loop.val_begin > loop.max_epochs:
        findings.warnings.append(
            f'train_cfg.val_begin: {loop.val_begin}, but the run has {loop.max_epochs} epochs: nothing is validated'
        )
    elif loop.val_interval > loop.max_epochs:
        findings.warnings.append(
            f'train_cfg.val_interval: {loop.val_interval}, but the run has {loop.max_epochs} epochs: only the last '
            'one is validated'
        )


def check_schedules(runner: Runner, findings: Findings) -> None:
    """Compares the schedules, as they were written, with the length of the run."""
    written = runner.cfg.get('param_scheduler') or []
    if isinstance(written, dict):
        written = [written] if 'type' in written else []
    epochs = runner.max_epochs if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
    single = isinstance(runner.cfg.get('param_scheduler'), dict)
    for index, item in enumerate(written):
        key = 'param_scheduler' if single else f'param_scheduler.{index}'
        findings.warnings += schedule_problems(dict(item), key, epochs, runner.train_loop.max_iters)


def schedule_problems(item: dict, key: str, epochs: int | None, iters: int) -> list[str]:
    """What in a schedule does not fit the run, a line each.

    Args:
        item: The schedule as configured.
        key: Its dotted key.
        epochs: How many epochs the run has; None for one that counts iterations.
        iters: How many iterations it has.
    """
    by_epoch = item.get('by_epoch', True)
    if by_epoch and epochs is None:
        return [f'{key}: steps once an epoch, but train_cfg counts iterations: it never steps; set by_epoch=False']
    unit, total = ('epochs', epochs) if by_epoch else ('iterations', iters)
    assert total is not None
    begin, end = item.get('begin', 0), min(item.get('end', total), total)
    named = {name: item[name] for name in ('T_max', 'step_size', 'total_steps', 'milestones', 'end') if item.get(name)}
    marks = {name: max(value) if isinstance(value, list | tuple) else value for name, value in named.items()}
    marks = {name: value for name, value in marks.items() if isinstance(value, int | float)}
    if by_epoch and marks and min(marks.values()) > 10 * total and max(marks.values()) <= 2 * iters:
        name = next(iter(marks))
        return [
            f'{key}.{name}: {named[name]} looks like iterations (the run has {iters}), but the schedule counts epochs '
            f'({epochs}): it hardly moves; set by_epoch=False'
        ]
    if not by_epoch and epochs and iters >= 3 * epochs and marks and max(marks.values()) <= 2 * epochs:
        name = next(iter(marks))
        return [
            f'{key}.{name}: {named[name]} looks like epochs (the run has {epochs}), but the schedule counts '
            f'iterations ({iters}): it is through at once; set by_epoch=True'
        ]
    if begin >= total:
        return [f'{key}.begin: {begin}, but the run has {total} {unit}: it never steps']
    problems = []
    late = [mark for mark in item.get('milestones', ()) if begin + mark >= total]
    if late:
        shown = ', '.join(map(str, late))
        problems.append(f'{key}.milestones: {shown} not before the end of {total} {unit}: the lr never drops there')
    if (length := item.get('T_max')) and length != end - begin:
        less = 'the lr stays high' if length > end - begin else 'the lr rises again'
        problems.append(
            f'{key}.T_max: {length}, but it runs for {end - begin} {unit}: {less}; set it to {end - begin}'
        )
    if (length := item.get('step_size')) and length >= end - begin:
        problems.append(f'{key}.step_size: {length}, but it runs for {end - begin} {unit}: the lr never drops')
    if (length := item.get('total_steps')) and length != end - begin:
        problems.append(f'{key}.total_steps: {length}, but it runs for {end - begin} {unit}; set it to {end - begin}')
    return problems


def unknown_metrics(runner: Runner, metrics: dict[str, float]) -> list[str]:
    """The hooks and schedules that wait for a metric which validation does not give."""
    if not metrics:
        return []
    hooks = [*enumerate(runner.cfg.get('custom_hooks') or []), *(runner.cfg.get('default_hooks') or {}).items()]
    keys = {
        hook['type']: f'{"custom" if isinstance(name, int) else "default"}_hooks.{name}'
        for name, hook in hooks
        if isinstance(hook, dict) and isinstance(hook.get('type'), str)
    }
    wanted = []
    for hook in runner.hooks:
        key = keys.get(type(hook).__name__, type(hook).__name__)
        if isinstance(hook, BestCheckpointHook):
            wanted.append((f'{key}.metric', hook.metric))
        elif isinstance(hook, EarlyStoppingHook):
            wanted.append((f'{key}.monitor', hook.monitor))
        elif isinstance(save_best := getattr(hook, 'save_best', None), str) and save_best != 'auto':
            wanted.append((f'{key}.save_best', save_best))
    for schedule in runner.param_schedulers if isinstance(runner.param_schedulers, list) else ():
        if isinstance(schedule, ReduceOnPlateauParamScheduler):
            wanted.append(('param_scheduler.monitor', schedule.monitor))
    problems = []
    for key, name in wanted:
        if name not in metrics:
            near = next(iter(difflib.get_close_matches(name, sorted(metrics), n=1, cutoff=0.5)), None)
            hint = f'; did you mean {near}?' if near else ''
            problems.append(f'{key}: validation gives no {name!r}, but {", ".join(sorted(metrics))}{hint}')
    return problems


def _short(file: str) -> str:
    """A config's path from here; upstream's from its own folder of configs."""
    _, upstream, rest = file.replace(os.sep, '/').partition('/.mim/configs/')
    if upstream:
        return f'mmpretrain::{rest}'
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file
