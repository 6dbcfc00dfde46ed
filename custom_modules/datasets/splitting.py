"""A leak-aware split of class folders into a prepared dataset, which appears whole or not at all.

Steps: raw_folders.py lists, this module opens and compares, split_plan.py decides, this module copies.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from custom_modules.datasets.annotation import SIDES, Sample, label_photos, write_classes, write_samples
from custom_modules.datasets.manifest import read_manifest_digest, write_manifest
from custom_modules.datasets.raw_folders import HIDDEN, LeftOut, Scan, list_folder, scan_raw
from custom_modules.datasets.split_plan import plan_folds, plan_split
from custom_modules.errors import InputError, collect, refuse
from custom_modules.files import check_folder, printable, sha256_of, write_folder_atomically
from custom_modules.photos.fingerprint import (
    DHASH_BITS,
    PHASH_BITS,
    Fingerprint,
    fingerprint,
    group_near_duplicates,
)
from custom_modules.photos.parallel import map_photos
from custom_modules.progress import Progress

MODES: dict[str, Callable[[str, Path], object]] = {'copy': shutil.copyfile, 'hardlink': os.link, 'symlink': os.symlink}

_PHASH_DIGITS = (PHASH_BITS + DHASH_BITS) // 4  # hexadecimal


@dataclass(frozen=True)
class SplitReport:
    """The contents of a prepared dataset, and lines for the user: ``notes`` to read, ``warnings`` to act on."""

    counts: dict[str, dict[str, int]]  # photos by side and class
    left_out: list[LeftOut]
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    digest: str | None = None  # of the manifest of a split

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
        subsets = self.counts.values()
        rows: list[tuple] = [('class', *self.counts)]
        rows += [(name, *(subset.get(name, 0) for subset in subsets)) for name in self.counts['train']]
        rows.append(('total', *(sum(subset.values()) for subset in subsets)))
        width = max(len(row[0]) for row in rows)
        lines += [f'{name:<{width}}{"".join(f"{number:>8}" for number in numbers)}' for name, *numbers in rows]
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
        rename: Class of a folder, where it is not the folder's name; several may become one, with equal photo names.
        workers: Number of threads that compare photos; None for one per core, 8 at most.

    Raises:
        InputError: When the folders or the options cannot be used, or a file cannot be read or written.
    """
    _check_options(raw, out, ratio, folds)
    scan = scan_raw(raw, rename)
    refuse(scan.problems)
    classes = list(scan.photos)
    if len(classes) < 2:
        raise InputError(f'two or more classes are needed, found: {", ".join(classes)}. Add another one.')
    prints: dict[str, Fingerprint] = {}
    groups: list[list[str]] = []
    if not keep_all:
        scan, prints, groups = _compare(raw, scan, workers, progress)
    photos = plan_split(scan.photos, ratio, seed, groups)
    samples = {side: label_photos(photos[side], classes) for side in SIDES}
    in_folds = plan_folds(samples['train'], folds, seed, groups) if folds else []
    counts = {side: {name: len(images) for name, images in photos[side].items()} for side in SIDES}
    side_of = {sample.path: side for side in SIDES for sample in samples[side]}
    renamed = {
        f'{side}/{path}': scan.sources[path]
        for path, side in side_of.items()
        if path.split('/')[1] != scan.sources[path].split('/')[1]
    }
    manifest = {
        'tool': 'tools/split_dataset.py',
        'version': 1,
        'seed': seed,
        'ratio': ratio,
        'mode': mode,
        'classes': classes,
        'counts': counts,
        'folds': folds,
        'groups': [[f'{side_of[path]}/{path}' for path in group] for group in groups],
        'left_out': [item._asdict() for item in scan.left_out],
        **({'renamed': renamed} if renamed else {}),
    }

    def fill(folder: Path) -> None:
        files = _place_photos(raw, scan, prints, side_of, folder, mode, progress)
        _write_lists(folder, classes, samples, in_folds)
        write_manifest(folder, {**manifest, 'files': files})
        _check_unused(out)  # again: somebody may have used it meanwhile

    try:
        write_folder_atomically(Path(os.path.realpath(out)), fill)
    except OSError as error:
        found = f'{error.filename or out}: {error.strerror}, so nothing was written'
        raise InputError(f'{found}. Make space, or choose another folder or --mode.') from None
    notes, warnings = _about_groups(scan, groups)
    if renamed:
        notes.append(f'{len(renamed)} images of merged folders got another name; see manifest.json')
    return SplitReport(counts, scan.left_out, notes, warnings, read_manifest_digest(out))


def parse_rename(pairs: Sequence[str]) -> dict[str, str]:
    """The class of each folder, from ``FOLDER=CLASS`` pairs; refuses other forms and folders named twice."""
    folders = [pair.rpartition('=')[0] for pair in pairs]
    wrong = [pair for pair in pairs if not re.fullmatch('.+=.+', pair) or folders.count(pair.rpartition('=')[0]) > 1]
    refuse([f'--rename {pair}: FOLDER=CLASS is expected, once per folder. Write it as roses=rose.' for pair in wrong])
    return dict(pair.rsplit('=', 1) for pair in pairs)


