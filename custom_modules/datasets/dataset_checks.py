"""What is wrong or odd in a whole folder of photos, raw or prepared. How findings are shown: check_report.py."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SIDES, Sample, check_disjoint, is_prepared, read_classes, read_samples
from custom_modules.datasets.image_checks import Photo, inspect_all, photo_findings
from custom_modules.datasets.manifest import read_manifest
from custom_modules.datasets.raw_folders import HIDDEN, survey_raw
from custom_modules.errors import InputError
from custom_modules.files import printable
from custom_modules.photos.fingerprint import group_near_duplicates
from custom_modules.progress import Progress

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
# Above it, balanced weights or more photos are worth a trial; the five flower classes are within 1.1.
MAX_IMBALANCE = 2.0


class Kind(NamedTuple):
    """A kind of finding.

    Args:
        severity: ``error``: training stops or its score means nothing; ``warning``: look at it; ``note``: harmless,
            and no reason to exit with 1.
        title: What was found, short.
        advice: What to do.
    """

    severity: str
    title: str
    advice: str


_SPLIT_AGAIN = 'split the raw photos again with tools/split_dataset.py into a new folder, which keeps such on one side'
_ONE_CLASS = 'decide on one class and delete the other file; where it shows both flowers, delete both'
KINDS = {
    'annotation': Kind(
        ERROR, 'annotation errors', 'each line says what to mend; python tools/generate_metadata.py DATA rewrites them'
    ),
    'folder': Kind(ERROR, 'folders that are no classes', 'each line says what to mend'),
    'manifest': Kind(
        ERROR,
        'photos that are not those of manifest.json',
        f'restore them, or delete manifest.json, or {_SPLIT_AGAIN}',
    ),
    'empty': Kind(ERROR, 'empty files', 'copy them again from where they came, or delete them: training stops there'),
    'broken': Kind(
        ERROR,
        'broken or unreadable photos',
        'copy them again from where they came, or delete them: training stops there, or sees half a photo',
    ),
    'leak_name': Kind(
        ERROR,
        'same name in train and val',
        'remove it from one side, and list again with tools/generate_metadata.py; training refuses such a dataset',
    ),
    'leak_content': Kind(
        ERROR,
        'same content in train and val',
        f'validation would reward learning by heart: {_SPLIT_AGAIN}',
    ),
    'leak_look': Kind(
        ERROR,
        'near-duplicates across train and val',
        f'validation would reward learning by heart: {_SPLIT_AGAIN}',
    ),
    'conflict_content': Kind(ERROR, 'same content in two classes', f'one label is wrong: {_ONE_CLASS}'),
    'conflict_look': Kind(ERROR, 'near-duplicates in two classes', f'one label may be wrong: {_ONE_CLASS}'),
    'exact_duplicate': Kind(
        WARNING, 'same content twice in a class', 'keep one: a copy counts double; tools/split_dataset.py does so'
    ),
    'near_duplicate': Kind(
        WARNING,
        'near-duplicates in a class',
        'keep the best, or keep them on one side of the split, as tools/split_dataset.py does',
    ),
    'unlisted': Kind(
        WARNING, 'photos in no list', 'list them with python tools/generate_metadata.py DATA, or take them away'
    ),
    'left_out': Kind(WARNING, 'not photos of a class', 'move, rename or delete them: training does not see them'),
    'misnamed': Kind(
        WARNING,
        'suffix and content differ',
        'rename or convert: training here reads the content, but other programs go by the suffix',
    ),
    'tiny': Kind(WARNING, 'shorter than half the crop', 'find a larger original, or delete: most detail is invented'),
    'odd_size': Kind(WARNING, 'much larger or smaller than the others', 'look: thumbnails, screenshots, scans?'),
    'odd_aspect_ratio': Kind(
        WARNING,
        'very long or very tall',
        'crop to the flower: the centre crop of validation sees a third of it at most',
    ),
    'low_information': Kind(WARNING, 'almost nothing to see', 'look, and delete what shows no flower'),
    'dark': Kind(WARNING, 'dark', 'look, and brighten or delete what cannot be recognised'),
    'light': Kind(WARNING, 'overexposed', 'look, and delete what cannot be recognised'),
    'blurry': Kind(WARNING, 'blurred everywhere', 'look, and delete what cannot be recognised'),
    'cmyk': Kind(
        WARNING,
        'CMYK',
        'convert to RGB: OpenCV, with which training reads, ignores the colour profile, and colours shift',
    ),
    'deep': Kind(
        WARNING,
        '16 bits a channel',
        'convert to 8 bits: training keeps the upper 8 only, and dark pictures turn black',
    ),
    'animated': Kind(WARNING, 'more than one picture in the file', 'save the right one: training sees the first'),
    'transparent': Kind(
        WARNING, 'transparent', 'flatten on a background: training ignores transparency and sees what lies beneath'
    ),
    'imbalance': Kind(
        WARNING,
        'classes of very different size',
        'add photos, or weight the loss; look at recall per class rather than accuracy',
    ),
    'near_duplicate_one_side': Kind(
        NOTE, 'near-duplicates on one side of the split', 'nothing: they leak nowhere; of many, keep the best'
    ),
    'small': Kind(NOTE, 'shorter than the crop', 'nothing: training and prediction enlarge them, up to twofold'),
    'grey': Kind(
        NOTE, 'without colour', 'nothing, unless one class has many: then a model may learn that grey is that'
    ),
    'palette': Kind(NOTE, 'palette of 256 colours or less', 'nothing: training and prediction convert them to RGB'),
    'orientation': Kind(
        NOTE,
        'turned by EXIF',
        'nothing: training, test and prediction (cv2, color_type "color") all turn them upright',
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        kind: A key of :data:`KINDS`.
        paths: The photos it is about, relative to the dataset; several where they belong together.
        detail: What exactly; may be empty where the kind says all.
        count: How many it stands for.
    """

    kind: str
    paths: tuple[str, ...] = ()
    detail: str = ''
    count: int = 1


