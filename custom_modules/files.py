"""Writes files and folders atomically, locks folders, and makes names printable."""

import hashlib
import os
import shlex
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from custom_modules.errors import InputError


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Lets ``write`` fill a temporary file and moves it to ``path``; until then an older file stays there.

    Raises:
        OSError: The file cannot be written; it names ``path``.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the move must not leave an empty file under the final name
        os.replace(temporary, path)
    except OSError as error:  # a full disk names no file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_folder_atomically(path: Path, fill: Callable[[Path], Any]) -> None:
    """Lets ``fill`` fill a temporary folder and moves it to ``path``; until then an older folder stays there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f'.{path.name}.{os.getpid()}.{end}') for end in ('tmp', 'old'))
    try:
        temporary.mkdir()
        fill(temporary)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: Path) -> None:
    """Raises an :class:`InputError` unless ``path`` is a folder, or can become one, that can be written in."""
    there = next(part for part in (path, *path.absolute().parents) if part.exists())
    if not there.is_dir():
        raise InputError(f'{path}: {"is" if there == path else f"{there} is"} a file, not a folder. Name another.')
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f'{path}: nothing can be written in {there}. Name another folder.')


def check_file(path: Path) -> None:
    """Raises an :class:`InputError` unless the file ``path`` of ``--out`` can be written or replaced."""
    check_folder(path.parent)
    if path.is_dir():
        raise InputError(f'--out {path}: is a folder. Name a file.')


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed processes; no other process may be writing there."""
    for path in folder.glob('.*.tmp'):
        path.unlink(missing_ok=True)


def lock_folder(path: Path) -> BinaryIO | None:
    """Makes ``path`` and locks it for this process, until the returned file is closed or the process ends.

    Raises:
        InputError: Another process has locked it.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    file = (path / '.lock').open('ab')
    try:
        # Unlike flock's, this lock is not inherited by a DataLoader's workers, which outlive a killed run by seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise InputError(f'{path}: another run is writing there. Wait for its end, or take another folder.') from None
    except OSError:  # a file system without locks
        pass
    return file


def command_line(program: str, *words: str | Path) -> str:
    """A command for a shell: words quoted where needed, a path never read as an option; Python runs a ``.py``."""
    dashed = (f'./{word}' if isinstance(word, Path) and str(word).startswith('-') else str(word) for word in words)
    return shlex.join([*['python'] * program.endswith('.py'), program, *dashed])


def printable(text: str) -> str:
    """Text that is safe for any file and terminal: undecodable bytes, line breaks and controls are escaped."""
    unsafe = ('Cc', 'Cs', 'Zl', 'Zp')
    return ''.join(c.encode('unicode_escape').decode() if unicodedata.category(c) in unsafe else c for c in text)
