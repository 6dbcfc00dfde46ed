"""The effective settings of a built run as one table, and the course of its learning rate."""

import copy
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from custom_modules.engine.config_validation import origin
from custom_modules.engine.loops import LinearProbeLoop

MAX_STEPS = 200_000  # steps simulated at most, about a second


class Course(NamedTuple):
    """The learning rate of the fastest parameter group at the first step of a run, its peak, and the last step."""

    first: float
    peak: float
    last: float | None  # None where it depends on validation, or the run is too long to be simulated


def lr_course(runner: Runner) -> Course:
    """Simulates the built schedules from the current step to the end, on copies of them and of one group."""
    groups = runner.optim_wrapper.param_groups
    number = max(range(len(groups)), key=lambda i: groups[i]['lr'])
    group = {key: value for key, value in groups[number].items() if key != 'params'}

    def step() -> None: ...

    step._with_counter = True  # type: ignore[attr-defined]  # what a schedule asks of an optimizer
    optimizer = SimpleNamespace(param_groups=[group], step=step, _global_step=0)
    by_step: list[_ParamScheduler] = []
    by_epoch: list[_ParamScheduler] = []
    measured = False
    for schedule in runner.param_schedulers if isinstance(runner.param_schedulers, list) else ():
        if isinstance(schedule, ReduceOnPlateauParamScheduler):
            measured = True
        elif isinstance(schedule, _ParamScheduler):
            one = copy.copy(schedule)
            for name, value in vars(schedule).items():
                if isinstance(value, list) and len(value) == len(groups):
                    setattr(one, name, [value[number]])  # base_values, …: one for each group
            one.optimizer, one.verbose = optimizer, False
            (by_epoch if one.by_epoch else by_step).append(one)

    first = peak = last = float(group['lr'])
    length = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else math.inf
    steps = runner.train_loop.max_iters - runner.iter
    for done in range(1, min(steps, MAX_STEPS) + 1):
        last = float(group['lr'])
        peak = max(peak, last)
        for schedule in by_step if done % length else by_step + by_epoch:
            schedule.step()
    return Course(first, peak, None if measured or steps > MAX_STEPS else last)


