"""Lists image files from files, folders, patterns and standard input."""

import glob
import os
from collections.abc import Iterable, Sequence

from custom_modules.errors import InputError, refuse
from custom_modules.photos.image_files import is_image_file

_SYSTEM_FILES = ('thumbs.db', 'desktop.ini', '__macosx')


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden or system file."""
    return name.startswith('.') or name.lower() in _SYSTEM_FILES


def list_photos(inputs: Sequence[str], lines: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Lists the images, and the files that are none, each once and in the order of the inputs.

    Args:
        inputs: Files, folders (searched to any depth, without hidden files), patterns such as ``'a/*.jpg'`` (``**``
            for any depth), or ``-`` for ``lines``. The files of a folder or pattern are sorted.
        lines: One path each, taken as they are.

    Raises:
        InputError: All the inputs that name nothing, or there is no image at all.
    """
    listed: dict[str, bool] = {}
    problems = []
    for item in inputs:
        if item == '-':
            found = [line.rstrip('\r\n') for line in lines if line.strip()]
        elif os.path.isdir(item):
            found = _in_folder(item)
        else:  # a name may hold the signs of a pattern
            paths = [item] if os.path.lexists(item) else sorted(glob.glob(item, recursive=True))
            found = [path for path in paths if not os.path.isdir(path)]
            if not found:
                problems.append(f'{item}: no such file or folder, and no pattern that any file matches')
        images = {path: is_image_file(path) for path in found}
        if os.path.isdir(item) and not any(images.values()):
            problems.append(f'{item}: no photos in this folder')
        listed |= images
    photos, others = ([path for path in listed if listed[path] is kind] for kind in (True, False))
    if not photos and not problems:
        problems = [f'{path}: no image' for path in others] or ['-: the list on standard input is empty']
    refuse(problems)
    return photos, others


def _in_folder(folder: str) -> list[str]:
    """The files in a folder at any depth; a linked folder is searched unless it is inside or was searched before."""

    def fail(error: OSError) -> None:
        raise InputError(f'{error.filename}: cannot be listed: {error.strerror}')

    root = os.path.realpath(folder)
    searched = {root}
    found = []
    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = os.path.join(here, name)
            target = os.path.realpath(path)
            inside = os.path.islink(path) and target.startswith(os.path.join(root, ''))
            if not (is_hidden(name) or inside or target in searched):
                searched.add(target)
                kept.append(name)
        folders[:] = kept
        found += [os.path.join(here, name) for name in names if not is_hidden(name)]
    return sorted(found)
