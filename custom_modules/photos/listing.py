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
        lines: One path each, taken as they are.

    Raises:
        InputError: All the inputs that name nothing, or there is no photo at all.
    """
    photos: dict[str, None] = {}
    problems = []
    for item in inputs:
        if item == '-':
            found = [line.rstrip('\r\n') for line in lines if line.strip()]
            problem = ''
        elif os.path.isdir(item):
            found = _in_folder(item)
            problem = f'no photos ({" ".join(IMAGE_SUFFIXES)}) in this folder'
        else:  # a name may hold the signs of a pattern
            paths = [item] if os.path.lexists(item) else sorted(glob.glob(item, recursive=True))
            found = [path for path in paths if not os.path.isdir(path)]
            problem = 'no such file or folder, and no pattern that any file matches'
        if not found and problem:
            problems.append(f'{item}: {problem}')
        photos.update(dict.fromkeys(found))
    if not photos and not problems:
        problems.append('-: the list on standard input is empty')
    if problems:
        raise InputError(*problems)
    return list(photos)


def _in_folder(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise InputError(f'{error.filename}: cannot be listed: {error.strerror}')

    found = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith('.')]
        shown = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')]
        found += [os.path.join(here, name) for name in shown]
    return sorted(found)
