"""The checkpoint that a run resumes from, the renaming of others, and the command that resumes."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.models.checkpoints import (
    CorruptCheckpointError,
    checkpoints_by_progress,
    load_checkpoint,
    progress,
)


@dataclass(frozen=True)
class FoundCheckpoint:
    """A loaded checkpoint to resume from, and the files that are renamed for it."""

    path: Path
    checkpoint: dict
    corrupt: tuple[Path, ...] = ()
    later: tuple[Path, ...] = ()

    def set_others_aside(self) -> list[str]:
        """Renames corrupt and later checkpoints, so that no later resume takes one; a line on each."""
        lines = []
        for path in self.corrupt:
            kept = set_aside(path, 'corrupt').name
            lines.append(f'warning: {path} is corrupt: kept as {kept}, the one before is used')
        for path in self.later:
            lines.append(f'{path} is of the run before: kept as {set_aside(path, "later").name}')
        return lines


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
    there = checkpoints_by_progress(work_dir)
    if wanted != 'auto':
        path = Path(wanted)
        checkpoint = load_checkpoint(path)
        if path.resolve().parent != work_dir.resolve():
            return FoundCheckpoint(path, checkpoint)
        later = [other for other in there if progress(other) > progress(path)]
        return FoundCheckpoint(path, checkpoint, later=tuple(later))
    corrupt: list[Path] = []
    for path in reversed(there):
        try:
            return FoundCheckpoint(path, load_checkpoint(path), corrupt=tuple(corrupt))
        except CorruptCheckpointError:
            corrupt.append(path)
    if corrupt:
        names = ', '.join(path.name for path in corrupt)
        raise InputError(f'{work_dir}: no checkpoint in it is whole ({names}); start again in another --work-dir')
    return None


def set_aside(path: Path, why: str) -> Path:
    """Renames ``path`` to a free name that begins with its own; returns that."""
    free = path.with_name(f'{path.name}.{why}')
    number = 1
    while free.exists():
        number += 1
        free = path.with_name(f'{path.name}.{why}{number}')
    return path.rename(free)


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
    words = [program, *arguments, '--resume']
    starter = {'slurm': 'srun … python', 'mpi': 'mpirun … python'}.get(launcher, 'python')
    if launcher == 'pytorch':
        starter = f'torchrun --nproc_per_node {os.environ["LOCAL_WORLD_SIZE"]}'
        if os.environ['GROUP_WORLD_SIZE'] != '1':
            starter += f' --nnodes {os.environ["GROUP_WORLD_SIZE"]} …'
    return f'{starter} {shlex.join(words)}'
