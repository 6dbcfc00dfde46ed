"""Predicted photos put into a folder per class; the originals stay where they are."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.files import check_folder

UNSURE = 'unsure'
MODES = ('copy', 'hardlink', 'symlink')
FOLDER_NAME = re.compile(r'(?!\.{1,2}$)[^/\\\0]+')
LONGEST = 255  # bytes, of a name in any usual file system


def check_target(folder: Path) -> None:
    """Makes sure that photos can be sorted into ``folder``.

    Raises:
        InputError: It is a file, holds something, or cannot be made.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'--sort-into {folder}: exists and is not empty; name a new folder')
    if os.path.realpath(folder) == os.getcwd():
        raise InputError(f'--sort-into {folder}: is where the command is called, and cannot be replaced; name another')
    check_folder(folder.parent)


def check_names(classes: Iterable[str]) -> None:
    """Makes sure that classes can name folders; those of a stranger's model might lead out of the one to sort into.

    Raises:
        InputError: Some cannot.
    """
    if unfit := [name for name in classes if not FOLDER_NAME.fullmatch(name) or len(os.fsencode(name)) > LONGEST]:
        raise InputError(
            f'--sort-into: no folder can be called {", ".join(map(repr, unfit))}, as classes of the model are'
        )


def sort_into(folder: Path, named: Iterable[tuple[str, str]], mode: str = 'copy') -> None:
    """Copies or links photos into ``folder/<name>``; the folder appears whole or not at all.

    Photos of the same name get a number: ``a.jpg``, ``a_2.jpg``.

    Args:
        folder: Empty, or not there yet.
        named: Path of each photo and the folder's name.
        mode: 'copy', 'hardlink' or 'symlink'.

    Raises:
        InputError: No such link can be made there.
    """
    beside = folder.with_name(f'.{folder.name}.{os.getpid()}.part')
    try:
        beside.mkdir(parents=True)
        for path, name in named:
            place = beside / name
            place.mkdir(exist_ok=True)
            _put(Path(path), _free(place, Path(path)), mode)
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _free(place: Path, path: Path) -> Path:
    target, number = place / path.name, 1
    while os.path.lexists(target):
        number += 1
        target = place / f'{path.stem}_{number}{path.suffix}'
    return target


def _put(source: Path, target: Path, mode: str) -> None:
    if mode == 'copy':
        shutil.copy2(source, target)
        return
    try:
        (os.link if mode == 'hardlink' else os.symlink)(os.path.realpath(source), target)
    except OSError as error:
        raise InputError(f'{source}: no {mode} can be made there ({error.strerror}); use --mode copy') from None
