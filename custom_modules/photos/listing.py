"""Lists image files from files, folders, patterns and standard input."""

import glob
import os
from collections.abc import Iterable, Sequence

from custom_modules.errors import InputError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


def list_photos(inputs: Sequence[str], lines: Iterable[str] = ()) -> list[str]:
    """Lists each photo once, in the order of the inputs; the photos of a folder or pattern are sorted.

    Args:
        inputs: Files, folders (searched to any depth for names that end like a photo's; links to folders are not
            followed), patterns such as ``'a/*.jpg'`` (``**`` for any depth), or ``-`` for ``lines``.
        lines: One path each, taken as they are: what is wrong with one is found when it is read.

    Raises:
        InputError: All the inputs that name nothing, or there is no photo at all.
    """
    photos: dict[str, None] = {}
    problems = []
    for item in inputs:
        if item == '-':
            found = [line for line in (line.rstrip('\r\n') for line in lines) if line.strip()]
        elif os.path.isdir(item):
            found = _in_folder(item)
            if not found:
                problems.append(f'{item}: no photos ({" ".join(IMAGE_SUFFIXES)}) in this folder')
        elif os.path.lexists(item):  # before patterns, for a name may hold their signs
            found = [item]
        else:
            found = [path for path in sorted(glob.glob(item, recursive=True)) if not os.path.isdir(path)]
            if not found:
                problems.append(f'{item}: no such file or folder, and no pattern that any file matches')
        photos.update(dict.fromkeys(found))
    if problems:
        raise InputError(*problems)
    if not photos:
        raise InputError('-: the list on standard input is empty')
    return list(photos)


def _in_folder(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise InputError(f'{error.filename}: cannot be listed: {error.strerror}')

    found = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith('.')]
        found += [
            os.path.join(here, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
        ]
    return sorted(found)