@dataclass(frozen=True)
class Item:
    """One photo among the others.

    Args:
        path: Relative to the dataset: ``class/image``, or ``train/class/image``.
        side: ``train``, ``val``, or empty for raw photos.
        label: Its class.
        photo: What is known of it.
    """

    path: str
    side: str
    label: str
    photo: Photo


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        data: The folder.
        prepared: Whether it is a prepared dataset rather than class folders.
        counts: Number of photos by side (empty for raw photos) and class.
        findings: In the order of :data:`KINDS`.
    """

    data: str
    prepared: bool
    counts: dict[str, dict[str, int]]
    findings: list[Finding] = field(default_factory=list)

    @property
    def photos(self) -> int:
        """Number of photos checked."""
        return sum(sum(side.values()) for side in self.counts.values())

    @property
    def class_weights(self) -> dict[str, float]:
        """Balanced weights of what training sees, by class."""
        return class_weights(self.counts.get('train', self.counts.get('', {})))

    @property
    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings by kind, kinds in the order of :data:`KINDS`."""
        return {kind: found for kind in KINDS if (found := [item for item in self.findings if item.kind == kind])}

    @property
    def has_problems(self) -> bool:
        """Whether there is more than notes."""
        return any(KINDS[finding.kind].severity != NOTE for finding in self.findings)


