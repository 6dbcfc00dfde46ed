"""Splits raw photos in class folders into a prepared dataset, which appears whole or not at all.

Steps: raw_folders.py lists, this module opens and compares, split_plan.py decides, this module copies.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from custom_modules.datasets.annotation import SIDES, write_classes, write_samples
from custom_modules.datasets.manifest import write_manifest
from custom_modules.datasets.raw_folders import HIDDEN, LeftOut, Scan, list_folder, scan_raw
from custom_modules.datasets.split_plan import Plan, plan_folds, plan_split
from custom_modules.errors import InputError, refuse
from custom_modules.files import check_folder, printable
from custom_modules.photos.fingerprint import fingerprint_all, group_near_duplicates
from custom_modules.progress import Progress

MODES = ('copy', 'hardlink', 'symlink')


@dataclass(frozen=True)
class SplitReport:
    """The contents of a prepared dataset, and lines for the user: ``notes`` to read, ``warnings`` to act on."""

    counts: dict[str, dict[str, int]]  # photos by side and class
    left_out: list[LeftOut]
    digest: str | None  # None without a manifest that fits the dataset
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def photos(self) -> int:
        """Number of photos in the dataset."""
        return sum(sum(side.values()) for side in self.counts.values())

    @property
    def has_problems(self) -> bool:
        """Whether there are warnings, or more than hidden files was left out."""
        return bool(self.warnings) or any(item.reason != HIDDEN for item in self.left_out)

    def __str__(self) -> str:
        lines = [f'left out: {path} ({reason})' for path, reason in self.left_out]
        lines += [*self.notes, *(f'warning: {warning}' for warning in self.warnings)]
        train, val = (self.counts[side] for side in SIDES)
        rows = [('class', *SIDES), *((name, train[name], val[name]) for name in train)]
        rows.append(('total', sum(train.values()), sum(val.values())))
        width = max(len(name) for name, _, _ in rows)
        return '\n'.join([*lines, *(f'{name:<{width}} {in_train:>7} {in_val:>7}' for name, in_train, in_val in rows)])


def split_dataset(
    raw: Path,
    out: Path,
    ratio: float = 0.8,
    seed: int = 0,
    mode: str = 'copy',
    progress: Progress | None = None,
    *,
    keep_all: bool = False,
    folds: int = 0,
    rename: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> SplitReport:
    """Splits a folder of class folders into a prepared dataset; tools/split_dataset.py says which photos are kept.

    Args:
        raw: Folder whose direct subfolders are the classes; only read.
        out: The dataset's folder, made whole or not at all; may exist when empty.
        ratio: Share of each class that goes to train, in (0, 1), rounded down to whole photos.
        seed: What the order of the photos is drawn from.
        mode: One of :data:`MODES`; links are absolute.
        progress: Called after each photo.
        keep_all: Keep every photo, unopened: neither broken ones nor duplicates are looked for.
        folds: Number of folds to list within train; 0 for none.
        rename: Class of a folder, where it is not the folder's name; several may become one.
        workers: Number of processes that compare photos; None for one per core, 8 at most.

    Raises:
        InputError: When the folders or the options cannot be used, or a file cannot be read or written.
    """
    problems = _folder_problems(raw, out)
    if not 0 < ratio < 1:
        problems.append(f'ratio {ratio} is not between 0 and 1; 0.8 sends four of five photos to train')
    if folds and folds < 2:
        problems.append(f'{folds} folds: two or more are needed')
    if mode not in MODES:
        problems.append(f'no such mode: {mode}; known are {", ".join(MODES)}')
    refuse(problems)
    check_folder(Path(os.path.realpath(out)).parent)
    scan = scan_raw(raw, rename)
    if len(scan.photos) < 2:
        raise InputError(f'two or more classes are needed, found: {", ".join(scan.photos)}')
    if not keep_all:
        scan = _compare(raw, scan, workers, progress)
    plan = plan_split(scan.photos, ratio, seed, scan.groups)
    if folds:
        plan = plan_folds(plan, folds)
    digest = _write_prepared(raw, out, scan, plan, mode, progress)
    return SplitReport(plan.counts, scan.left_out, digest, *_about_groups(scan))


def parse_rename(pairs: Iterable[str]) -> dict[str, str]:
    """The class of each folder, from ``FOLDER=CLASS`` pairs; refuses other forms and folders named twice."""
    rename: dict[str, str] = {}
    problems = []
    for pair in pairs:
        folder, _, name = pair.rpartition('=')
        if not (folder and name):
            problems.append(f'--rename {pair}: FOLDER=CLASS is expected, as in roses=rose')
        elif rename.setdefault(folder, name) != name:
            problems.append(f'--rename {pair}: {folder} becomes {rename[folder]} already')
    refuse(problems)
    return rename


def _compare(raw: Path, scan: Scan, workers: int | None, progress: Progress | None) -> Scan:
    """Opens all photos of a scan; leaves out unreadable and repeated ones, and groups near-duplicates.

    Raises:
        InputError: Nothing is left of a class.
    """
    names = {path: printable(source) for path, source in scan.sources.items()}
    paths = sorted(scan.sources)
    step = None if progress is None else lambda done, total: progress('comparing', done, total)
    found = fingerprint_all([raw / scan.sources[path] for path in paths], workers, step)
    fingerprints = dict(zip(paths, found, strict=True))
    copies: dict[str | None, list[str]] = {}  # photos of the same content, sorted by name
    reasons: dict[str, str] = {}
    for path, item in fingerprints.items():
        if item.problem is not None:
            reasons[path] = item.problem
        else:
            copies.setdefault(item.sha256, []).append(path)
    for same in copies.values():
        conflict = len({_class_of(path) for path in same}) > 1
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or _class_of(other) != _class_of(path))
            reasons[path] = f'same content as {names[other]}{", of another class" if conflict else ""}'
    kept = [path for path in paths if path not in reasons]
    problems = []
    for name in sorted({_class_of(path) for path in paths} - {_class_of(path) for path in kept}):
        gone = [path for path in paths if _class_of(path) == name]
        problems.append(
            f'class {name!r}: none of its {len(gone)} photo(s) can be used, as {names[gone[0]]} '
            f'({reasons[gone[0]]}): add photos or remove the class'
        )
    refuse(problems)
    groups = group_near_duplicates([fingerprints[path].phash for path in kept])
    return replace(
        scan,
        sources={path: scan.sources[path] for path in kept},
        left_out=sorted([*scan.left_out, *(LeftOut(names[path], reason) for path, reason in reasons.items())]),
        fingerprints={path: fingerprints[path] for path in kept},
        groups=[[kept[position] for position in group] for group in groups],
    )


def _class_of(path: str) -> str:
    return path.split('/')[0]


def _write_prepared(raw: Path, out: Path, scan: Scan, plan: Plan, mode: str, progress: Progress | None) -> str:
    """Writes a dataset to a folder next to ``out``, moves it into place when complete, and returns its digest."""
    target = Path(os.path.realpath(out))
    partial = target.with_name(f'.{target.name}.partial-{secrets.token_hex(4)}')
    try:
        contents: dict[str, str] = {}
        for side in SIDES:
            for name in plan.classes:
                (partial / side / name).mkdir(parents=True)
            for path, _ in plan.samples(side):
                source = raw / scan.sources[path]
                sha256 = contents[f'{side}/{path}'] = _place(source, partial / side / path, mode)
                if scan.fingerprints and scan.fingerprints[path].sha256 != sha256:
                    raise InputError(f'{source}: changed while it was split; nothing was written to {out}')
                if progress:
                    progress('copying' if mode == 'copy' else 'linking', len(contents), len(scan.sources))
        _write_lists(partial, plan)
        digest = write_manifest(partial, plan, mode, contents, scan)
        if target.exists():
            target.rmdir()  # fails unless empty
        partial.rename(target)
    except OSError as error:
        raise InputError(f'{error.filename or out}: {error.strerror}; nothing was written to {out}') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def _write_lists(folder: Path, plan: Plan) -> None:
    """Writes ``classes.txt``, the lists of train and val, and those of the folds."""
    write_classes(folder / 'classes.txt', plan.classes)
    for side in SIDES:
        write_samples(folder / f'{side}.txt', plan.samples(side))
    for number, validating in enumerate(plan.folds):
        fold = folder / f'fold{number}'
        fold.mkdir()
        write_samples(fold / 'val.txt', validating)
        write_samples(fold / 'train.txt', set(plan.samples('train')) - set(validating))


def _place(source: Path, target: Path, mode: str) -> str:
    """Copies or links one photo; returns its sha256, in hex."""
    content = source.read_bytes()
    try:
        if mode == 'hardlink':
            os.link(os.path.realpath(source), target)
        elif mode == 'symlink':
            os.symlink(os.path.realpath(source), target)
        else:
            target.write_bytes(content)
    except OSError as error:
        if mode == 'copy':
            raise
        raise InputError(f'{source}: no {mode} can be made there ({error.strerror}); use --mode copy') from None
    return hashlib.sha256(content).hexdigest()


def _about_groups(scan: Scan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the notes and the warnings about near-duplicates."""
    photos = sum(len(group) for group in scan.groups)
    notes = f'near-duplicates: {len(scan.groups)} group(s) of {photos} photos, each in one subset; see manifest.json'
    warnings = [
        'near-duplicates in different classes, one label may be wrong: '
        + ', '.join(printable(scan.sources[path]) for path in group)
        for group in scan.groups
        if len({_class_of(path) for path in group}) > 1
    ]
    return (notes,) if scan.groups else (), tuple(warnings)


def _folder_problems(raw: Path, out: Path) -> list[str]:
    source, target = Path(os.path.realpath(raw)), Path(os.path.realpath(out))
    if target.is_relative_to(source) or source.is_relative_to(target):
        return [f'{out}: is inside {raw}, or the other way round; choose an output folder apart from the raw photos']
    if os.path.isdir(target):
        full = f'{out}: exists and is not empty, and a split is never mixed in: choose another folder or remove it'
        return [full] if list_folder(target) else []
    return [f'{out}: exists and is no folder; choose another'] if os.path.lexists(out) else []
