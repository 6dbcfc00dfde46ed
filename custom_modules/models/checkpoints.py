"""Checkpoint files: written whole or not at all, loaded without running code.

Once ``custom_modules.register`` is imported, MMEngine uses these functions too.
"""

import hashlib
import io
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend

from custom_modules.errors import InputError
from custom_modules.files import sha256_of, write_atomically
from custom_modules.models.weights_catalogue import require_file
from custom_modules.upstream import patch_upstream


def save_atomically(checkpoint: dict, path: Path) -> None:
    """Writes a checkpoint whole or not at all."""
    content = io.BytesIO()  # torch, writing to a full disk itself, would hide that behind an error of its own
    torch.save(checkpoint, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


class CorruptCheckpointError(InputError):
    """A checkpoint that was not written to its end, or that the disk has not kept; ``reason`` is what shows it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f'{path}: corrupt, or no checkpoint ({reason}). Take another one.')


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but written whole or not at all: upstream writes checkpoints in place."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, whose folder is made if need be."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(obj))


def load_checkpoint(filename: str | Path, map_location: Any = 'cpu') -> dict:
    """Loads a local checkpoint as data: whatever would run code is refused.

    Returns:
        What the file holds: ``state_dict``, ``meta``, … or the bare state dict of other projects.

    Raises:
        CorruptCheckpointError: The file is cut short, or not what was once written.
        InputError: The file is missing, no checkpoint, not what its name says, or would run code.
    """
    patch_upstream()
    path = Path(filename).expanduser()
    require_file(path)
    if (named := named_hash(path)) and not (sha256 := sha256_of(path)).startswith(named):
        found = f'its sha256 begins with {sha256[:8]}, not {named} as its name says'
        raise InputError(f'{path}: damaged, or another file: {found}. Get it again.')
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r'global:? (?:GLOBAL )?([\w.]+)', str(error), re.IGNORECASE)
        what = f'it would run code ({unsafe[1]})' if unsafe else 'it is no checkpoint, or it would run code'
        raise InputError(f'{path}: not loaded, {what}. Use a file from a source you trust, or train again.') from error
    except Exception as error:  # fed with garbage, torch raises almost anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptCheckpointError(path, first) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{path}: holds a {type(checkpoint).__name__}, not a checkpoint')
    for key in ('state_dict', 'meta'):
        if not isinstance(part := checkpoint.get(key, {}), dict):
            raise InputError(f'{path}: its {key} is a {type(part).__name__}: no checkpoint. Take another one.')
        if not all(isinstance(name, str) for name in part):
            raise InputError(f'{path}: its {key} has keys that are no names: no checkpoint. Take another one.')
    return checkpoint


# Names of published files end in the first digits of their sha256 (OpenMMLab, torchvision, tools/publish.py).
_NAMED_HASH = re.compile(r'.*-(?!(?:19|20)\d{6}\.)([0-9a-f]{8})\.pth')


def named_hash(path: Path) -> str | None:
    """The first digits of a published file's sha256 as its name gives them; None for other names."""
    found = _NAMED_HASH.fullmatch(path.name)
    return found and found[1]


def check_archive(path: Path) -> None:
    """Makes sure that a file in torch's zip format is whole and no larger inside than outside.

    torch itself compares no checksums: a flipped bit becomes another weight. It writes no compressed entries; one
    could fill the memory when read (a zip bomb).

    Raises:
        CorruptCheckpointError: A checksum is wrong, or the directory at the end is missing.
        InputError: An entry is compressed, or the entries together are larger than the file.
    """
    try:
        with path.open('rb') as file:
            if file.read(4) != b'PK\x03\x04':
                return  # torch's format before 1.6, or no checkpoint: torch.load finds out
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                larger = sum(entry.file_size for entry in entries) > path.stat().st_size
                bomb = larger or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
                broken = None if bomb else archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise CorruptCheckpointError(path, str(error)) from error
    if bomb:
        raise InputError(f'{path}: not loaded, larger inside than outside (a zip bomb?). Use a file that you trust.')
    if broken is not None:
        raise CorruptCheckpointError(path, f'wrong checksum of {broken}')


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of what a state dict holds, keys and bytes, in whatever order and layout it holds them."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


NUMBERED = re.compile(r'(?:epoch_(?P<epoch>\d+)(?:_iter_(?P<iter>\d+))?|iter_\d+)\.pth')


def checkpoints_by_progress(work_dir: Path) -> list[Path]:
    """The checkpoints of a run that it can be resumed from, the newest last.

    Names decide, not upstream's ``last_checkpoint`` file, which can be corrupt: ``epoch_3.pth`` is older than
    ``epoch_3_iter_700.pth`` from the middle of the fourth epoch, which is older than ``epoch_4.pth``.
    """
    return sorted((path for path in work_dir.glob('*.pth') if NUMBERED.fullmatch(path.name)), key=progress)


def progress(path: Path) -> tuple[float, int]:
    """Whole epochs and, in the middle of one, iterations in all; read from the file where its name lacks the epoch."""
    name = NUMBERED.fullmatch(path.name)
    if name and name['epoch']:
        return int(name['epoch']), int(name['iter'] or 0)
    try:
        meta = load_checkpoint(path).get('meta') or {}
    except CorruptCheckpointError:
        return math.inf, 0  # as if the newest, so that it is reported
    return meta.get('epoch', 0), meta.get('iter', 0)


def newest_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint of a run to resume from; None without any. Loading it shows whether it is whole."""
    return next(reversed(checkpoints_by_progress(work_dir)), None)


def saved_classes(checkpoint: dict) -> list[str]:
    """The class names that a checkpoint holds, in label order; empty without any."""
    meta = checkpoint.get('meta') or {}
    for part in (meta, meta.get('dataset_meta')):
        names = part.get('classes') if isinstance(part, dict) else None
        if isinstance(names, list | tuple) and names:
            return list(names) if all(isinstance(name, str) for name in names) else []
    return []


def checkpoint_classes(checkpoint: dict, name: str) -> list[str]:
    """The class names that a checkpoint was trained for, in label order.

    Raises:
        InputError: It holds none, for guessed names would be worse than none (mmpretrain #1091), or one of them twice.
    """
    classes = saved_classes(checkpoint)
    if not classes:
        raise InputError(f'{name}: holds no class names for its scores. Give a best.pth or epoch_N.pth.')
    if twice := sorted({item for item in classes if classes.count(item) > 1}):
        raise InputError(f'{name}: has more than one class called {", ".join(twice)}. Give a best.pth or epoch_N.pth.')
    return classes