def lr_origin(cfg: Config, options: Mapping[str, Any]) -> str:
    """Where the learning rate is set: a flag, or the name of a config file."""
    key = 'optim_wrapper.optimizer.lr'
    if key in options:
        return '--cfg-options'
    if (cfg.get('auto_scale_lr') or {}).get('enable'):
        return '--auto-scale-lr'
    file = Path(origin(cfg.filename, key))
    _, upstream, name = file.as_posix().partition('/.mim/configs/')
    if upstream:
        return f'mmpretrain::{name}'
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def effective_settings(runner: Runner, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of each row of the table.

    Args:
        runner: A run that is built and about to train.
        metrics: The names of what its validation gives.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loop, loader, wrapper = runner.train_loop, runner.train_dataloader, runner.optim_wrapper
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    parts = [getattr(model, name, None) for name in ('backbone', 'neck', 'head')]
    rows = {
        'model': ' → '.join(type(part).__name__ for part in parts if part is not None) or type(model).__name__,
        'parameters': f'{sum(n for n, trained in sizes if trained):,} trainable of {sum(n for n, _ in sizes):,}',
        'weights': runner.cfg.get('pretrained') or 'none: trained from scratch',
    }
    if runner._load_from:
        rows['loaded'] = f'{runner._load_from}{" (resumed)" if runner._resume else ""}'
    if classes := (getattr(loader.dataset, 'metainfo', None) or {}).get('classes'):
        rows['classes'] = f'{len(classes)}: {", ".join(map(str, classes))}'
    rows['train photos'] = _counts(loader.dataset, classes)
    if runner.val_loop is not None:
        rows['val photos'] = _counts(runner.val_dataloader.dataset, classes)
    if isinstance(loop, LinearProbeLoop):
        rows['training'] = f'none: a linear probe fits the head, penalty {loop.l2}'
    else:
        rows |= _training(runner)
    rows['train pipeline'] = _pipeline(loader.dataset)
    if runner.val_loop is not None:
        rows['val pipeline'] = _pipeline(runner.val_dataloader.dataset)
        rows['metrics'] = ', '.join(metrics)
    rows['input'] = _input(getattr(model, 'data_preprocessor', None))
    device = next(model.parameters()).device
    precision = 'mixed precision' if type(wrapper).__name__ == 'AmpOptimWrapper' else 'float32'
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    rows['device'] = f'{device}, {precision}{threads}, {loader.num_workers} workers'
    rows['seed'] = str(runner.seed)
    return list(rows.items())


def _training(runner: Runner) -> dict[str, str]:
    """The rows on batches, optimizer, learning rate and length."""
    loop, loader, wrapper = runner.train_loop, runner.train_dataloader, runner.optim_wrapper
    optimizer = wrapper.optimizer
    shown = [type(optimizer).__name__]
    shown += [f'{k} {v}' for k, v in optimizer.defaults.items() if v and k not in ('lr', 'foreach', 'fused')]
    accumulated = getattr(wrapper, '_accumulative_counts', 1)
    batch, processes = loader.batch_size or 0, runner.world_size
    highest = max(group['lr'] for group in wrapper.param_groups) or 1
    rates = Counter(group['lr'] / highest for group in wrapper.param_groups)
    shares = [f'{n} × lr {share:.3g}' for share, n in sorted(rates.items())]
    course = lr_course(runner)
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    names = ', '.join(type(schedule).__name__ for schedule in schedules) or 'constant'
    last = 'not known before' if course.last is None else f'{course.last:.3g}'
    epochs = isinstance(loop, EpochBasedTrainLoop)
    return {
        'batch': f'{batch} × {processes} process{"es" * (processes > 1)} × {accumulated} accumulated = '
        f'{batch * processes * accumulated} photos per step',
        'optimizer': ', '.join(shown),
        'lr groups': f'{len(wrapper.param_groups)}, '
        + (', '.join(shares[:6]) if len(shares) > 1 else 'all with the same lr'),
        'lr': f'first {course.first:.3g}, peak {course.peak:.3g}, last {last} ({names})',
        'length': (f'{loop.max_epochs} epochs × {len(loader)} iterations = ' if epochs else '') + f'{loop.max_iters}',
    }


def table(rows: Sequence[tuple[str, str]], width: int | None = None) -> str:
    """The rows as aligned text, each value wrapped to the terminal's ``width`` (columns)."""
    width = min(width or shutil.get_terminal_size((100, 24)).columns, 119)
    first = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        wrapped = textwrap.wrap(value, max(width - first, 30), break_on_hyphens=False) or ['']
        lines += [f'{name if i == 0 else "":<{first}}{part}' for i, part in enumerate(wrapped)]
    return '\n'.join(lines)


def duration(seconds: float) -> str:
    """A time in one unit: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _counts(dataset: Any, classes: Sequence[str] | None) -> str:
    """``457: daisy 94, …``."""
    labels = dataset.get_gt_labels().tolist() if hasattr(dataset, 'get_gt_labels') else []
    if not classes or not labels or len(classes) > 20:
        return str(len(dataset))
    counted = Counter(labels)
    return f'{len(dataset)}: {", ".join(f"{name} {counted[label]}" for label, name in enumerate(classes))}'


def _pipeline(dataset: Any) -> str:
    """``RandomResizedCrop(224), RandomFlip(0.5)``: the transforms with their main parameters."""
    shown = []
    for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', []):
        values = [getattr(step, name, None) for name in ('scale', 'crop_size', 'degrees', 'prob', 'flip_prob')]
        given = [_number(value) for value in values if value is not None and value != 1.0]
        shown.append(type(step).__name__ + (f'({", ".join(given)})' if given else ''))
    return ', '.join(shown)


def _number(value: Any) -> str:
    """A size or probability; one number for a square."""
    if isinstance(value, tuple | list) and len(set(value)) == 1:
        value = value[0]
    return f'{value:g}' if isinstance(value, int | float) else str(value)


def _input(preprocessor: Any) -> str:
    """How the preprocessor normalises."""
    rgb = getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', 0)
    order = 'RGB' if rgb else 'BGR'
    if getattr(preprocessor, 'mean', None) is None:
        return f'{order}, not normalised'
    mean, std = (part.flatten().tolist() for part in (preprocessor.mean, preprocessor.std))
    return f'{order}, mean {", ".join(f"{m:g}" for m in mean)}, std {", ".join(f"{s:g}" for s in std)}'