def _check_options(raw: Path, out: Path, ratio: float, folds: int) -> None:
    problems = []
    source, target = Path(os.path.realpath(raw)), Path(os.path.realpath(out))
    if target.is_relative_to(source) or source.is_relative_to(target):
        problems.append(f'{out}: is inside {raw}, or the other way round. Choose a folder apart from the raw photos.')
    else:
        with collect(problems):
            _check_unused(out)
    if not 0 < ratio < 1:
        problems.append(f'ratio {ratio} is not between 0 and 1. 0.8 sends four of five photos to train.')
    if folds and folds < 2:
        problems.append(f'{folds} folds: two or more are needed. Choose another number.')
    refuse(problems)
    check_folder(target.parent)


def _check_unused(out: Path) -> None:
    if os.path.isdir(out) and list_folder(out):
        raise InputError(f'{out}: exists and is not empty, and a split is never mixed in. Choose another folder.')
    if os.path.lexists(out) and not os.path.isdir(out):
        raise InputError(f'{out}: exists and is no folder. Choose another name.')


def _compare(
    raw: Path, scan: Scan, workers: int | None, progress: Progress | None
) -> tuple[Scan, dict[str, Fingerprint], list[list[str]]]:
    """Opens all photos: the scan without unreadable and repeated ones, fingerprints, and groups of near-duplicates.

    Raises:
        InputError: Nothing is left of a class.
    """
    paths = sorted(scan.sources)
    step = progress and partial(progress, 'comparing')
    found = map_photos(fingerprint, [raw / scan.sources[path] for path in paths], workers, step)
    prints = dict(zip(paths, found, strict=True))
    names = {path: printable(source) for path, source in scan.sources.items()}
    copies: dict[str | None, list[str]] = {}  # photos of the same content, sorted by name
    reasons: dict[str, str] = {}
    for path, item in prints.items():
        if item.problem is not None:
            reasons[path] = item.problem
        else:
            copies.setdefault(item.sha256, []).append(path)
    for same in copies.values():
        conflict = len({_class_of(path) for path in same}) > 1
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or _class_of(other) != _class_of(path))
            reasons[path] = f'same content as {names[other]}{", of another class" if conflict else ""}'
    left_out = [LeftOut(names[path], reason) for path, reason in reasons.items()]
    sources = {path: source for path, source in scan.sources.items() if path not in reasons}
    kept = replace(scan, sources=sources, left_out=sorted(scan.left_out + left_out))
    problems = []
    for name in sorted(scan.photos.keys() - kept.photos.keys()):
        path = next(path for path in prints if _class_of(path) == name)
        why = f'none of its photos can be used, as {names[path]} ({reasons[path]})'
        problems.append(f'class {name!r}: {why}. Add photos or remove the class.')
    refuse(problems)
    usable = [path for path in paths if path not in reasons]
    near = group_near_duplicates([prints[path].phash for path in usable])
    return kept, prints, [[usable[position] for position in group] for group in near]


def _class_of(path: str) -> str:
    return path.split('/')[0]


def _place_photos(
    raw: Path,
    scan: Scan,
    prints: Mapping[str, Fingerprint],
    side_of: Mapping[str, str],
    folder: Path,
    mode: str,
    progress: Progress | None,
) -> dict[str, dict[str, str]]:
    """Copies or links the photos; returns their hashes, in hex, by ``side/class/image``, as the manifest has them."""
    files: dict[str, dict[str, str]] = {}
    for path, side in side_of.items():
        source, target = os.path.realpath(raw / scan.sources[path]), folder / side / path
        target.parent.mkdir(parents=True, exist_ok=True)
        MODES[mode](source, target)
        entry = files[f'{side}/{path}'] = {'sha256': sha256_of(target)}
        if path in prints:
            if prints[path].sha256 != entry['sha256']:
                raise InputError(f'{source}: changed while it was split, so nothing was written. Split again.')
            entry['phash'] = f'{prints[path].phash:0{_PHASH_DIGITS}x}'
        if progress:
            progress('copying' if mode == 'copy' else 'linking', len(files), len(side_of))
    return files


def _write_lists(
    folder: Path, classes: Sequence[str], samples: Mapping[str, list[Sample]], folds: Sequence[list[Sample]]
) -> None:
    """Writes ``classes.txt``, the lists of train and val, and those of the folds, which share out train."""
    write_classes(folder / 'classes.txt', classes)
    for side in SIDES:
        write_samples(folder / f'{side}.txt', samples[side], classes)
    for number, validating in enumerate(folds):
        fold = folder / f'fold{number}'
        fold.mkdir()
        write_samples(fold / 'val.txt', validating, classes)
        write_samples(fold / 'train.txt', set(samples['train']) - set(validating), classes)


def _about_groups(scan: Scan, groups: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Returns the notes and the warnings about near-duplicates."""
    photos = sum(len(group) for group in groups)
    note = f'near-duplicates: {len(groups)} group(s) of {photos} photos, each in one subset; see manifest.json'
    warnings = [
        'near-duplicates in different classes, one label may be wrong: '
        + ', '.join(printable(scan.sources[path]) for path in group)
        for group in groups
        if len({_class_of(path) for path in group}) > 1
    ]
    return [note] if groups else [], warnings
