"""The effective settings of a built run as one table, and the course of its learning rate."""

import copy
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import Runner

from custom_modules.datasets.class_counts import folder_of, innermost, labels_of
from custom_modules.engine.loops import LinearProbeLoop, bare_model, counts_epochs
from custom_modules.engine.preflight import class_names, listed

MAX_STEPS = 500_000  # steps simulated at most, over all parameter groups: about two seconds


def schedules_of(runner: Runner) -> list[Any]:
    """The built schedules of a run; none where a config has none."""
    return runner.param_schedulers if isinstance(runner.param_schedulers, list) else []


class SimulatedSchedules:
    """Copies of a run's schedules and of its parameter groups' settings, stepped without training."""

    def __init__(self, runner: Runner) -> None:
        groups = runner.optim_wrapper.param_groups
        self.groups = [{k: v for k, v in group.items() if k != 'params'} for group in groups]
        # What a schedule asks of an optimizer: its groups, and whether its steps are counted.
        steps = SimpleNamespace(_with_counter=True)
        optimizer = SimpleNamespace(param_groups=self.groups, step=steps, _global_step=0)
        schedules = schedules_of(runner)
        self.schedules = copy.deepcopy(schedules, {id(schedule.optimizer): optimizer for schedule in schedules})
        self._length = len(runner.train_dataloader) if counts_epochs(runner) else math.inf

    def iterations(self, first: int, last: int, epochs: float = math.inf) -> Iterator[int]:
        """Steps from iteration ``first`` to ``last``, and over the end of at most ``epochs``; yields at each."""
        order = sorted(self.schedules, key=lambda schedule: schedule.by_epoch)  # as MMEngine at the end of an epoch
        yield first
        for done in range(first + 1, last + 1):
            for schedule in order:
                if not schedule.by_epoch or (done % self._length == 0 and done <= epochs * self._length):
                    schedule.step()
            yield done


def iterations_done(runner: Runner) -> int:
    """How many iterations a run has done, counted in its own epochs: a resumed one may have had other batches."""
    if not counts_epochs(runner):
        return runner.iter
    return runner.epoch * len(runner.train_dataloader) + getattr(runner.train_loop, 'first_batch', 0)