def check_dataset(
    data: Path, crop: int = 224, workers: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Checks a folder of class folders, or a prepared dataset; nothing is changed.

    Args:
        data: The folder.
        crop: Edge of the square that training cuts out, in pixels.
        workers: Number of processes that read photos; None for one per core, 8 at most.
        progress: Called now and then.

    Raises:
        InputError: There are no photos, the folder cannot be listed, or imagehash is not installed.
    """
    prepared = is_prepared(data)
    roots = [side for side in SIDES if os.path.isdir(data / side)] if prepared else ['']
    findings: list[Finding] = []
    photos: dict[str, dict[str, list[str]]] = {}
    for side in roots:
        scan, problems = survey_raw(data / side)
        photos[side] = scan.photos
        findings += _from_lines('folder', problems)
        findings += [
            Finding('left_out', (_join(side, path),), reason) for path, reason in scan.left_out if reason != HIDDEN
        ]
    names = [(side, label, image) for side in roots for label, images in photos[side].items() for image in images]
    classes = sorted({label for _, label, _ in names})
    if prepared:
        listed_classes, found_in_lists = check_annotation(data, photos)
        findings += found_in_lists
        classes = sorted(
            classes, key=lambda name: listed_classes.index(name) if name in listed_classes else len(classes)
        )
    if not names:
        raise InputError(*(f.detail for f in findings if f.kind != 'left_out'), f'{data}: no photos to check')
    if not prepared and len(classes) == 1:
        findings.append(Finding('folder', (), f'{data}: only one class, {classes[0]!r}: training needs two or more'))
    paths = [_join(side, f'{label}/{image}') for side, label, image in names]
    step = None if progress is None else lambda done, total: progress('checking', done, total)
    found = inspect_all([data / path for path in paths], workers, step)
    items = [Item(path, side, label, photo) for path, (side, label, _), photo in zip(paths, names, found, strict=True)]
    for item in items:
        findings += [
            Finding(kind, (item.path,), detail) for kind, detail in photo_findings(item.path, item.photo, crop)
        ]
    findings += compare_items(items)
    if prepared:
        findings += check_manifest(data, items)
    counts = {side: {label: len(photos[side].get(label, ())) for label in classes} for side in roots}
    findings += check_balance(counts.get('train', counts.get('', {})))
    order = list(KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    return CheckReport(str(data), prepared, counts, findings)


def check_annotation(data: Path, photos: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[list[str], list[Finding]]:
    """Reads ``classes.txt``, the lists and those of folds, and compares them with the photos that are there.

    Args:
        data: The prepared dataset.
        photos: Names of the photos by side and class.

    Returns:
        Class names in label order, empty where they cannot be read, and the findings.
    """
    try:
        classes = read_classes(data / 'classes.txt')
    except InputError as error:
        return [], _from_lines('annotation', error.problems)
    findings: list[Finding] = []
    for side in SIDES:
        listed = {sample.path for sample in _read_list(data / f'{side}.txt', classes, data / side, findings)}
        there = {f'{label}/{image}' for label, images in photos.get(side, {}).items() for image in images}
        if listed:
            findings += [Finding('unlisted', (f'{side}/{path}',)) for path in sorted(there - listed)]
    for fold in sorted(data.glob('fold[0-9]*')):  # parts of train that validate in turn
        parts = [_read_list(fold / f'{side}.txt', classes, data / 'train', findings) for side in SIDES]
        try:
            check_disjoint(*parts)
        except InputError as error:
            findings += _from_lines('annotation', [f'{fold.name}: {line}' for line in error.problems])
    return classes, findings


def check_manifest(data: Path, items: Iterable[Item]) -> list[Finding]:
    """Compares the photos with what ``manifest.json`` says of them; nothing is found without one."""
    try:
        manifest = read_manifest(data)
    except InputError as error:
        return _from_lines('manifest', error.problems)
    if manifest is None:
        return []
    files = manifest['files']
    findings = []
    there = set()
    for item in items:
        there.add(item.path)
        if item.path not in files:
            findings.append(Finding('manifest', (item.path,), 'added since the split'))
        elif item.photo.fingerprint.sha256 != files[item.path]['sha256']:
            findings.append(Finding('manifest', (item.path,), 'changed since the split'))
    findings += [Finding('manifest', (), f'{path} has gone since the split') for path in sorted(set(files) - there)]
    return findings


def compare_items(items: Sequence[Item]) -> list[Finding]:
    """Finds copies and near-duplicates: across train and val, across classes, within a class; and names in both."""
    findings = []
    by_name: dict[str, list[Item]] = defaultdict(list)
    by_content: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_name[item.path.split('/', 1)[1] if item.side else item.path].append(item)
        if item.photo.fingerprint.sha256 and not item.photo.problem:
            by_content[item.photo.fingerprint.sha256].append(item)
    named = set()
    for same in by_name.values():
        if len(same) > 1:
            named.add(_paths(same))
            contents = {item.photo.fingerprint.sha256 for item in same}
            findings.append(
                Finding('leak_name', _paths(same), f'{"the same" if len(contents) == 1 else "another"} content')
            )
    for same in by_content.values():
        if len(same) > 1 and _paths(same) not in named:
            findings += [Finding(kind, _paths(same)) for kind in _relations(same, 'content', 'exact_duplicate')]
    # Pictures with almost nothing in them all look alike. Of copies, one stands for all.
    first = [
        same[0]
        for same in by_content.values()
        if not any(kind == 'low_information' for kind, _ in photo_findings(same[0].path, same[0].photo))
    ]
    for group in group_near_duplicates([item.photo.fingerprint.phash for item in first]):
        alike = [item for position in group for item in by_content[str(first[position].photo.fingerprint.sha256)]]
        within = 'near_duplicate_one_side' if alike[0].side else 'near_duplicate'
        findings += [Finding(kind, _paths(alike)) for kind in _relations(alike, 'look', within)]
    return findings


def check_balance(counts: Mapping[str, int]) -> list[Finding]:
    """Finds classes of very different size, with the weights that make up for it."""
    present = {label: count for label, count in counts.items() if count}
    if len(present) < 2 or max(present.values()) < MAX_IMBALANCE * min(present.values()):
        return []
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    ratio = present[most] / present[least]
    detail = f'{most} has {present[most]} photos, {least} {present[least]}: {ratio:.1f} times as many'
    return [Finding('imbalance', (), detail)]


def class_weights(counts: Mapping[str, int]) -> dict[str, float]:
    """Returns balanced weights, N / (K n) for a class of n among N photos of K classes (King & Zeng 2001).

    A class without photos has weight 0.
    """
    total, classes = sum(counts.values()), len(counts)
    return {label: round(total / (classes * count), 3) if count else 0.0 for label, count in counts.items()}


def weights_option(weights: Iterable[float]) -> str:
    """Returns the option that gives the weights to training, in label order, for a loss of type CrossEntropyLoss."""
    return f"--cfg-options 'model.head.loss.class_weight=[{','.join(f'{weight:g}' for weight in weights)}]'"


def _relations(items: Sequence[Item], how: str, within: str) -> list[str]:
    """Returns the kinds of finding that photos which are alike make."""
    kinds = []
    if len({item.side for item in items}) > 1:
        kinds.append(f'leak_{how}')
    if len({item.label for item in items}) > 1:
        kinds.append(f'conflict_{how}')
    return kinds or [within]


def _read_list(file: Path, classes: Sequence[str], root: Path, findings: list[Finding]) -> list[Sample]:
    """Returns the samples of a list; where it breaks the format, none, and adds to the findings."""
    try:
        return read_samples(file, classes, root)
    except InputError as error:
        findings += _from_lines('annotation', error.problems)
        return []


def _paths(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(sorted(item.path for item in items))


def _from_lines(kind: str, lines: Iterable[str]) -> list[Finding]:
    """Returns a finding a line; the last line of many says how many more there are."""
    findings = []
    for line in lines:
        more = re.fullmatch(r'and (\d+) more', line)
        findings.append(Finding(kind, (), printable(line), int(more[1]) if more else 1))
    return findings


def _join(side: str, path: str) -> str:
    return f'{side}/{path}' if side else path
