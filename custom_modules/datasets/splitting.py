"""Splits raw photos in class folders into a prepared dataset, which appears whole or not at all.

Steps: raw_folders.py lists, comparison.py opens and compares, split_plan.py decides, this module copies.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import SIDES, refuse, write_classes, write_samples
from custom_modules.datasets.comparison import Comparison, compare_photos
from custom_modules.datasets.manifest import format_manifest, make_manifest
from custom_modules.datasets.raw_folders import HIDDEN, LeftOut, list_folder, scan_raw
from custom_modules.datasets.split_plan import (
    Plan,
    class_problems,
    fold_problems,
    plan_folds,
    plan_split,
    ratio_problems,
)
from custom_modules.errors import InputError
from custom_modules.files import check_folder, printable
from custom_modules.photos.fingerprint import Fingerprint
from custom_modules.progress import Progress

MODE_NAMES = {'copy': 'copying', 'hardlink': 'linking', 'symlink': 'linking'}
MODES = tuple(MODE_NAMES)


@dataclass(frozen=True)
class SplitReport:
    """The contents of a prepared dataset.

    Args:
        counts: Number of photos by side and class.
        left_out: Files of the source folder that are not in the dataset.
        digest: Identifies the dataset; None without a manifest that fits it.
        notes: Lines the user should read.
        warnings: Lines the user should act on.
    """

    counts: dict[str, dict[str, int]]
    left_out: list[LeftOut]
    digest: str | None
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
        rows = [('class', 'train', 'val'), *((name, str(train[name]), str(val[name])) for name in train)]
        rows.append(('total', str(sum(train.values())), str(sum(val.values()))))
        width = max(len(name) for name, _, _ in rows)
        lines += [f'{name:<{width}} {in_train:>7} {in_val:>7}' for name, in_train, in_val in rows]
        return '\n'.join(lines)


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
    """Splits a folder of class folders into a prepared dataset.

    Unreadable photos are left out. So is repeated content: all of it if it is in two classes, all but the first by
    name if it is in one. Near-duplicates stay in one subset.

    Args:
        raw: Folder whose direct subfolders are the classes; only read.
        out: The dataset's folder, made whole or not at all; may exist when empty.
        ratio: Share of each class that goes to train, in (0, 1), rounded down to whole photos.
        seed: What the order of the photos is drawn from.
        mode: ``copy``, ``hardlink`` or ``symlink`` (absolute links).
        progress: Called after each photo with the step and the numbers of photos done and in all.
        keep_all: Keep every photo, unopened: neither broken ones nor duplicates are looked for.
        folds: Number of folds to list within train; 0 for none.
        rename: Class of a folder, where it is not the folder's name; several may become one.
        workers: Number of processes that compare photos; None for one per core, 8 at most.

    Raises:
        InputError: When the folders or the options cannot be used, or a file cannot be read or written.
    """
    problems = _folder_problems(raw, out) + ratio_problems(ratio) + (fold_problems(folds) if folds else [])
    if mode not in MODES:
        problems.append(f'no such mode: {mode}; known are {", ".join(MODES)}')
    if problems:
        refuse(problems)
    check_folder(Path(os.path.realpath(out)).parent)
    scan = scan_raw(raw, rename)
    if problems := class_problems(scan.photos):
        refuse(problems)
    compared = Comparison(scan.photos, [], {}, []) if keep_all else compare_photos(raw, scan, workers, progress)
    plan = plan_split(compared.photos, ratio, seed, compared.groups)
    if folds:
        plan = plan_folds(plan, folds)
    left_out = sorted(scan.left_out + compared.left_out)
    digest = write_prepared(raw, out, plan, mode, progress, left_out, scan.sources, compared.fingerprints)
    notes, warnings = _about_groups(plan.groups, scan.sources)
    return SplitReport(plan.counts, left_out, digest, notes, warnings)


def parse_rename(pairs: Iterable[str]) -> dict[str, str]:
    """The class of each folder, from ``FOLDER=CLASS`` pairs.

    Raises:
        InputError: For pairs of another form, and folders named twice.
    """
    rename: dict[str, str] = {}
    problems = []
    for pair in pairs:
        folder, _, name = pair.rpartition('=')
        if not (folder and name):
            problems.append(f'--rename {pair}: FOLDER=CLASS is expected, as in roses=rose')
        elif rename.setdefault(folder, name) != name:
            problems.append(f'--rename {pair}: {folder} becomes {rename[folder]} already')
    if problems:
        raise InputError(*problems)
    return rename


def write_prepared(
    raw: Path,
    out: Path,
    plan: Plan,
    mode: str = 'copy',
    progress: Progress | None = None,
    left_out: Sequence[LeftOut] = (),
    sources: Mapping[str, str] | None = None,
    fingerprints: Mapping[str, Fingerprint] | None = None,
) -> str:
    """Writes the dataset of a plan to a folder next to ``out``, and moves it into place when complete.

    Args:
        raw: Folder of the photos.
        out: The dataset's folder.
        plan: The subset of each photo.
        mode: ``copy``, ``hardlink`` or ``symlink``.
        progress: Called after each photo.
        left_out: For the manifest.
        sources: Path of each photo in ``raw`` by ``class/image``; None if the two are equal.
        fingerprints: Of the photos, by ``class/image``; None if they were not compared.

    Returns:
        The digest in ``manifest.json``.

    Raises:
        InputError: A file cannot be read or written; nothing of the dataset is left then.
    """
    target = Path(os.path.realpath(out))
    partial = target.with_name(f'.{target.name}.partial-{secrets.token_hex(4)}')
    total = sum(sum(counts.values()) for counts in plan.counts.values())
    try:
        contents: dict[str, str] = {}
        for side in SIDES:
            for name in plan.classes:
                (partial / side / name).mkdir(parents=True)
            for sample in plan.samples(side):
                path = f'{side}/{sample.path}'
                source = raw / (sources or {}).get(sample.path, sample.path)
                contents[path] = _place(source, partial / path, mode)
                if fingerprints and fingerprints[sample.path].sha256 != contents[path]:
                    raise InputError(f'{source}: changed while it was split; nothing was written to {out}')
                if progress:
                    progress(MODE_NAMES[mode], len(contents), total)
        _write_lists(partial, plan)
        manifest = make_manifest(plan, mode, contents, left_out, fingerprints or {})
        (partial / 'manifest.json').write_bytes(format_manifest(manifest))
        if target.exists():
            target.rmdir()  # fails unless empty
        partial.rename(target)
    except OSError as error:
        raise InputError(f'{error.filename or out}: {error.strerror}; nothing was written to {out}') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest['digest']


def _write_lists(folder: Path, plan: Plan) -> None:
    """Writes ``classes.txt``, the lists of train and val, and those of the folds."""
    write_classes(folder / 'classes.txt', plan.classes)
    train = plan.samples('train')
    for side in SIDES:
        write_samples(folder / f'{side}.txt', plan.samples(side))
    for number, validating in enumerate(plan.folds):
        fold = folder / f'fold{number}'
        fold.mkdir()
        write_samples(fold / 'val.txt', validating)
        write_samples(fold / 'train.txt', set(train) - set(validating))


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


def _about_groups(groups: Sequence[Sequence[str]], sources: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Returns the notes and the warnings about near-duplicates."""
    if not groups:
        return (), ()
    photos = sum(len(group) for group in groups)
    notes = (f'near-duplicates: {len(groups)} group(s) of {photos} photos, each in one subset; see manifest.json',)
    warnings = tuple(
        'near-duplicates in different classes, one label may be wrong: '
        + ', '.join(printable(sources[path]) for path in group)
        for group in groups
        if len({path.split('/')[0] for path in group}) > 1
    )
    return notes, warnings


def _folder_problems(raw: Path, out: Path) -> list[str]:
    source, target = Path(os.path.realpath(raw)), Path(os.path.realpath(out))
    if target.is_relative_to(source) or source.is_relative_to(target):
        return [f'{out}: is inside {raw}, or the other way round; choose an output folder apart from the raw photos']
    if os.path.isdir(target):
        if list_folder(target):
            return [
                f'{out}: exists and is not empty, and a split is never mixed in: choose another folder or remove it'
            ]
    elif os.path.lexists(out):
        return [f'{out}: exists and is no folder; choose another']
    return []
