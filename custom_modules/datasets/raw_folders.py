"""Lists a folder of class folders: photos by class, unopened, and everything else with the reason."""

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SIDES, class_name_problem, name_problem
from custom_modules.errors import InputError, collect, refuse
from custom_modules.files import printable
from custom_modules.photos.fingerprint import Fingerprint
from custom_modules.photos.listing import IMAGE_SUFFIXES

HIDDEN = 'hidden or system file'


class LeftOut(NamedTuple):
    """A file or folder that does not become part of the dataset, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """The photos in a folder of class folders, by ``class/image``; fingerprints and groups if they were opened."""

    sources: dict[str, str]  # paths in the folder, which differ where folders were renamed
    left_out: list[LeftOut]  # everything else, sorted by path
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    groups: list[list[str]] = field(default_factory=list)  # near-duplicates: two or more each, sorted

    @property
    def photos(self) -> dict[str, list[str]]:
        """Sorted photo names by class, classes sorted."""
        photos: dict[str, list[str]] = {}
        for name, image in sorted(path.split('/') for path in self.sources):
            photos.setdefault(name, []).append(image)
        return photos


def scan_raw(raw: Path, rename: Mapping[str, str] | None = None) -> Scan:
    """Lists the photos of each class folder in ``raw``: by suffix, unopened; everything else is listed as left out.

    ``rename`` gives the class of a folder where it is not the folder's name.

    Raises:
        InputError: For each folder that is no class, each class without photos, and names that collide.
    """
    scan, problems = survey_raw(raw, rename)
    refuse(problems)
    return scan


def survey_raw(raw: Path, rename: Mapping[str, str] | None = None) -> tuple[Scan, list[str]]:
    """Lists the photos as :func:`scan_raw` does, and returns most of the problems that it would raise."""
    rename = rename or {}
    sources: dict[str, str] = {}
    left_out: list[LeftOut] = []
    problems: list[str] = []
    folders: list[str] = []
    classes: dict[str, list[str]] = {}
    for folder in _list_raw(raw):
        if reason := _reason_against(raw / folder, class_folder=True):
            left_out.append(LeftOut(printable(folder), reason))
            continue
        folders.append(folder)
        name = rename.get(folder, folder)
        if problem := class_name_problem(name):
            what = 'class folder' if name == folder else f'--rename {folder}={name}:'
            problems.append(f'{raw}: {what} {problem}; rename it')
            continue
        with collect(problems):
            images = []
            for image in list_folder(raw / folder):
                path = f'{folder}/{image}'
                if reason := _reason_against(raw / path, class_folder=False):
                    left_out.append(LeftOut(printable(path), reason))
                    continue
                images.append(image)
                if other := sources.get(f'{name}/{image}'):
                    problems.append(f'{raw}: {path} and {other} would both become {name}/{image}; rename one')
                sources[f'{name}/{image}'] = path
            if not images:
                problems.append(f'{raw / folder}: no photos ({" ".join(IMAGE_SUFFIXES)}); {_hint(raw / folder)}')
            classes[name] = sorted({*classes.get(name, ()), *images})
    problems += [f'{raw / name}: {problem}' for name in classes for problem in _collisions(classes[name])]
    for name in sorted(rename.keys() - set(folders)):
        near = get_close_matches(name, folders, 1)
        hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(folders) or "none"}'
        problems.append(f'--rename: no class folder {name!r}: {hint}')
    problems += [f'{raw}: {problem}' for problem in _collisions(classes)]
    if not classes and not problems:
        found = any(item.path.lower().endswith(IMAGE_SUFFIXES) for item in left_out)
        hint = 'it holds photos itself: point at the folder above' if found else 'expected are <class>/<photo>'
        problems.append(f'{raw}: no class folders; {hint}')
    return Scan(sources, sorted(left_out)), problems


def list_folder(folder: Path) -> list[str]:
    """Returns the sorted names in a folder; raises an :class:`InputError` if it cannot be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f'{folder}: cannot be listed: {error.strerror}') from None


def _list_raw(raw: Path) -> list[str]:
    """The sorted names in a folder of class folders; a prepared dataset is refused."""
    if not os.path.isdir(raw):
        raise InputError(
            f'{raw}: {"not a" if os.path.exists(raw) else "no such"} folder; point at the folder of class folders'
        )
    if prepared := [f'{name}/' for name in SIDES if os.path.isdir(raw / name)]:
        raise InputError(
            f'{raw}: holds {" and ".join(prepared)}, so it is a prepared dataset and no folder of raw photos: '
            'point at the folder whose subfolders are the classes'
        )
    return list_folder(raw)


def _reason_against(path: Path, class_folder: bool) -> str | None:
    """Why a path is neither a photo nor, at the top, a class folder; None if it is."""
    if path.name.startswith('.') or path.name.lower() in ('thumbs.db', 'desktop.ini', '__macosx'):
        return HIDDEN
    if os.path.isdir(path):
        inside = None if class_folder else 'folder inside a class folder'
        return 'link to a folder' if os.path.islink(path) else inside
    if class_folder:
        return 'not in a class folder'
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
