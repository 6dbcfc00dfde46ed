"""Reads and writes the annotation format of a prepared dataset: classes.txt, train.txt, val.txt."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from filecmp import cmp
from pathlib import Path
from typing import NamedTuple

from custom_modules.errors import InputError, refuse
from custom_modules.files import write_atomically
from custom_modules.photos.image_files import IMAGE_SUFFIXES

SIDES = ('train', 'val')
VALIDATION = ('valid', 'validation')  # other names of val
SPLIT_NAMES = (*SIDES, *VALIDATION, 'test')

_GLUED = re.compile(rf'/[^/]*({"|".join(map(re.escape, IMAGE_SUFFIXES))}) \d+[^/]*/', re.IGNORECASE)
_FIX = 'Fix it, or write the list again with tools/generate_metadata.py.'
_FIX_CLASSES = 'Fix it, or delete the file and run tools/generate_metadata.py.'


class Sample(NamedTuple):
    """One line of ``train.txt`` or ``val.txt``."""

    path: str  # class/image, with / on every system, relative to the split folder
    label: int  # index of the class in classes.txt, from 0


def label_photos(photos: Mapping[str, Iterable[str]], classes: Sequence[str]) -> list[Sample]:
    """Returns the samples of photo names by class, for class names in label order."""
    return [Sample(f'{name}/{image}', label) for label, name in enumerate(classes) for image in photos.get(name, ())]


def name_problem(name: str) -> str | None:
    """Why a class or image name does not fit the annotation format; None if it does."""
    if not name.strip():
        return 'blank name'
    if name in ('.', '..'):
        return f'{name!r} is no name'
    if re.search(r'[/\\\n\r\0]', name):
        return f'{name!r} holds a slash, a backslash or a line break'
    if re.search('[\ud800-\udfff]', name):
        return f'{name!r} is not UTF-8'
    return None


def class_name_problem(name: str) -> str | None:
    """Why a name cannot be a class; None if it can."""
    if problem := name_problem(name):
        return problem
    if name != name.strip() or name.startswith('\ufeff'):
        return f'{name!r} begins or ends with a space or a byte order mark'
    if name.lower() in SPLIT_NAMES:
        return (
            f'{name!r} is a part of the split, not a class (a prepared folder was read as raw photos): '
            'point at the folder whose subfolders are the classes'
        )
    if re.search(r'\s\d+$', name):
        return f'{name!r} ends in a number as if an index were glued on: a class is a bare name'
    return None


def is_prepared(data: Path) -> bool:
    """Returns whether a folder is a prepared dataset, be it an incomplete one, rather than class folders."""
    lists = ('classes.txt', *(f'{side}.txt' for side in SIDES))
    return any(os.path.isdir(data / side) for side in SIDES) or any(os.path.isfile(data / name) for name in lists)


def read_classes(file: Path) -> list[str]:
    """Reads ``classes.txt``: two or more class names, whose position is their label; refuses every other line."""
    classes = _read_lines(file)
    _check_classes(file, classes)
    return classes


def read_samples(file: Path, classes: Sequence[str], image_root: Path | None = None) -> list[Sample]:
    """Reads ``train.txt`` or ``val.txt``, one ``class/image index`` a line.

    Tolerates CRLF, a byte order mark, backslashes as separators, trailing spaces and a missing last newline.
    If ``image_root`` is given, each file must exist beneath it.

    Raises:
        InputError: With every line that deviates otherwise.
    """
    return _parse_lines(file, [line.replace('\\', '/') for line in _read_lines(file)], classes, image_root)


def write_classes(file: Path, classes: Sequence[str]) -> None:
    """Writes ``classes.txt`` atomically; refuses names that :func:`read_classes` would refuse."""
    _check_classes(file, classes)
    _write_lines(file, classes)


def write_samples(file: Path, samples: Iterable[Sample], classes: Sequence[str]) -> None:
    """Writes ``train.txt`` or ``val.txt`` atomically, sorted; refuses what :func:`read_samples` would refuse."""
    lines = [f'{path} {label}' for path, label in sorted(samples)]
    _parse_lines(file, lines, classes)
    _write_lines(file, lines)


def check_disjoint(
    folder: Path, train: Iterable[Sample], val: Iterable[Sample], subsets: Sequence[str] = SIDES
) -> None:
    """Raises an :class:`InputError` with every ``class/image`` in both lists, unless the two files differ."""
    fix = 'Remove it from one, or split the raw photos again with tools/split_dataset.py into a new folder.'
    both = sorted({sample.path for sample in train} & {sample.path for sample in val})
    files = {path: [folder / subset / path for subset in subsets] for path in both}
    refuse([f'{folder}: {path!r} is in train and in val. {fix}' for path in both if not _differ(*files[path])])


def _differ(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and not cmp(one, other, shallow=False)


def _check_classes(file: Path, classes: Sequence[str]) -> None:
    problems = []
    first: dict[str, int] = {}
    for number, name in enumerate(classes, 1):
        problem = class_name_problem(name)
        if first.setdefault(name, number) != number:
            problem = problem or f'class {name!r} is in line {first[name]} already'
        if problem:
            problems.append(f'{file}:{number}: {problem}. {_FIX_CLASSES}')
    if not problems and len(classes) < 2:
        found = f'only one class, {classes[0]!r}' if classes else 'no classes'
        problems.append(f'{file}: {found}: two or more are needed, one name a line. {_FIX_CLASSES}')
    refuse(problems)


def _parse_lines(
    file: Path, lines: Sequence[str], classes: Sequence[str], image_root: Path | None = None
) -> list[Sample]:
    """The samples on the lines of a list; refuses all the lines that deviate from the format."""
    problems = [] if lines else [f'{file}: no lines. {_FIX}']
    samples: list[Sample] = []
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        sample = _parse(line, classes)
        if isinstance(sample, str):
            problem = sample
        elif first.setdefault(sample.path, number) != number:
            problem = f'{sample.path!r} is in line {first[sample.path]} already'
        elif image_root is not None and not os.path.isfile(image_root / sample.path):
            problem = f'no file {image_root / sample.path}'
        else:
            samples.append(sample)
            continue
        problems.append(f'{file}:{number}: {problem}. {_FIX}')
    refuse(problems)
    return samples


def _parse(line: str, classes: Sequence[str]) -> Sample | str:
    """Returns the sample on a line, or its problem."""
    if not line:
        return 'blank line'
    if _GLUED.search(line):
        return 'annotations without line breaks'
    path, space, index = line.rpartition(' ')
    if not space or '/' in index:
        return f'no index in {line!r}: `class/image index` is expected'
    if path.count('/') != 1:
        return f'path {path!r} is not `class/image`, relative to the split folder'
    folder, image = path.split('/')
    if problem := class_name_problem(folder) or name_problem(image):
        return f'path {path!r}: {problem}'
    if folder not in classes:
        near = get_close_matches(folder, classes, 1)
        hint = f'did you mean {near[0]!r}?' if near else f'known are {", ".join(classes)}'
        return f'class {folder!r} is not in classes.txt ({hint})'
    label = classes.index(folder)
    if index != str(label):
        return f'index {index!r}, but {folder!r} has index {label} in classes.txt (is the class order another?)'
    return Sample(path, label)


def _read_lines(file: Path) -> list[str]:
    """Returns the lines without line breaks, trailing spaces and byte order mark; surrogates for bytes of no UTF-8."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        command = f'python tools/generate_metadata.py {shlex.quote(str(file.parent))}'
        raise InputError(f'{file}: no such file. Make it from train/, val/ and test/: {command}') from None
    except OSError as error:
        raise InputError(f'{file}: cannot be read: {error.strerror}. Check its permissions.') from None
    text = content.removeprefix(b'\xef\xbb\xbf').removesuffix(b'\n').decode(errors='surrogateescape')
    # Split at LF alone: str.splitlines would also split at characters that names may hold.
    return [line.rstrip(' \t\r') for line in text.split('\n')] if text else []


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    text = ''.join(f'{line}\n' for line in lines)
    write_atomically(file, lambda target: target.write(text.encode()))
