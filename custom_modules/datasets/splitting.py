"""From raw photos in class folders to a prepared dataset: scan, plan, write. Images are not opened here.

The plan is a pure function of names, ratio and seed; doing it is apart. The annotation format is annotation.py's.
"""

import hashlib
import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from custom_modules.datasets.annotation import (
    IMAGE_SUFFIXES,
    Sample,
    check_disjoint,
    class_name_problem,
    name_problem,
    read_classes,
    refuse,
    write_classes,
    write_samples,
)
from custom_modules.errors import InputError

MODES = ('copy', 'hardlink', 'symlink')
SIDES = ('train', 'val')
HIDDEN = 'hidden or system file'

Progress = Callable[[int, int], None]  # photos done, photos in all


class LeftOut(NamedTuple):
    """Something in the source folder that does not become part of the dataset, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What stands in a folder of class folders.

    Args:
        photos: Sorted photo names by class, classes sorted.
        left_out: Everything else, sorted by path.
    """

    photos: dict[str, list[str]]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Plan:
    """Which photo goes to which side.

    Args:
        sides: For ``train`` and ``val``, sorted photo names by class, classes sorted.
        ratio: Share of each class that goes to train, in (0, 1).
        seed: What the order was drawn from.
    """

    sides: dict[str, dict[str, list[str]]]
    ratio: float
    seed: int

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.sides['train'])

    def samples(self, side: str) -> list[Sample]:
        """Returns the annotation of one side."""
        return _samples(self.sides[side], self.classes)


@dataclass(frozen=True)
class SplitReport:
    """What a prepared dataset holds.

    Args:
        counts: Number of photos by side and class.
        left_out: What stood in the source folder and is not in the dataset.
        digest: Names the dataset; None without a manifest that describes it.
        notes: Lines the user should read.
        warnings: Lines the user should act on.
    """

    counts: dict[str, dict[str, int]]
    left_out: list[LeftOut]
    digest: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def has_problems(self) -> bool:
        """Whether there are warnings, or more than hidden files was left out."""
        return bool(self.warnings) or any(item.reason != HIDDEN for item in self.left_out)

    def __str__(self) -> str:
        lines = [f'left out: {path} ({reason})' for path, reason in self.left_out]
        lines += [*self.notes, *(f'warning: {warning}' for warning in self.warnings)]
        train, val = (self.counts[side] for side in SIDES)
        rows = [('class', 'train', 'val'), *((name, str(train[name]), str(val[name])) for name in train)]
        rows.append(('total', str(sum(train.values())), str(sum(val.values()))))
        width = max(len(name) for name, _, _ in rows)
        lines += [f'{name:<{width}} {in_train:>7} {in_val:>7}' for name, in_train, in_val in rows]
        return '\n'.join(lines)


def split_dataset(
    raw: Path, out: Path, ratio: float = 0.8, seed: int = 0, mode: str = 'copy', progress: Progress | None = None
) -> SplitReport:
    """Splits a folder of class folders into a prepared dataset.

    Args:
        raw: Folder whose direct subfolders are the classes; only read.
        out: The dataset's folder, made whole or not at all; may exist when empty.
        ratio: Share of each class that goes to train, in (0, 1), rounded down to whole photos.
        seed: What the order of the photos is drawn from.
        mode: ``copy``, ``hardlink`` or ``symlink`` (absolute links).
        progress: Called after each photo with the numbers of photos done and in all.

    Raises:
        InputError: When the folders, the ratio or the mode cannot be used, or a file cannot be read or written.
    """
    problems = _folder_problems(raw, out) + _ratio_problems(ratio)
    if mode not in MODES:
        problems.append(f'no such mode: {mode}; known are {", ".join(MODES)}')
    if problems:
        refuse(problems)
    scan = scan_raw(raw)
    plan = plan_split(scan.photos, ratio, seed)
    digest = write_prepared(raw, out, plan, mode, progress, scan.left_out)
    return SplitReport(_counts(plan.sides), scan.left_out, digest)


def scan_raw(raw: Path) -> Scan:
    """Lists the photos of each class: by suffix, unopened; all that is no photo is listed as left out.

    Raises:
        InputError: For each folder that is no class, each class without photos, and names that collide.
    """
    if not raw.is_dir():
        refuse([f'{raw}: {"not a" if raw.exists() else "no such"} folder; point at the folder of class folders'])
    photos: dict[str, list[str]] = {}
    left_out, problems = [], []
    names = _list(raw)
    prepared = [name for name in SIDES if (raw / name).is_dir()]
    if prepared:
        refuse(
            [
                f'{raw}: holds {" and ".join(f"{name}/" for name in prepared)}, so it is a prepared dataset and no '
                'folder of raw photos: point at the folder whose subfolders are the classes'
            ]
        )
    for name in names:
        folder = raw / name
        if reason := _reason_against_class_folder(folder):
            left_out.append(LeftOut(_printable(name), reason))
        elif problem := class_name_problem(name):
            problems.append(f'{raw}: class folder {problem}; rename it')
        else:
            photos[name] = []
            for image in _list(folder):
                if reason := _reason_against_photo(folder / image):
                    left_out.append(LeftOut(_printable(f'{name}/{image}'), reason))
                else:
                    photos[name].append(image)
            problems += [f'{folder}: {problem}' for problem in _collisions(photos[name])]
            if not photos[name]:
                problems.append(f'{folder}: no photos ({" ".join(IMAGE_SUFFIXES)}) in this folder; {_hint(folder)}')
    problems += [f'{raw}: {problem}' for problem in _collisions(photos)]
    if not photos and not problems:
        found = any(name.lower().endswith(IMAGE_SUFFIXES) for name in names)
        hint = 'it holds photos itself: point at the folder above' if found else 'expected are <class>/<photo>'
        problems.append(f'{raw}: no class folders; {hint}')
    if problems:
        refuse(problems)
    return Scan(photos, sorted(left_out))


