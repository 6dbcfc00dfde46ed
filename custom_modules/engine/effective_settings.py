"""What a run really does, as it was built and not as it was written: one table, and the course of its learning rate.

Nothing of the run is changed, and nothing is judged.
"""

import copy
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from custom_modules.engine.linear_probe_loop import LinearProbeLoop

MAX_STEPS = 200_000  # what is simulated at most: about a second


class Course(NamedTuple):
    """The learning rate of the fastest parameter group at the first step of a run, its peak, and the last step."""

    first: float
    peak: float
    last: float | None  # None where it depends on what is measured, or the run is too long to be followed


def lr_course(runner: Runner) -> Course:
    """Follows the built schedules from where the run stands to its end, on copies of them and of one group."""
    groups = runner.optim_wrapper.param_groups
    number = max(range(len(groups)), key=lambda i: groups[i]['lr'])
    group = {key: value for key, value in groups[number].items() if key != 'params'}

    def step() -> None: ...

    step._with_counter = True  # type: ignore[attr-defined]  # what a schedule asks of an optimizer
    optimizer = SimpleNamespace(param_groups=[group], step=step, _global_step=0)
    schedules = []
    for schedule in runner.param_schedulers if isinstance(runner.param_schedulers, list) else ():
        if not isinstance(schedule, _ParamScheduler):
            continue
        one = copy.copy(schedule)
        for name, value in vars(schedule).items():
            if isinstance(value, list) and len(value) == len(groups):
                setattr(one, name, [value[number]])  # base_values, …: one for each group
        one.optimizer, one.verbose = optimizer, False
        schedules.append(one)
    measured = any(isinstance(schedule, ReduceOnPlateauParamScheduler) for schedule in schedules)
    schedules = [schedule for schedule in schedules if not isinstance(schedule, ReduceOnPlateauParamScheduler)]
    by_step = [schedule for schedule in schedules if not schedule.by_epoch]
    by_epoch = [schedule for schedule in schedules if schedule.by_epoch]

    first = peak = last = float(group['lr'])
    length = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else math.inf
    steps = runner.train_loop.max_iters - runner.iter
    for number_done in range(1, min(steps, MAX_STEPS) + 1):
        last = float(group['lr'])
        peak = max(peak, last)
        for schedule in by_step:
            schedule.step()
        if number_done % length == 0:
            for schedule in by_epoch:
                schedule.step()
    return Course(first, peak, None if measured or steps > MAX_STEPS else last)


