"""Lists a folder of class folders: photos by class, unopened, and everything else with the reason."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SIDES, class_name_problem, name_problem, refuse
from custom_modules.errors import InputError
from custom_modules.files import printable
from custom_modules.photos.listing import IMAGE_SUFFIXES

HIDDEN = 'hidden or system file'


class LeftOut(NamedTuple):
    """A file or folder that does not become part of the dataset, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """The contents of a folder of class folders.

    Args:
        photos: Sorted photo names by class, classes sorted.
        left_out: Everything else, sorted by path.
        sources: The path of each photo in the folder by its ``class/image``: they differ where folders were renamed.
    """

    photos: dict[str, list[str]]
    left_out: list[LeftOut]
    sources: dict[str, str]


def scan_raw(raw: Path, rename: Mapping[str, str] | None = None) -> Scan:
    """Lists the photos of each class: by suffix, unopened; all that is no photo is listed as left out.

    Args:
        raw: Folder whose direct subfolders are the classes.
        rename: Class of a folder, where it is not the folder's name.

    Raises:
        InputError: For each folder that is no class, each class without photos, and names that collide.
    """
    scan, problems = survey_raw(raw, rename)
    if problems:
        refuse(problems)
    return scan


def survey_raw(raw: Path, rename: Mapping[str, str] | None = None) -> tuple[Scan, list[str]]:
    """Lists the photos as :func:`scan_raw` does, and returns the problems that it would raise.

    Raises:
        InputError: The folder cannot be listed, or is a prepared dataset.
    """
    rename = rename or {}
    photos: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    left_out: list[LeftOut] = []
    problems: list[str] = []
    folders = []
    for folder_name in _list_raw(raw):
        folder, name = raw / folder_name, rename.get(folder_name, folder_name)
        if reason := _reason_against_class_folder(folder):
            left_out.append(LeftOut(printable(folder_name), reason))
            continue
        folders.append(folder_name)
        if problem := class_name_problem(name):
            what = 'class folder' if name == folder_name else f'--rename {folder_name}={name}:'
            problems.append(f'{raw}: {what} {problem}; rename it')
            continue
        try:
            images, others = _list_class(folder)
        except InputError as error:
            problems += error.problems
            continue
        left_out += [LeftOut(printable(f'{folder_name}/{path}'), reason) for path, reason in others]
        for image in images:
            path = f'{name}/{image}'
            if other := sources.get(path):
                problems.append(f'{raw}: {folder_name}/{image} and {other} would both become {path}; rename one')
            sources[path] = f'{folder_name}/{image}'
        if not images:
            problems.append(f'{folder}: no photos ({" ".join(IMAGE_SUFFIXES)}) in this folder; {_hint(folder)}')
        photos[name] = sorted({*photos.get(name, ()), *images})
    problems += [f'{raw / name}: {problem}' for name in photos for problem in _collisions(photos[name])]
    problems += [f'{raw}: {problem}' for problem in [*_rename_problems(rename, folders), *_collisions(photos)]]
    if not photos and not problems:
        found = any(item.path.lower().endswith(IMAGE_SUFFIXES) for item in left_out)
        hint = 'it holds photos itself: point at the folder above' if found else 'expected are <class>/<photo>'
        problems.append(f'{raw}: no class folders; {hint}')
    return Scan({name: photos[name] for name in sorted(photos)}, sorted(left_out), sources), problems


def list_folder(folder: Path) -> list[str]:
    """Returns the sorted names in a folder.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f'{folder}: cannot be listed: {error.strerror}') from None


def _list_raw(raw: Path) -> list[str]:
    """The sorted names in a folder of class folders.

    Raises:
        InputError: It cannot be listed, or is a prepared dataset.
    """
    if not os.path.isdir(raw):
        kind = 'not a' if os.path.exists(raw) else 'no such'
        raise InputError(f'{raw}: {kind} folder; point at the folder of class folders')
    prepared = [f'{name}/' for name in SIDES if os.path.isdir(raw / name)]
    if prepared:
        raise InputError(
            f'{raw}: holds {" and ".join(prepared)}, so it is a prepared dataset and no folder of raw photos: '
            'point at the folder whose subfolders are the classes'
        )
    return list_folder(raw)


def _list_class(folder: Path) -> tuple[list[str], list[LeftOut]]:
    """The names of the photos in a class folder, and everything else in it."""
    images, left_out = [], []
    for name in list_folder(folder):
        if reason := _reason_against_photo(folder / name):
            left_out.append(LeftOut(name, reason))
        else:
            images.append(name)
    return images, left_out


def _rename_problems(rename: Mapping[str, str], folders: Sequence[str]) -> list[str]:
    """A line for each renamed folder that does not exist."""
    problems = []
    for name in rename.keys() - set(folders):
        near = get_close_matches(name, folders, 1)
        hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(folders) or "none"}'
        problems.append(f'--rename: no class folder {name!r}: {hint}')
    return sorted(problems)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith('.') or path.name.lower() in ('thumbs.db', 'desktop.ini', '__macosx')


def _reason_against_class_folder(path: Path) -> str | None:
    if _is_hidden(path):
        return HIDDEN
    if not os.path.isdir(path):
        return 'not in a class folder'
    return 'link to a folder' if os.path.islink(path) else None


def _reason_against_photo(path: Path) -> str | None:
    if _is_hidden(path):
        return HIDDEN
    if os.path.isdir(path):
        return 'link to a folder' if os.path.islink(path) else 'folder inside a class folder'
    if not os.path.isfile(path):
        return 'broken link' if os.path.islink(path) else 'no readable file'
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f'no photo by its suffix: {" ".join(IMAGE_SUFFIXES)} are'
    return 'its name does not fit the annotation format; rename it' if name_problem(path.name) else None


def _hint(folder: Path) -> str:
    """Says what to do about a class folder without photos."""
    if any(os.path.isdir(folder / name) for name in list_folder(folder)):
        return f'if its subfolders are the classes, point at {folder}'
    return 'put photos there or remove it'


def _collisions(names: Iterable[str]) -> list[str]:
    """Returns a line for each name that is another's on a disk that ignores case."""
    first: dict[str, str] = {}
    problems = []
    for name in names:
        other = first.setdefault(unicodedata.normalize('NFC', name).casefold(), name)
        if other != name:
            problems.append(f'{other!r} and {name!r} differ only in case, which some disks ignore; rename one')
    return problems
