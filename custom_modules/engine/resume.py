"""Resuming a run: the checkpoint to continue from, the renaming of others, the schedules, the command that resumes.

Other parts of a resume are where its states are:

- ``training.py`` finds the checkpoint by this module, ``preflight.py: check_checkpoint`` compares it with the config,
  and ``runner.py: PreparedRunner.load_checkpoint`` takes it from there, so it is loaded once.
- ``loops.py`` has the loops that skip the batches which are trained already.
- ``hooks/mid_epoch_checkpoint_hook.py`` saves in the middle of an epoch: batches done, sums per process, gradients.
- ``hooks/seed_hook.py`` derives random numbers from epoch and iteration, so that no random state has to be saved.
- ``hooks/best_checkpoint_hook.py``, ``curves_hook.py`` and ``resumable_early_stopping_hook.py`` keep their states in
  checkpoints. ``hooks/validate_on_resume_hook.py`` repeats the validation that a checkpoint is older than.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import Runner

from custom_modules.engine.effective_settings import SimulatedSchedules, iterations_done, schedules_of
from custom_modules.engine.loops import counts_epochs
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import (
    CorruptCheckpointError,
    checkpoints_by_progress,
    load_checkpoint,
    progress,
)

# A schedule's attributes that change as it is stepped: with the steps, and with the metric that it follows.
STEPPED = {'optimizer', 'last_step', '_global_step', '_last_value', 'anneal_func', 'verbose'}
MEASURED = {'last_step', 'best', 'cooldown_counter', 'num_bad_epochs'}


@dataclass(frozen=True)
class FoundCheckpoint:
    """A loaded checkpoint to resume from, and the files that are renamed for it."""

    path: Path
    checkpoint: dict
    others: dict[Path, str] = field(default_factory=dict)  # why each is renamed: 'corrupt' or 'later'


def find_checkpoint(work_dir: Path, wanted: str) -> FoundCheckpoint | None:
    """The checkpoint to go on from, verified. Changes nothing.

    Args:
        work_dir: The run's.
        wanted: A path, or ``'auto'`` for the newest whole one in ``work_dir``.

    Returns:
        None if ``wanted`` is ``'auto'`` and there is none.

    Raises:
        InputError: It cannot be loaded, or with ``'auto'`` all are corrupt.
    """
    others: dict[Path, str] = {}
    if wanted != 'auto':
        path = Path(wanted)
        checkpoint = load_checkpoint(path)
        if path.resolve().parent == work_dir.resolve():
            newer = (other for other in checkpoints_by_progress(work_dir) if progress(other) > progress(path))
            others = dict.fromkeys(newer, 'later')
        return FoundCheckpoint(path, checkpoint, others)
    for path in reversed(checkpoints_by_progress(work_dir)):
        try:
            return FoundCheckpoint(path, load_checkpoint(path), others)
        except CorruptCheckpointError:
            others[path] = 'corrupt'
    if others:
        names = ', '.join(path.name for path in others)
        raise InputError(f'{work_dir}: no checkpoint in it is whole ({names}). Start again in another --work-dir.')
    return None


def set_others_aside(work_dir: Path, found: FoundCheckpoint | None) -> list[str]:
    """Renames what no later resume must take; returns a line on each.

    These are corrupt and later checkpoints, or the ``best.pth`` of an earlier run without a checkpoint.
    """
    best = work_dir / 'best.pth'
    others = found.others if found else {best: 'earlier'} if best.exists() else {}
    return [f'{path} is {why}: kept as {_set_aside(path, why).name}' for path, why in others.items()]


def _set_aside(path: Path, why: str) -> Path:
    """Renames ``path`` to a free name that begins with its own and ends in ``why``; returns that."""
    free = path.with_name(f'{path.name}.{why}')
    number = 1
    while free.exists():
        number += 1
        free = path.with_name(f'{path.name}.{why}{number}')
    return path.rename(free)


def continue_schedules(runner: Runner, planned: SimulatedSchedules) -> str | None:
    """Moves changed schedules to where a run with this config would have them, as one with more epochs.

    MMEngine takes all settings of a schedule from the checkpoint, its end too. Does nothing if none has changed.

    Args:
        runner: A run that has loaded its checkpoint.
        planned: Its schedules as they were before.

    Returns:
        A line on the learning rate, if a run with this config from the start had another one so far.
    """
    schedules, done = schedules_of(runner), iterations_done(runner)
    pairs = list(zip(schedules, planned.schedules, strict=True))
    differ = [copy for schedule, copy in pairs if _settings(schedule) != _settings(copy)]
    if not differ:
        return None
    groups = runner.optim_wrapper.param_groups
    before, logged = groups[0]['lr'], runner.message_hub.log_scalars.get('train/lr')
    rates = [planned.groups[0]['lr'] for _ in planned.iterations(0, done, runner.epoch)]
    runner.param_schedulers = planned.schedules
    for schedule, copy in pairs:
        copy.optimizer = runner.optim_wrapper
        if _follows_metric(copy):
            vars(copy).update({name: vars(schedule)[name] for name in MEASURED})
    changed = 'param_scheduler: differs from the checkpoint. The learning rate continues at'
    if any(map(_follows_metric, schedules)):
        as_planned = all(map(_follows_metric, differ))
        return None if as_planned else f'{changed} {before:.3g}, because one schedule follows a metric'
    scheduled = {schedule.param_name for schedule in schedules}
    names = {f'{prefix}{name}' for name in scheduled for prefix in ('', 'initial_', 'min_', 'max_')}
    for group, copied in zip(groups, planned.groups, strict=True):
        group.update({name: value for name, value in copied.items() if name in names})
    past = logged.data[0] if logged else []
    if len(past) == done and np.allclose(past, rates[:-1], atol=0):
        return None
    length = f'{runner.max_epochs} epochs' if counts_epochs(runner) else f'{runner.max_iters} iterations'
    so_far = f'in the checkpoint it is {before:.3g}, and it was another so far'
    return f'{changed} {rates[-1]:.3g}, as in a run of {length} from the start; {so_far}'


def _follows_metric(schedule: Any) -> bool:
    return isinstance(schedule, ReduceOnPlateauParamScheduler)


def _settings(schedule: Any) -> dict[str, Any]:
    """What the config decides of a schedule."""
    return {name: value for name, value in vars(schedule).items() if name not in STEPPED | MEASURED}


def resume_command(argv: Sequence[str], launcher: str) -> str:
    """The command line that goes on with a stopped training.

    Args:
        argv: The one it was started with: the program, then its arguments.
        launcher: Its ``--launcher``.
    """
    program, *arguments = argv
    if '--resume' in arguments:
        at = arguments.index('--resume')
        named = at + 1 < len(arguments) and not arguments[at + 1].startswith('-')
        del arguments[at : at + 1 + named]
    arguments = [argument for argument in arguments if not argument.startswith('--resume=')]
    flag = ['--resume']
    if '--' in arguments:  # after it, argparse takes nothing as a flag
        at = arguments.index('--')
        flag, arguments = ['--resume=auto', *arguments[at:]], arguments[:at]
    return f'{_starter(launcher)} {shlex.join([program, *arguments, *flag])}'


def _starter(launcher: str) -> str:
    """The command that starts the processes of a run as they were started."""
    get = os.environ.get
    if launcher == 'slurm':
        return f'srun --ntasks {get("SLURM_NTASKS", 1)} python'
    if launcher == 'mpi':
        return f'mpirun -n {get("OMPI_COMM_WORLD_SIZE", 1)} python'
    if launcher == 'none':
        return 'python'
    words = ['torchrun', '--nproc_per_node', get('LOCAL_WORLD_SIZE', '1')]
    if get('GROUP_WORLD_SIZE', '1') != '1':
        words += ['--nnodes', get('GROUP_WORLD_SIZE', ''), '--node_rank', get('GROUP_RANK', '0')]
        words += ['--master_addr', get('MASTER_ADDR', '127.0.0.1')]
    if get('MASTER_PORT', '29500') != '29500':
        words += ['--master_port', get('MASTER_PORT', '')]
    return shlex.join(words)
