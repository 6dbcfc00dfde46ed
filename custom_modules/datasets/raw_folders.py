"""Lists a folder of class folders: photos by class, unopened, and everything else with the reason."""

import os
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SPLIT_NAMES, class_name_problem, name_problem
from custom_modules.errors import InputError, collect
from custom_modules.files import printable
from custom_modules.photos.image_files import is_image_file
from custom_modules.photos.listing import is_hidden

HIDDEN = 'hidden or system file'
_POINT_AT = 'Point at the folder whose subfolders are the classes.'


class LeftOut(NamedTuple):
    """A file or folder that does not become part of the dataset, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """The contents of a folder of class folders."""

    sources: dict[str, str]  # by class/photo, the path in the folder, which differs where folders were renamed
    left_out: list[LeftOut]  # everything else, sorted by path
    problems: list[str]  # folders that are no class, classes without photos, names that collide

    @property
    def photos(self) -> dict[str, list[str]]:
        """Sorted photo names by class, classes sorted."""
        photos: dict[str, list[str]] = {}
        for name, image in sorted(path.split('/') for path in self.sources):
            photos.setdefault(name, []).append(image)
        return photos


def scan_raw(raw: Path, rename: Mapping[str, str] | None = None) -> Scan:
    """Lists the images in the class folders of ``raw``. The caller refuses the problems.

    ``rename`` gives the class of a folder where it is not the folder's name. Where several folders become one class,
    an image whose name was given already gets a number: ``a.jpg``, ``a_2.jpg``.

    Raises:
        InputError: The folder cannot be listed, or is a prepared dataset.
    """
    _check_raw(raw)
    folders, left_out = _list(raw, '', _reason_against_folder)
    class_of, problems = _name_classes(raw, folders, rename or {})
    if not folders:
        problems.append(_no_classes(raw, left_out))
    sources: dict[str, str] = {}
    given: set[str] = set()
    for folder, name in class_of.items():
        with collect(problems):
            images, others = _list(raw, f'{folder}/', _reason_against_photo)
            left_out += others
            if not images:
                problems.append(_no_photos(raw, folder, others))
            problems += _collisions(raw / folder, images)
            for image in images:
                path, number = f'{name}/{image}', 1
                while _fold(path) in given:
                    number += 1
                    path = f'{name}/{Path(image).stem}_{number}{Path(image).suffix}'
                given.add(_fold(path))
                sources[path] = f'{folder}/{image}'
    problems += _collisions(raw, sorted(set(class_of.values())))
    return Scan(sources, sorted(left_out), problems)


def list_folder(folder: Path) -> list[str]:
    """Returns the sorted names in a folder; raises an :class:`InputError` if it cannot be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f'{folder}: cannot be listed: {error.strerror}. Check its permissions.') from None


def _check_raw(raw: Path) -> None:
    if not os.path.isdir(raw):
        raise InputError(f'{raw}: {"not a" if os.path.exists(raw) else "no such"} folder. {_POINT_AT}')
    subsets = [name for name in SPLIT_NAMES if os.path.isdir(raw / name)]
    if set(subsets) - {'test'}:
        found = f'holds {", ".join(f"{name}/" for name in subsets)}, so it is a prepared dataset, not raw photos'
        fix = f'To train on it as it is, run python tools/generate_metadata.py {shlex.quote(str(raw))}'
        raise InputError(
            f'{raw}: {found}. {fix if len(subsets) > 1 else f"Point at {raw / subsets[0]} to split that"}.'
        )


def _no_classes(raw: Path, left_out: Iterable[LeftOut]) -> str:
    photos = any(os.path.isfile(raw / path) and is_image_file(raw / path) for path, _ in left_out)
    hint = 'It holds photos itself: point at the folder above.' if photos else 'Expected are <class>/<photo>.'
    return f'{raw}: no class folders. {hint}'


def _no_photos(raw: Path, folder: str, left_out: Iterable[LeftOut]) -> str:
    deeper = any(os.path.isdir(raw / path) for path, _ in left_out)
    hint = f'If its subfolders are the classes, point at {raw / folder}.' if deeper else 'Add some, or remove it.'
    return f'{raw / folder}: no photos. {hint}'


def _list(raw: Path, prefix: str, reason_against: Callable[[Path], str | None]) -> tuple[list[str], list[LeftOut]]:
    """The names in a folder that nothing speaks against, and everything else; ``prefix`` is empty or ``class/``."""
    names, left_out = [], []
    for name in list_folder(raw / prefix):
        if reason := reason_against(raw / prefix / name):
            left_out.append(LeftOut(printable(prefix + name), reason))
        else:
            names.append(name)
    return names, left_out


def _name_classes(raw: Path, folders: list[str], rename: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The class of each folder whose name, or new name, can be one; and problems with the others."""
    problems = []
    class_of = {}
    wanted = {unicodedata.normalize('NFC', folder): name for folder, name in rename.items()}
    for folder in folders:
        name = wanted.get(unicodedata.normalize('NFC', folder), folder)
        if problem := class_name_problem(name):
            what = 'class folder' if name == folder else f'--rename {folder}={name}:'
            problems.append(f'{raw}: {what} {problem}. Rename it.')
        else:
            class_of[folder] = name
    for name in sorted(wanted.keys() - {unicodedata.normalize('NFC', folder) for folder in folders}):
        near = get_close_matches(name, folders, 1)
        hint = f'Did you mean {near[0]!r}?' if near else f'There are {", ".join(folders) or "none"}.'
        problems.append(f'--rename: no class folder {name!r}. {hint}')
    return class_of, problems


def _reason_against_folder(path: Path) -> str | None:
    """Why a path is no class folder; None if it is one."""
    if is_hidden(path.name):
        return HIDDEN
    if not os.path.isdir(path):
        return 'broken link' if os.path.islink(path) and not os.path.exists(path) else 'not in a class folder'
    target, raw = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    again = os.path.islink(path) and (target.parent == raw or raw.is_relative_to(target))
    return 'link to a folder that is listed itself or lies above' if again else None


def _reason_against_photo(path: Path) -> str | None:
    """Why a path in a class folder is no photo; None if it is one."""
    if is_hidden(path.name):
        return HIDDEN
    if os.path.isdir(path):
        return 'link to a folder' if os.path.islink(path) else 'folder inside a class folder'
    if not os.path.isfile(path):
        return 'broken link' if os.path.islink(path) else 'no readable file'
    if not is_image_file(path):
        return 'not an image'
    return 'its name does not fit the annotation format; rename it' if name_problem(path.name) else None


def _fold(name: str) -> str:
    """The name that disks without case and Unicode forms take it for."""
    return unicodedata.normalize('NFC', name).casefold()


def _collisions(folder: Path, names: Iterable[str]) -> list[str]:
    """Returns a problem for each name that is another's on a disk that ignores case or Unicode forms."""
    first: dict[str, str] = {}
    problems = []
    for name in names:
        other = first.setdefault(_fold(name), name)
        if other != name:
            form = unicodedata.normalize('NFC', name) == unicodedata.normalize('NFC', other)
            what = f'how accents are stored ({other!a} and {name!a})' if form else 'case'
            found = f'{other!r} and {name!r} differ only in {what}, which some disks ignore'
            problems.append(f'{folder}: {found}. Rename one.')
    return problems