def lr_course(runner: Runner) -> list[float]:
    """The highest learning rate of any parameter group at each step from the current one on, as the schedules give it.

    They are simulated on copies. The first rate alone where one of them follows a metric; cut short for a long run.
    """
    simulated = SimulatedSchedules(runner)
    done = iterations_done(runner)
    steps = min(runner.train_loop.max_iters - done, MAX_STEPS // len(simulated.groups))
    if any(isinstance(schedule, ReduceOnPlateauParamScheduler) for schedule in simulated.schedules):
        steps = 1
    last = done + max(steps, 1) - 1
    return [max(float(group['lr']) for group in simulated.groups) for _ in simulated.iterations(done, last)]


def effective_settings(runner: Runner, metrics: Sequence[str]) -> dict[str, str]:
    """The rows of the table by name, for a run about to train whose validation gives these metrics."""
    model = bare_model(runner)
    loader, classes = runner.train_dataloader, class_names(runner.train_dataloader.dataset)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    parts = [getattr(model, name, None) for name in ('backbone', 'neck', 'head')]
    weights = runner._load_from or runner.cfg.get('pretrained') or 'none: trained from scratch'
    rows = {
        'model': ' → '.join(type(part).__name__ for part in parts if part is not None) or type(model).__name__,
        'parameters': f'{sum(n for n, trained in sizes if trained):,} trainable of {sum(n for n, _ in sizes):,}',
        'weights': f'{weights}{" (resumed)" if runner._resume else ""}',
        'classes': f'{len(classes)}: {listed(classes)}',
        'train photos': _counts(loader.dataset, classes),
    }
    if weights := ((runner.cfg.model.get('head') or {}).get('loss') or {}).get('class_weight'):
        rows['class weights'] = ', '.join(f'{name} {w:.3g}' for name, w in zip(classes, weights, strict=False))
    rows |= {**_training(runner), 'train pipeline': _pipeline(loader.dataset)}
    if runner.val_loop is not None:
        dataset = runner.val_dataloader.dataset
        rows['val photos'] = _counts(dataset, classes)
        rows |= {'val pipeline': _pipeline(dataset), 'metrics': ', '.join(metrics)}
    precision = 'mixed precision' if type(runner.optim_wrapper).__name__ == 'AmpOptimWrapper' else 'float32'
    device = f'{next(model.parameters()).device}, {precision}, {loader.num_workers} workers'
    rows |= {'input': _input(model.data_preprocessor), 'device': device, 'seed': str(runner.seed)}
    return rows | {'data': str(folder_of(loader.dataset))}


def _training(runner: Runner) -> dict[str, str]:
    """The rows on batches, optimizer, learning rate and length."""
    loop, loader, wrapper = runner.train_loop, runner.train_dataloader, runner.optim_wrapper
    if isinstance(loop, LinearProbeLoop):
        return {'training': f'none: a linear probe fits the head, penalty {loop.l2}'}
    batch, accumulated = loader.batch_size or 0, getattr(wrapper, '_accumulative_counts', 1)
    optimizer = {k: v for k, v in wrapper.optimizer.defaults.items() if v and k not in ('lr', 'foreach', 'fused')}
    rates = lr_course(runner)
    last = f'{rates[-1]:.3g}' if len(rates) >= loop.max_iters - iterations_done(runner) else 'not known before'
    names = [type(schedule).__name__ for schedule in schedules_of(runner)] or ['constant']
    epochs = f'{loop.max_epochs} epochs × {len(loader)} iterations = ' if counts_epochs(runner) else ''
    return {
        'batch': f'{batch} × {runner.world_size} process(es) × {accumulated} accumulated = '
        f'{batch * runner.world_size * accumulated} photos per step',
        'optimizer': ', '.join([type(wrapper.optimizer).__name__, *(f'{k} {v}' for k, v in optimizer.items())]),
        'lr': f'first {rates[0]:.3g}, peak {max(rates):.3g}, last {last} ({", ".join(names)})',
        'length': f'{epochs}{loop.max_iters}',
    }


def _counts(dataset: Any, classes: Sequence[str]) -> str:
    """``457: daisy 94, …``."""
    counted = Counter(labels_of(dataset))
    return f'{len(dataset)}: {listed([f"{name} {counted.get(label, 0)}" for label, name in enumerate(classes)])}'


def _pipeline(dataset: Any) -> str:
    """``LoadImageFromFile, RandomFlip(prob=0.5)``: the transforms with their main parameters."""
    shown = []
    for step in getattr(getattr(innermost(dataset), 'pipeline', None), 'transforms', []):
        settings = {name: getattr(step, name, None) for name in ('scale', 'crop_size', 'degrees', 'prob', 'flip_prob')}
        given = ', '.join(f'{name}={value}' for name, value in settings.items() if value is not None)
        shown.append(type(step).__name__ + (f'({given})' if given else ''))
    return ', '.join(shown)


def _input(preprocessor: Any) -> str:
    """``RGB, mean 123.675, …``: how the preprocessor normalises."""
    rgb = getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', 0)
    shown = ['RGB' if rgb else 'BGR']
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        shown.append(f'{name} {"none" if values is None else ", ".join(f"{v:g}" for v in values.flatten().tolist())}')
    return ', '.join(shown)


def table(rows: Mapping[str, str]) -> str:
    """The rows as aligned text, each value wrapped to the terminal's width."""
    first = max(map(len, rows)) + 2
    width = max(min(shutil.get_terminal_size((100, 24)).columns, 119), first + 30)
    wrapper = textwrap.TextWrapper(width, subsequent_indent=' ' * first, break_on_hyphens=False)
    lines = []
    for name, value in rows.items():
        wrapper.initial_indent = f'{name:<{first}}'
        lines.append(wrapper.fill(value or '–'))
    return '\n'.join(lines)