def effective_settings(runner: Runner, course: Course, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of each row of the table.

    Args:
        runner: A run that is built and about to train.
        course: Of its learning rate.
        metrics: The names of what its validation gives.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loop = runner.train_loop
    loader = runner.train_dataloader
    wrapper = runner.optim_wrapper
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    parts = [getattr(model, name, None) for name in ('backbone', 'neck', 'head')]
    optimizer = wrapper.optimizer
    shown = {
        key: value for key, value in optimizer.defaults.items() if value and key not in ('lr', 'foreach', 'fused')
    }
    accumulated = getattr(wrapper, '_accumulative_counts', 1)
    batch, processes = loader.batch_size or 0, get_world_size()
    rows = [
        ('model', ' → '.join(_short_name(part) for part in parts if part is not None) or _short_name(model)),
        (
            'parameters',
            f'{sum(n for n, trained in sizes if trained):,} trainable of {sum(n for n, _ in sizes):,}',
        ),
        ('weights', runner.cfg.get('pretrained') or 'none: trained from scratch'),
    ]
    if runner._load_from:
        rows.append(('loaded', f'{runner._load_from}{" (resumed)" if runner._resume else ""}'))
    classes = loader.dataset.metainfo.get('classes') if hasattr(loader.dataset, 'metainfo') else None
    if classes:
        rows.append(('classes', f'{len(classes)}: {", ".join(map(str, classes))}'))
    rows.append(('train photos', _counts(loader.dataset, classes)))
    if runner.val_loop is not None:
        rows.append(('val photos', _counts(runner.val_dataloader.dataset, classes)))
    if isinstance(loop, LinearProbeLoop):
        rows.append(('training', f'none: a linear probe solves the head, penalty {loop.l2}'))
    else:
        rows += [
            (
                'batch',
                f'{batch} × {processes} process{"es" * (processes > 1)} × {accumulated} accumulated = '
                f'{batch * processes * accumulated} photos a step',
            ),
            ('optimizer', ', '.join([type(optimizer).__name__, *(f'{key} {value}' for key, value in shown.items())])),
            ('lr groups', _groups(wrapper.param_groups)),
            ('lr', _lr(course, runner)),
            ('length', _length(loop, loader)),
        ]
    rows.append(('train pipeline', _pipeline(loader.dataset)))
    if runner.val_loop is not None:
        rows += [
            ('val pipeline', _pipeline(runner.val_dataloader.dataset)),
            ('metrics', ', '.join(metrics)),
        ]
    device = next(model.parameters()).device
    amp = type(wrapper).__name__ == 'AmpOptimWrapper'
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    rows += [
        ('input', _input(model)),
        ('device', f'{device}, {"mixed precision" if amp else "float32"}{threads}, {loader.num_workers} workers'),
        ('seed', str(runner.seed)),
    ]
    return rows


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
    """A time as one would say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _short_name(part: nn.Module) -> str:
    """``ResNet-18``; with the arguments that tell one model from its kin."""
    depth = getattr(part, 'depth', None)
    return type(part).__name__ + (f'-{depth}' if isinstance(depth, int) else '')


def _counts(dataset: Any, classes: Sequence[str] | None) -> str:
    """``457: daisy 94, …``."""
    labels = dataset.get_gt_labels().tolist() if hasattr(dataset, 'get_gt_labels') else []
    if not classes or not labels or len(classes) > 20:
        return str(len(dataset))
    counted = Counter(labels)
    return f'{len(dataset)}: {", ".join(f"{name} {counted[label]}" for label, name in enumerate(classes))}'


def _groups(groups: Sequence[dict]) -> str:
    """``1`` or ``157: lr × 0.1 (61), × 1 (96)``: how many, by their rate relative to the highest."""
    highest = max(group['lr'] for group in groups) or 1
    counted = Counter(group['lr'] / highest for group in groups)
    if len(counted) == 1:
        return f'{len(groups)}, all with the same lr'
    kinds = sorted(counted.items())[:6]
    return f'{len(groups)}: ' + ', '.join(f'lr × {share:.3g} ({number})' for share, number in kinds)


def _lr(course: Course, runner: Runner) -> str:
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    names = ', '.join(type(schedule).__name__ for schedule in schedules) or 'constant'
    last = 'depends on validation or lies too far ahead' if course.last is None else f'{course.last:.3g}'
    return f'first {course.first:.3g}, peak {course.peak:.3g}, last {last} ({names})'


def _length(loop: Any, loader: Any) -> str:
    if isinstance(loop, EpochBasedTrainLoop):
        return f'{loop.max_epochs} epochs × {len(loader)} iterations = {loop.max_iters}'
    return f'{loop.max_iters} iterations'


def _pipeline(dataset: Any) -> str:
    """``RandomResizedCrop(224), RandomFlip(0.5)``: the transforms, each with what sets it apart."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    shown = []
    for step in steps:
        values = [getattr(step, name, None) for name in ('scale', 'crop_size', 'degrees', 'prob', 'flip_prob')]
        given = [_number(value) for value in values if value is not None and value != 1.0]
        shown.append(type(step).__name__ + (f'({", ".join(given)})' if given else ''))
    return ', '.join(shown)


def _number(value: Any) -> str:
    """A size or probability; one number for a square."""
    if isinstance(value, tuple | list) and len(set(value)) == 1:
        value = value[0]
    return f'{value:g}' if isinstance(value, int | float) else str(value)


def _input(model: nn.Module) -> str:
    """How the preprocessor normalises."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean = getattr(preprocessor, 'mean', None)
    order = (
        'RGB' if getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', 0) else 'BGR'
    )
    if mean is None:
        return f'{order}, not normalised'
    assert preprocessor is not None
    numbers = [', '.join(f'{value:g}' for value in part.flatten().tolist()) for part in (mean, preprocessor.std)]
    return f'{order}, mean {numbers[0]}, std {numbers[1]}'
