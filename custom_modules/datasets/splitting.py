"""From raw photos in class folders to a prepared dataset: scan, compare, plan, write.

The plan is a pure function of names, near-duplicates, ratio and seed; doing it is apart. The annotation format is
annotation.py's, opening and comparing pictures duplicates.py's.
"""

import hashlib
import json
import os
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
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
from custom_modules.datasets.duplicates import (
    DHASH_BITS,
    PHASH_BITS,
    Fingerprint,
    fingerprint_all,
    group_near_duplicates,
)
from custom_modules.errors import InputError
from custom_modules.progress import Progress

MODE_NAMES = {'copy': 'copying', 'hardlink': 'linking', 'symlink': 'linking'}
MODES = tuple(MODE_NAMES)
SIDES = ('train', 'val')
HIDDEN = 'hidden or system file'
PHASH_DIGITS = (PHASH_BITS + DHASH_BITS) // 4  # in manifest.json, hexadecimal


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
        sources: The path of each photo in the folder by its ``class/image``: they differ where folders were renamed.
    """

    photos: dict[str, list[str]]
    left_out: list[LeftOut]
    sources: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """What opening and comparing the photos of a scan found.

    Args:
        photos: The photos to keep: sorted names by class, classes sorted.
        left_out: Unreadable photos and repeated content, sorted by path.
        fingerprints: Of each photo to keep, by ``class/image``.
        groups: Near-duplicates among them: two or more ``class/image`` each, sorted.
    """

    photos: dict[str, list[str]]
    left_out: list[LeftOut]
    fingerprints: dict[str, Fingerprint]
    groups: list[list[str]]


@dataclass(frozen=True)
class Plan:
    """Which photo goes to which side.

    Args:
        sides: For ``train`` and ``val``, sorted photo names by class, classes sorted.
        ratio: Share of each class that goes to train, in (0, 1).
        seed: What the order was drawn from.
        groups: The ``class/image`` that stay on one side together.
        folds: The part of ``train`` that validates, for each fold; empty without folds.
    """

    sides: dict[str, dict[str, list[str]]]
    ratio: float
    seed: int
    groups: list[list[str]] = field(default_factory=list)
    folds: list[list[Sample]] = field(default_factory=list)

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

    Unreadable photos are left out, so is content that repeats: all of it where it stands in two classes, all but the
    first by name within a class. Near-duplicates stay on one side.

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
    problems = _folder_problems(raw, out) + _ratio_problems(ratio)
    if mode not in MODES:
        problems.append(f'no such mode: {mode}; known are {", ".join(MODES)}')
    if problems:
        refuse(problems)
    scan = scan_raw(raw, rename)
    compared = Comparison(scan.photos, [], {}, []) if keep_all else compare_photos(raw, scan, workers, progress)
    plan = plan_split(compared.photos, ratio, seed, compared.groups)
    if folds:
        plan = plan_folds(plan, folds)
    left_out = sorted(scan.left_out + compared.left_out)
    digest = write_prepared(raw, out, plan, mode, progress, left_out, scan.sources, compared.fingerprints)
    notes, warnings = _about_groups(plan.groups, scan.sources)
    return SplitReport(_counts(plan.sides), left_out, digest, notes, warnings)


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
    """Lists the photos as :func:`scan_raw` does, and the problems for which that refuses.

    Raises:
        InputError: The folder cannot be listed, or is a prepared dataset.
    """
    if not os.path.isdir(raw):
        refuse(
            [f'{raw}: {"not a" if os.path.exists(raw) else "no such"} folder; point at the folder of class folders']
        )
    rename = rename or {}
    photos: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    left_out, problems = [], []
    names = _list(raw)
    prepared = [name for name in SIDES if os.path.isdir(raw / name)]
    if prepared:
        refuse(
            [
                f'{raw}: holds {" and ".join(f"{name}/" for name in prepared)}, so it is a prepared dataset and no '
                'folder of raw photos: point at the folder whose subfolders are the classes'
            ]
        )
    folders = set()
    for folder_name in names:
        folder, name = raw / folder_name, rename.get(folder_name, folder_name)
        if reason := _reason_against_class_folder(folder):
            left_out.append(LeftOut(printable(folder_name), reason))
            continue
        folders.add(folder_name)
        if problem := class_name_problem(name):
            what = 'class folder' if name == folder_name else f'--rename {folder_name}={name}:'
            problems.append(f'{raw}: {what} {problem}; rename it')
            continue
        images = []
        try:
            listed = _list(folder)
        except InputError as error:
            problems += error.problems
            continue
        for image in listed:
            if reason := _reason_against_photo(folder / image):
                left_out.append(LeftOut(printable(f'{folder_name}/{image}'), reason))
                continue
            images.append(image)
            path = f'{name}/{image}'
            if other := sources.get(path):
                problems.append(f'{raw}: {folder_name}/{image} and {other} would both become {path}; rename one')
            sources[path] = f'{folder_name}/{image}'
        if not images:
            problems.append(f'{folder}: no photos ({" ".join(IMAGE_SUFFIXES)}) in this folder; {_hint(folder)}')
        photos.setdefault(name, []).extend(images)
    for name in photos:
        photos[name] = sorted(set(photos[name]))
        problems += [f'{raw / name}: {problem}' for problem in _collisions(photos[name])]
    for folder_name in rename:
        if folder_name not in folders:
            near = get_close_matches(folder_name, folders, 1)
            hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(sorted(folders)) or "none"}'
            problems.append(f'{raw}: --rename: no class folder {folder_name!r}: {hint}')
    problems += [f'{raw}: {problem}' for problem in _collisions(photos)]
    if not photos and not problems:
        found = any(name.lower().endswith(IMAGE_SUFFIXES) for name in names)
        hint = 'it holds photos itself: point at the folder above' if found else 'expected are <class>/<photo>'
        problems.append(f'{raw}: no class folders; {hint}')
    return Scan({name: photos[name] for name in sorted(photos)}, sorted(left_out), sources), problems


def compare_photos(raw: Path, scan: Scan, workers: int | None = None, progress: Progress | None = None) -> Comparison:
    """Opens every photo of a scan, on all cores: which cannot be read, which repeat, which look alike.

    Raises:
        InputError: When nothing is left of a class.
    """
    paths = [f'{name}/{image}' for name, images in scan.photos.items() for image in images]
    step = None if progress is None else lambda done, total: progress('comparing', done, total)
    found = fingerprint_all([raw / scan.sources[path] for path in paths], workers, step)
    return compare_fingerprints(dict(zip(paths, found, strict=True)), scan.sources)


def compare_fingerprints(fingerprints: Mapping[str, Fingerprint], sources: Mapping[str, str]) -> Comparison:
    """Decides which photos to keep, and groups those.

    Args:
        fingerprints: Of each photo, by ``class/image``.
        sources: What each photo is called in what is left out, by ``class/image``.

    Raises:
        InputError: When nothing is left of a class.
    """
    copies: dict[str, list[str]] = {}  # of the same content, sorted by name
    left_out, kept = [], []
    for path in sorted(fingerprints):
        item = fingerprints[path]
        if item.problem is not None:
            left_out.append(LeftOut(printable(sources[path]), item.problem))
        else:
            copies.setdefault(str(item.sha256), []).append(path)
    for same in copies.values():
        conflict = len({path.split('/')[0] for path in same}) > 1
        if not conflict:
            kept.append(same[0])
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or other.split('/')[0] != path.split('/')[0])
            reason = f'same content as {printable(sources[other])}{", of another class" if conflict else ""}'
            left_out.append(LeftOut(printable(sources[path]), reason))
    photos: dict[str, list[str]] = {name: [] for name in sorted({path.split('/')[0] for path in fingerprints})}
    kept.sort()
    for path in kept:
        name, image = path.split('/')
        photos[name].append(image)
    reasons = dict(left_out)
    problems = []
    for name, images in photos.items():
        if not images:
            gone = [printable(sources[path]) for path in sorted(fingerprints) if path.startswith(f'{name}/')]
            problems.append(
                f'class {name!r}: none of its {len(gone)} photo(s) can be used, as {gone[0]} ({reasons[gone[0]]}): '
                'add photos or remove the class'
            )
    if problems:
        refuse(problems)
    groups = group_near_duplicates([fingerprints[path].phash for path in kept])
    return Comparison(
        photos,
        sorted(left_out),
        {path: fingerprints[path] for path in kept},
        [[kept[position] for position in group] for group in groups],
    )


def plan_split(
    photos: Mapping[str, Iterable[str]], ratio: float = 0.8, seed: int = 0, groups: Sequence[Sequence[str]] = ()
) -> Plan:
    """Plans which photos go to train: ``floor(ratio * n)`` of each class, near-duplicates on one side.

    Groups are placed first, the largest first: each on the side that its seeded hash draws, with train's share as the
    chance, or on the other one where it does not fit. Then the first photos in the order of a seeded hash fill train
    up. Only where a group has more photos of a class than there are photos outside groups, the count may be missed, by
    half of the difference at most; more only where groups reach across classes.

    The order does not depend on how the file system lists the photos, and a new photo leaves the order of the others
    as it was. The ratio counts as the decimal it is written as, so 0.7 of 10 is 7.

    Args:
        photos: Photo names by class.
        ratio: Share of each class that goes to train, in (0, 1).
        seed: What the order is drawn from.
        groups: The ``class/image`` that stay on one side together; no photo is in two.

    Raises:
        InputError: When the ratio is not in (0, 1), or a class would be empty on one side.
    """
    problems = _ratio_problems(ratio)
    if problems:
        refuse(problems)
    if len(photos) < 2:
        problems.append(f'two or more classes are needed, found: {", ".join(photos) or "none"}')
    order = {name: sorted(photos[name], key=lambda image: _hash(f'{seed}/{name}/{image}'.encode())) for name in photos}
    share = Fraction(str(ratio))
    targets = {'train': {name: share * len(order[name]) // 1 for name in order}}
    targets['val'] = {name: len(order[name]) - targets['train'][name] for name in order}
    placed: dict[str, Counter[str]] = {side: Counter() for side in SIDES}  # photos in groups, by class
    side_of: dict[str, str] = {}
    units = sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))
    for group in units:
        size = Counter(path.split('/')[0] for path in group)
        drawn = int.from_bytes(_hash(f'{seed}/{group[0]}'.encode()), 'big') < share * 2**256
        preferred = SIDES if drawn else SIDES[::-1]
        excess = {
            side: sum(max(0, placed[side][name] + n - targets[side][name]) for name, n in size.items())
            for side in preferred
        }
        side = min(preferred, key=lambda side: excess[side])
        placed[side].update(size)
        side_of.update(dict.fromkeys(group, side))
    sides: dict[str, dict[str, list[str]]] = {side: {} for side in SIDES}
    for name in sorted(order):
        free = targets['train'][name] - placed['train'][name]
        for image in order[name]:
            if f'{name}/{image}' not in side_of:
                side_of[f'{name}/{image}'] = 'train' if free > 0 else 'val'
                free -= 1
        for side in SIDES:
            sides[side][name] = sorted(image for image in order[name] if side_of[f'{name}/{image}'] == side)
        counts = [len(sides[side][name]) for side in SIDES]
        if not all(counts):
            hint = '; near-duplicates stay on one side' if sum(placed[side][name] for side in SIDES) else ''
            problems.append(
                f'class {name!r}: {sum(counts)} photo(s) at ratio {ratio} give {counts[0]} to train and '
                f'{counts[1]} to val, and each side needs one{hint}: add photos or change the ratio'
            )
    if problems:
        refuse(problems)
    return Plan(sides, ratio, seed, sorted(units))


def plan_folds(plan: Plan, folds: int) -> Plan:
    """Deals the photos of train into folds, near-duplicates into one; of each class, evenly, as far as groups allow.

    Groups come first, the largest first, then the other photos in the order of a seeded hash; each goes to the fold
    that has the fewest photos of its class, then the fewest in all.

    Raises:
        InputError: For fewer than two folds, or when a fold would lack a class.
    """
    if folds < 2:
        refuse([f'{folds} folds: two or more are needed'])
    samples = {sample.path: sample for sample in plan.samples('train')}
    grouped = {path for group in plan.groups for path in group}
    singles = sorted(samples.keys() - grouped, key=lambda path: _hash(f'{plan.seed}/fold/{path}'.encode()))
    units = sorted((group for group in plan.groups if group[0] in samples), key=lambda group: (-len(group), group))
    units += [[path] for path in singles]
    dealt: list[list[Sample]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    for unit in units:
        size = Counter(path.split('/')[0] for path in unit)

        def load(fold: int, size: Counter[str] = size) -> tuple[int, int, int]:
            return sum(counts[fold][name] for name in size), len(dealt[fold]), fold

        fold = min(range(folds), key=load)
        counts[fold].update(size)
        dealt[fold] += [samples[path] for path in unit]
    problems = [
        f'class {name!r}: its {len(plan.sides["train"][name])} photo(s) in train, near-duplicates together, do not '
        f'reach for {folds} folds: choose fewer or add photos'
        for name in plan.classes
        if not all(count[name] for count in counts)
    ]
    if problems:
        refuse(problems)
    return replace(plan, folds=[sorted(part) for part in dealt])


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
    """Writes the dataset that a plan describes into a folder beside ``out`` and moves it into place when complete.

    Args:
        raw: Folder the photos are taken from.
        out: The dataset's folder.
        plan: Which photo goes where.
        mode: ``copy``, ``hardlink`` or ``symlink``.
        progress: Called after each photo.
        left_out: What the manifest lists as left out.
        sources: Path of each photo in ``raw`` by ``class/image``; None where the two are the same.
        fingerprints: Of the photos, by ``class/image``; None when they were not compared.

    Returns:
        The digest in ``manifest.json``.

    Raises:
        InputError: When a file cannot be read or written; then nothing of the dataset is left.
    """
    target = Path(os.path.realpath(out))
    partial = target.with_name(f'.{target.name}.partial-{secrets.token_hex(4)}')
    sides = {sample.path: side for side in SIDES for sample in plan.samples(side)}
    total = sum(sum(counts.values()) for counts in _counts(plan.sides).values())
    try:
        files: dict[str, dict[str, str]] = {}
        for side in SIDES:
            for name in plan.classes:
                (partial / side / name).mkdir(parents=True)
            for sample in plan.samples(side):
                path = f'{side}/{sample.path}'
                source = raw / (sources or {}).get(sample.path, sample.path)
                files[path] = {'sha256': _place(source, partial / path, mode)}
                if fingerprints:
                    known = fingerprints[sample.path]
                    if known.sha256 != files[path]['sha256']:
                        raise InputError(f'{source}: changed while it was split; nothing was written to {out}')
                    files[path]['phash'] = f'{known.phash:0{PHASH_DIGITS}x}'
                if progress:
                    progress(MODE_NAMES[mode], len(files), total)
            write_samples(partial / f'{side}.txt', plan.samples(side))
        for number, validating in enumerate(plan.folds):
            (partial / f'fold{number}').mkdir()
            write_samples(partial / f'fold{number}' / 'val.txt', validating)
            write_samples(partial / f'fold{number}' / 'train.txt', set(plan.samples('train')) - set(validating))
        write_classes(partial / 'classes.txt', plan.classes)
        manifest: dict[str, Any] = {
            'tool': 'tools/split_dataset.py',
            'version': 1,
            'seed': plan.seed,
            'ratio': plan.ratio,
            'mode': mode,
            'classes': plan.classes,
            'counts': _counts(plan.sides),
            'folds': len(plan.folds),
            'files': files,
            'groups': [[f'{sides[path]}/{path}' for path in group] for group in plan.groups],
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
    try:
        sound = manifest['digest'] == _digest(manifest)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
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
            and all(_hash((data / name).read_bytes()).hex() == recorded[name] for name in sorted(names))
        ):
            return manifest['digest'], []
    except OSError as error:
        return None, [f'{error.filename}: cannot be read: {error.strerror}; so manifest.json cannot be checked']
    except InputError as error:
        return None, list(error.problems)
    return None, [
        f'{data / "manifest.json"}: no longer describes these files; delete it, or split the raw photos again '
        'with tools/split_dataset.py into a new folder'
    ]


def _digest(manifest: Mapping[str, Any]) -> str:
    """Returns the sha256 of what the dataset is: which photos, where, from which seed and ratio.

    Neither how they were placed, nor what is not in it, nor what follows from the photos: hashes of their look, groups
    and folds.
    """
    beside = ('digest', 'mode', 'left_out', 'groups', 'folds')
    content = {key: value for key, value in manifest.items() if key not in beside}
    content['files'] = {path: {'sha256': entry['sha256']} for path, entry in manifest['files'].items()}
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
            os.link(os.path.realpath(source), target)
        elif mode == 'symlink':
            os.symlink(os.path.realpath(source), target)
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
    if any(os.path.isdir(folder / name) for name in _list(folder)):
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


def printable(text: str) -> str:
    """Returns text that any file and terminal takes: undecodable bytes, line breaks and controls are escaped."""
    return ''.join(
        character.encode('unicode_escape').decode()
        if unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp')
        else character
        for character in text
    )


def _about_groups(groups: Sequence[Sequence[str]], sources: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Returns the notes and the warnings about near-duplicates."""
    if not groups:
        return (), ()
    photos = sum(len(group) for group in groups)
    notes = (f'near-duplicates: {len(groups)} group(s) of {photos} photos, each on one side; see manifest.json',)
    warnings = tuple(
        'near-duplicates in different classes, one label may be wrong: '
        + ', '.join(printable(sources[path]) for path in group)
        for group in groups
        if len({path.split('/')[0] for path in group}) > 1
    )
    return notes, warnings


def _ratio_problems(ratio: float) -> list[str]:
    return [] if 0 < ratio < 1 else [f'ratio {ratio} is not between 0 and 1; 0.8 sends four of five photos to train']


def _folder_problems(raw: Path, out: Path) -> list[str]:
    source, target = Path(os.path.realpath(raw)), Path(os.path.realpath(out))
    if target.is_relative_to(source) or source.is_relative_to(target):
        return [f'{out}: is inside {raw}, or the other way round; choose an output folder apart from the raw photos']
    if os.path.isdir(target):
        if _list(target):
            return [
                f'{out}: exists and is not empty, and a split is never mixed in: choose another folder or remove it'
            ]
    elif os.path.lexists(out):
        return [f'{out}: exists and is no folder; choose another']
    return []