def plan_split(photos: Mapping[str, Iterable[str]], ratio: float = 0.8, seed: int = 0) -> Plan:
    """Plans which photos go to train: of each class, the first ``floor(ratio * n)`` in the order of a seeded hash.

    The order does not depend on how the file system lists the photos, and a new photo leaves the order of the others
    as it was. The ratio counts as the decimal it is written as, so 0.7 of 10 is 7.

    Raises:
        InputError: When the ratio is not in (0, 1), or a class would be empty on one side.
    """
    problems = _ratio_problems(ratio)
    if problems:
        refuse(problems)
    if len(photos) < 2:
        problems.append(f'two or more classes are needed, found: {", ".join(photos) or "none"}')
    sides: dict[str, dict[str, list[str]]] = {side: {} for side in SIDES}
    for name in sorted(photos):
        images = sorted(photos[name], key=lambda image: _hash(f'{seed}/{name}/{image}'.encode()))
        count = Fraction(str(ratio)) * len(images) // 1
        if not 0 < count < len(images):
            problems.append(
                f'class {name!r}: {len(images)} photo(s) at ratio {ratio} give {count} to train and '
                f'{len(images) - count} to val, and each side needs one: add photos or change the ratio'
            )
        sides['train'][name] = sorted(images[:count])
        sides['val'][name] = sorted(images[count:])
    if problems:
        refuse(problems)
    return Plan(sides, ratio, seed)


def write_prepared(
    raw: Path,
    out: Path,
    plan: Plan,
    mode: str = 'copy',
    progress: Progress | None = None,
    left_out: Sequence[LeftOut] = (),
) -> str:
    """Writes the dataset that a plan describes into a folder beside ``out`` and moves it into place when complete.

    Returns:
        The digest in ``manifest.json``.

    Raises:
        InputError: When a file cannot be read or written; then nothing of the dataset is left.
    """
    target = out.resolve()
    partial = target.with_name(f'.{target.name}.partial-{secrets.token_hex(4)}')
    total = sum(sum(counts.values()) for counts in _counts(plan.sides).values())
    try:
        files = {}
        for side in SIDES:
            for name in plan.classes:
                (partial / side / name).mkdir(parents=True)
            for sample in plan.samples(side):
                path = f'{side}/{sample.path}'
                files[path] = {'sha256': _place(raw / sample.path, partial / path, mode)}
                if progress:
                    progress(len(files), total)
            write_samples(partial / f'{side}.txt', plan.samples(side))
        write_classes(partial / 'classes.txt', plan.classes)
        manifest: dict[str, Any] = {
            'tool': 'tools/split_dataset.py',
            'version': 1,
            'seed': plan.seed,
            'ratio': plan.ratio,
            'mode': mode,
            'classes': plan.classes,
            'counts': _counts(plan.sides),
            'files': files,
            'left_out': [item._asdict() for item in left_out],
        }
        manifest['digest'] = _digest(manifest)
        text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
        (partial / 'manifest.json').write_bytes(text.encode())
        if target.exists():
            target.rmdir()  # fails unless empty
        partial.rename(target)
    except OSError as error:
        raise InputError(f'{error.filename or out}: {error.strerror}; nothing was written to {out}') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest['digest']


