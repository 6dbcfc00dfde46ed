"""Checkpoint files: written whole or not at all. What goes into one is the caller's."""

import os
from pathlib import Path

import torch


def save_atomically(checkpoint: dict, path: Path) -> None:
    """Writes a checkpoint beside ``path`` and moves it into place, so that ``path`` never names a torn file.

    Args:
        checkpoint: What :func:`torch.save` is to write.
        path: Where it ends up; a file already there stays until the new one is complete.
    """
    beside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with beside.open('wb') as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the move must not leave an empty file under the final name
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
