"""Copies or links images into a folder per predicted class."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.files import check_folder, write_folder_atomically

FOLDER_NAME = re.compile(r'(?!\.{1,2}$)[^/\\\0]+')
LONGEST = 255  # bytes, of a name in the usual file systems


def check_target(folder: Path) -> None:
    """Raises an :class:`InputError` for a folder that is a file, is not empty, or cannot be made."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'--sort-into {folder}: exists and is not empty. Name a new folder.')
    if os.path.realpath(folder) == os.getcwd():
        raise InputError(f'--sort-into {folder}: is the current folder, which cannot be replaced. Name another.')
    check_folder(folder.parent)


def check_names(classes: Iterable[str]) -> None:
    """Raises an :class:`InputError` for class names that cannot be folders, or lead out of the target."""
    if unfit := [name for name in classes if not FOLDER_NAME.fullmatch(name) or len(os.fsencode(name)) > LONGEST]:
        raise InputError(
            f'--sort-into: no folder can be called {", ".join(map(repr, unfit))}, as classes of the model. Use --out.'
        )


def sort_photos(folder: Path, named: Iterable[tuple[str, str]], mode: str = 'copy') -> None:
    """Copies or links images, each with the name of its class, into ``folder``, which appears complete or not at all.

    Images of the same name get a number: ``a.jpg``, ``a_2.jpg``. ``mode`` is 'copy', 'hardlink' or 'symlink'.
    """

    def fill(root: Path) -> None:
        for path, name in named:
            source, target, number = Path(path), root / name / Path(path).name, 1
            target.parent.mkdir(exist_ok=True)
            while os.path.lexists(target):
                number += 1
                target = target.with_name(f'{source.stem}_{number}{source.suffix}')
            if mode == 'copy':
                shutil.copy2(source, target)
                continue
            try:
                (os.link if mode == 'hardlink' else os.symlink)(os.path.realpath(source), target)
            except OSError as error:
                raise InputError(f'{source}: no {mode} can be made ({error.strerror}). Use --mode copy.') from None

    write_folder_atomically(folder, fill)
