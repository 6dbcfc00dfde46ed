"""Checkpoint files: written whole or not at all, loaded without running code. What goes into one is the caller's.

Importing this module makes MMEngine write and load local checkpoints so; configs name it in ``custom_imports``.
"""

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from numpy._core import multiarray

from custom_modules.engine.weights_catalogue import fetch_command
from custom_modules.errors import InputError
from custom_modules.files import write_atomically


def _history_method(cls: type, name: str) -> Callable:
    """Stands in for ``getattr``, by which a pickled ``HistoryBuffer`` names its own statistics; gives nothing else."""
    if cls is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'Unsupported global: getattr of {name!r}')
    return getattr(cls, name)


# What MMEngine's own checkpoints hold beyond torch's default allow-list (torch >= 2.6 loads with weights_only=True).
torch.serialization.add_safe_globals(
    [
        HistoryBuffer,  # message_hub: the logged scalars (mmengine #1650, #1655)
        (_history_method, '__builtin__.getattr'),  # its statistics, pickled under protocol 2 (mmengine #1655)
        (_history_method, 'builtins.getattr'),
        # A HistoryBuffer holds two arrays of numbers; numpy rebuilds them from these (mmengine #1655).
        np.ndarray,
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Int64DType,
        (multiarray._reconstruct, 'numpy._core.multiarray._reconstruct'),
        (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),  # written under numpy 1
        (multiarray.scalar, 'numpy._core.multiarray.scalar'),
        (multiarray.scalar, 'numpy.core.multiarray.scalar'),
    ]
)


def save_atomically(checkpoint: dict, path: Path) -> None:
    """Writes a checkpoint whole or not at all."""
    content = io.BytesIO()  # torch, writing to a full disk itself, would hide that behind an error of its own
    torch.save(checkpoint, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but written whole or not at all: upstream writes checkpoints in place."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, whose folder is made if need be."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(obj))


register_backend('local', AtomicLocalBackend, force=True, prefixes='')


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_checkpoint(filename: str | Path, map_location: Any = 'cpu') -> dict:
    """Loads a local checkpoint as data: whatever would run code is refused.

    Returns:
        What the file holds: ``state_dict``, ``meta``, … or the bare state dict of other projects.

    Raises:
        InputError: The file is missing, torn, no checkpoint, or would run code; one line that says which.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        fetch = fetch_command(path)
        raise InputError(f'{path}: no such file' + (f'; get it with: {fetch}' if fetch else ''))
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r'global:? (?:GLOBAL )?([\w.]+)', str(error), re.IGNORECASE)
        what = f'it would run code ({unsafe[1]})' if unsafe else 'it is no checkpoint, or it would run code'
        raise InputError(f'{path}: not loaded, {what}; use a file from a source you trust, or train again') from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'{path}: torn, or no checkpoint ({first}); take another one') from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{path}: holds a {type(checkpoint).__name__}, not a checkpoint')
    for key in ('state_dict', 'meta'):
        if not isinstance(checkpoint.get(key), dict | None):
            raise InputError(
                f'{path}: its {key} is a {type(checkpoint[key]).__name__}: no checkpoint; take another one'
            )
    return checkpoint


def newest_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint of a run to resume from: the one after the most epochs or iterations; None without any.

    Names decide, not upstream's ``last_checkpoint`` file, which is written in place and may be torn.
    """
    numbered = {
        int(match[1]): path
        for path in work_dir.glob('*.pth')
        if (match := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name))
    }
    return numbered[max(numbered)] if numbered else None


def checkpoint_classes(checkpoint: dict, name: str) -> list[str]:
    """The class names that a checkpoint was trained for, in label order.

    Raises:
        InputError: It holds none; ImageNet's or guessed names would be worse than none (mmpretrain #1091).
    """
    meta = checkpoint.get('meta') or {}
    classes = meta.get('classes') or (meta.get('dataset_meta') or {}).get('classes')
    if not classes:
        raise InputError(
            f'{name}: holds no class names, so its scores cannot be named; give a best.pth or epoch_N.pth'
        )
    return list(classes)