def index_prepared(data: Path) -> SplitReport:
    """Writes ``classes.txt``, ``train.txt`` and ``val.txt`` for existing ``train`` and ``val`` folders.

    The order of an existing ``classes.txt`` with the same names is kept; otherwise classes are sorted.

    Raises:
        InputError: When a folder is missing, the two differ in classes, or a ``class/image`` is in both.
    """
    problems = [
        f'{data / side}: no such folder; prepare the raw photos with tools/split_dataset.py'
        for side in SIDES
        if not (data / side).is_dir()
    ]
    if problems:
        refuse(problems)
    scans = {}
    for side in SIDES:
        try:
            scans[side] = scan_raw(data / side)
        except InputError as error:
            problems += error.problems
    if problems:
        refuse(problems)
    classes = list(scans['train'].photos)
    problems = [
        f'{data}: class {name!r} is in {"train" if name in classes else "val"} only; both sides need all classes'
        for name in sorted(set(classes) ^ set(scans['val'].photos))
    ]
    if problems:
        refuse(problems)
    notes, file = [], data / 'classes.txt'
    if file.exists():
        order = read_classes(file)
        if set(order) != set(classes):
            refuse([f'{file}: names {", ".join(order)}, but the folders are {", ".join(classes)}; delete or mend it'])
        if order != classes:
            notes.append(f'kept the class order of {file}: {", ".join(order)}')
        classes = order
    sides = {side: {name: scans[side].photos[name] for name in classes} for side in SIDES}
    samples = {side: _samples(sides[side], classes) for side in SIDES}
    check_disjoint(samples['train'], samples['val'])
    write_classes(file, classes)
    for side in SIDES:
        write_samples(data / f'{side}.txt', samples[side])
    left_out = [LeftOut(f'{side}/{path}', reason) for side in SIDES for path, reason in scans[side].left_out]
    digest, warnings = _described_by_manifest(data, classes, samples)
    return SplitReport(_counts(sides), left_out, digest, tuple(notes), tuple(warnings))


def read_manifest_digest(data_root: Path) -> str | None:
    """Returns the digest that names the dataset, None when it has no ``manifest.json``.

    Raises:
        InputError: When the manifest cannot be read, or its digest is not that of its contents.
    """
    manifest = _read_manifest(data_root)
    return None if manifest is None else manifest['digest']


def _read_manifest(data_root: Path) -> dict[str, Any] | None:
    file = data_root / 'manifest.json'
    mend = 'restore it, or split the raw photos again with tools/split_dataset.py into a new folder'
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f'{file}: cannot be read ({error}); {mend}') from None
    if not isinstance(manifest, dict) or manifest.get('digest') != _digest(manifest):
        raise InputError(f'{file}: its digest is not that of its contents, so it was changed; {mend}')
    return manifest


def _described_by_manifest(
    data: Path, classes: list[str], samples: dict[str, list[Sample]]
) -> tuple[str | None, list[str]]:
    """Returns the manifest's digest where it describes exactly these files, else None and what to tell the user."""
    try:
        manifest = _read_manifest(data)
        if manifest is None:
            return None, []
        names = {f'{side}/{sample.path}' for side in SIDES for sample in samples[side]}
        recorded = {name: entry['sha256'] for name, entry in manifest['files'].items()}
        if (
            manifest['classes'] == classes
            and names == set(recorded)
            and all(_hash((data / name).read_bytes()).hex() == recorded[name] for name in names)
        ):
            return manifest['digest'], []
    except InputError as error:
        return None, list(error.problems)
    return None, [
        f'{data / "manifest.json"}: no longer describes these files; delete it, or split the raw photos again '
        'with tools/split_dataset.py into a new folder'
    ]


def _digest(manifest: Mapping[str, Any]) -> str:
    """Returns the sha256 of what the dataset is: not of how its files were placed, nor of what is not in it."""
    content = {key: value for key, value in manifest.items() if key not in ('digest', 'mode', 'left_out')}
    return _hash(json.dumps(content, sort_keys=True).encode()).hex()


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _counts(sides: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, int]]:
    return {side: {name: len(images) for name, images in photos.items()} for side, photos in sides.items()}


def _samples(photos: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[Sample]:
    return [Sample(f'{name}/{image}', label) for label, name in enumerate(classes) for image in photos[name]]


def _place(source: Path, target: Path, mode: str) -> str:
    """Copies or links one photo; returns its sha256, in hex."""
    content = source.read_bytes()
    try:
        if mode == 'hardlink':
            os.link(source.resolve(), target)
        elif mode == 'symlink':
            os.symlink(source.resolve(), target)
        else:
            target.write_bytes(content)
    except OSError as error:
        if mode == 'copy':
            raise
        raise InputError(f'{source}: no {mode} can be made there ({error.strerror}); use --mode copy') from None
    return _hash(content).hex()


def _list(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f'{folder}: cannot be listed: {error.strerror}') from None


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
    return 'its name cannot stand in the annotations; rename it' if name_problem(path.name) else None


def _hint(folder: Path) -> str:
    """Says what to do about a class folder without photos."""
    if any(entry.is_dir() for entry in folder.iterdir()):
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


def _printable(text: str) -> str:
    """Returns text that any file and terminal takes: undecodable bytes and line breaks are escaped."""
    return text.encode('utf-8', 'backslashreplace').decode().replace('\n', '\\n').replace('\r', '\\r')


def _ratio_problems(ratio: float) -> list[str]:
    return [] if 0 < ratio < 1 else [f'ratio {ratio} is not between 0 and 1; 0.8 sends four of five photos to train']


def _folder_problems(raw: Path, out: Path) -> list[str]:
    source, target = raw.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        return [f'{out}: is inside {raw}, or the other way round; choose an output folder apart from the raw photos']
    if target.is_dir():
        if any(target.iterdir()):
            return [
                f'{out}: exists and is not empty, and a split is never mixed in: choose another folder or remove it'
            ]
    elif target.exists():
        return [f'{out}: exists and is no folder; choose another']
    return []
