"""Checks of a whole folder of images, raw or prepared: annotation, leaks, conflicting labels, balance."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SIDES, Sample, check_disjoint, is_prepared, read_classes, read_samples
from custom_modules.datasets.image_checks import CheckedImage, check_images
from custom_modules.datasets.manifest import read_manifest
from custom_modules.datasets.raw_folders import HIDDEN, survey_raw
from custom_modules.errors import InputError
from custom_modules.files import printable
from custom_modules.photos.fingerprint import group_near_duplicates
from custom_modules.progress import Progress

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
# Above this ratio of class sizes, try class weights or more photos; the five flower classes are within 1.1.
MAX_IMBALANCE = 2.0


class Kind(NamedTuple):
    """A kind of finding.

    Args:
        severity: ``error``: training stops or its score is meaningless; ``warning``: look at it; ``note``: harmless,
            does not affect the exit code.
        title: A short name.
        advice: What to do.
    """

    severity: str
    title: str
    advice: str


_SPLIT_AGAIN = 'split the raw photos again with tools/split_dataset.py into a new folder, which keeps such together'
_COPY_AGAIN = 'copy them again from their source, or delete them'
_ONE_CLASS = 'decide on one class and delete the other file; if it shows both flowers, delete both'
_DELETE_POOR = 'look, and delete what cannot be recognised'
KINDS = {
    'annotation': Kind(ERROR, 'annotation errors', 'fix each line, or run python tools/generate_metadata.py DATA'),
    'folder': Kind(ERROR, 'folders that are no classes', 'each line says what to fix'),
    'manifest': Kind(
        ERROR, 'files differ from manifest.json', f'restore them, or delete manifest.json, or {_SPLIT_AGAIN}'
    ),
    'empty': Kind(ERROR, 'empty files', f'{_COPY_AGAIN}: training stops there'),
    'broken': Kind(ERROR, 'corrupt or unreadable images', f'{_COPY_AGAIN}: training stops there, or sees half'),
    'leak_name': Kind(
        ERROR, 'same name in train and val', 'remove one, and run tools/generate_metadata.py: training refuses this'
    ),
    'leak_content': Kind(ERROR, 'same content in train and val', f'val would reward memorising: {_SPLIT_AGAIN}'),
    'leak_look': Kind(ERROR, 'near-duplicates across train and val', f'val would reward memorising: {_SPLIT_AGAIN}'),
    'conflict_content': Kind(ERROR, 'same content in two classes', f'one label is wrong: {_ONE_CLASS}'),
    'conflict_look': Kind(ERROR, 'near-duplicates in two classes', f'one label may be wrong: {_ONE_CLASS}'),
    'exact_duplicate': Kind(
        WARNING, 'same content twice in a class', 'keep one, as tools/split_dataset.py does: a copy counts double'
    ),
    'near_duplicate': Kind(
        WARNING, 'near-duplicates in a class', 'keep the best; tools/split_dataset.py keeps them in one subset'
    ),
    'unlisted': Kind(WARNING, 'images in no list', 'run python tools/generate_metadata.py DATA, or remove them'),
    'left_out': Kind(WARNING, 'not images of a class', 'move, rename or delete them: training does not see them'),
    'misnamed': Kind(
        WARNING, 'suffix and content differ', 'rename or convert: other programs go by the suffix, training does not'
    ),
    'tiny': Kind(WARNING, 'shorter than half the crop', 'find a larger original, or delete: most detail is invented'),
    'odd_size': Kind(WARNING, 'much larger or smaller than the others', 'look: thumbnails, screenshots, scans?'),
    'odd_aspect_ratio': Kind(WARNING, 'very long or very tall', 'crop: validation sees a third of the image at most'),
    'low_information': Kind(WARNING, 'almost no content', 'look, and delete what shows no flower'),
    'dark': Kind(WARNING, 'dark', 'look, and brighten or delete what cannot be recognised'),
    'light': Kind(WARNING, 'overexposed', _DELETE_POOR),
    'blurry': Kind(WARNING, 'blurred everywhere', _DELETE_POOR),
    'cmyk': Kind(WARNING, 'CMYK', 'convert to RGB: OpenCV ignores the colour profile, and colours shift'),
    'deep': Kind(
        WARNING, '16 bits per channel', 'convert to 8 bits: OpenCV keeps the upper 8, dark images turn black'
    ),
    'animated': Kind(WARNING, 'several images in one file', 'save the right one: training sees the first'),
    'transparent': Kind(WARNING, 'transparent', 'flatten on a background: training sees the colours below'),
    'imbalance': Kind(
        WARNING, 'class imbalance', 'add photos, or weight the loss; look at recall per class rather than accuracy'
    ),
    'near_duplicate_one_side': Kind(
        NOTE, 'near-duplicates in one subset', 'nothing: they cause no leak; of many, keep the best'
    ),
    'small': Kind(NOTE, 'shorter than the crop', 'nothing: training and prediction enlarge them, up to twofold'),
    'grey': Kind(NOTE, 'without colour', 'nothing, unless one class has many: a model may learn grey as its sign'),
    'palette': Kind(NOTE, 'palette of 256 colours or less', 'nothing: training and prediction convert them to RGB'),
    'orientation': Kind(NOTE, 'rotated by EXIF', 'nothing: training, test and prediction turn them upright'),
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        kind: A key of :data:`KINDS`.
        paths: The images concerned, relative to the dataset; several if they belong together.
        detail: Details; empty if the kind says everything.
        count: Number of problems it represents.
    """

    kind: str
    paths: tuple[str, ...] = ()
    detail: str = ''
    count: int = 1


class Item(NamedTuple):
    """One image among the others: its path relative to the dataset, subset (empty for raw photos) and class."""

    path: str
    subset: str
    label: str
    image: CheckedImage


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Args:
        data: The folder.
        prepared: Whether it is a prepared dataset rather than class folders.
        counts: Number of images by subset (empty for raw photos) and class.
        findings: In the order of :data:`KINDS`.
    """

    data: str
    prepared: bool
    counts: dict[str, dict[str, int]]
    findings: list[Finding] = field(default_factory=list)

    @property
    def photos(self) -> int:
        """Number of images checked."""
        return sum(sum(subset.values()) for subset in self.counts.values())

    @property
    def class_weights(self) -> dict[str, float]:
        """Balanced weights of the training images, by class."""
        return class_weights(_training_counts(self.counts))

    @property
    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings by kind, kinds in the order of :data:`KINDS`."""
        return {kind: found for kind in KINDS if (found := [item for item in self.findings if item.kind == kind])}

    @property
    def has_problems(self) -> bool:
        """Whether there are errors or warnings."""
        return any(KINDS[finding.kind].severity != NOTE for finding in self.findings)


def check_dataset(
    data: Path, crop: int = 224, workers: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Checks a folder of class folders or a prepared dataset; changes nothing.

    Args:
        data: The folder.
        crop: Edge of the square that training cuts out, in pixels.
        workers: Number of processes that read images; None for one per core, 8 at most.
        progress: Called with the step and the numbers of images done and in all.

    Raises:
        InputError: There are no images, the folder cannot be listed, or CleanVision is not installed.
    """
    prepared = is_prepared(data)
    subsets = [subset for subset in SIDES if os.path.isdir(data / subset)] if prepared else ['']
    images, findings = list_images(data, subsets)
    classes = sorted({label for by_class in images.values() for label in by_class})
    if prepared:
        listed, found = check_annotation(data, images)
        findings += found
        classes.sort(key=lambda name: listed.index(name) if name in listed else len(listed))
    if not classes:
        raise InputError(*(f.detail for f in findings if f.kind != 'left_out'), f'{data}: no photos to check')
    if not prepared and len(classes) == 1:
        findings.append(Finding('folder', (), f'{data}: only one class, {classes[0]!r}: training needs two or more'))
    places = [
        (_join(subset, f'{label}/{name}'), subset, label)
        for subset in subsets
        for label, names in images[subset].items()
        for name in names
    ]
    step = None if progress is None else lambda done, total: progress('checking', done, total)
    checked = check_images([data / path for path, _, _ in places], crop, workers, step)
    items = [Item(*place, image) for place, image in zip(places, checked, strict=True)]
    findings += [Finding(kind, (item.path,), detail) for item in items for kind, detail in item.image.findings]
    findings += compare_items(items)
    if prepared:
        findings += check_manifest(data, items)
    counts = {subset: {label: len(images[subset].get(label, ())) for label in classes} for subset in subsets}
    findings += check_balance(_training_counts(counts))
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    return CheckReport(str(data), prepared, counts, findings)


def list_images(data: Path, subsets: Sequence[str]) -> tuple[dict[str, dict[str, list[str]]], list[Finding]]:
    """Lists image names by subset and class, and finds everything else in the folders."""
    images, findings = {}, []
    for subset in subsets:
        scan, problems = survey_raw(data / subset)
        images[subset] = {label: names for label, names in scan.photos.items() if names}
        findings += _from_lines('folder', problems)
        findings += [
            Finding('left_out', (_join(subset, path),), reason) for path, reason in scan.left_out if reason != HIDDEN
        ]
    return images, findings


def check_annotation(data: Path, images: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[list[str], list[Finding]]:
    """Reads ``classes.txt`` and the lists, also those of folds, and compares them with the existing images.

    Args:
        data: The prepared dataset.
        images: Names of the images by subset and class.

    Returns:
        Class names in label order, empty if they cannot be read, and the findings.
    """
    try:
        classes = read_classes(data / 'classes.txt')
    except InputError as error:
        return [], _from_lines('annotation', error.problems)
    findings: list[Finding] = []
    for subset in SIDES:
        listed = {sample.path for sample in _read_list(data / f'{subset}.txt', classes, data / subset, findings)}
        present = {f'{label}/{name}' for label, names in images.get(subset, {}).items() for name in names}
        if listed:
            findings += [Finding('unlisted', (f'{subset}/{path}',)) for path in sorted(present - listed)]
    for fold in sorted(data.glob('fold[0-9]*')):  # their validation images are part of train
        parts = [_read_list(fold / f'{subset}.txt', classes, data / 'train', findings) for subset in SIDES]
        try:
            check_disjoint(*parts)
        except InputError as error:
            findings += _from_lines('annotation', [f'{fold.name}: {line}' for line in error.problems])
    return classes, findings


def check_manifest(data: Path, items: Iterable[Item]) -> list[Finding]:
    """Compares the images with ``manifest.json``; finds nothing if there is none."""
    try:
        manifest = read_manifest(data)
    except InputError as error:
        return _from_lines('manifest', error.problems)
    if manifest is None:
        return []
    recorded = {path: entry['sha256'] for path, entry in manifest['files'].items()}
    present = {item.path: item.image.fingerprint.sha256 for item in items}
    findings = [
        Finding('manifest', (path,), f'{"changed" if path in recorded else "added"} since the split')
        for path, sha256 in present.items()
        if recorded.get(path) != sha256
    ]
    missing = sorted(recorded.keys() - present.keys())
    return findings + [Finding('manifest', (), f'{path}: missing since the split') for path in missing]


def compare_items(items: Sequence[Item]) -> list[Finding]:
    """Finds same names, copies and near-duplicates: across train and val, across classes, within a class."""
    by_name: dict[str, list[Item]] = defaultdict(list)
    by_content: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_name[item.path.split('/', 1)[1] if item.subset else item.path].append(item)
        if item.image.measures and item.image.fingerprint.sha256:
            by_content[item.image.fingerprint.sha256].append(item)
    findings, named = [], set()
    for same in by_name.values():
        if len(same) > 1:
            named.add(_paths(same))
            equal = len({item.image.fingerprint.sha256 for item in same}) == 1
            findings.append(Finding('leak_name', _paths(same), f'{"the same" if equal else "different"} content'))
    for same in by_content.values():
        if len(same) > 1 and _paths(same) not in named:
            findings += [Finding(kind, _paths(same)) for kind in _relations(same, 'content', 'exact_duplicate')]
    # One of each content; images with almost no content all look alike.
    first = [same[0] for same in by_content.values() if 'low_information' not in dict(same[0].image.findings)]
    for group in group_near_duplicates([item.image.fingerprint.phash for item in first]):
        alike = [item for position in group for item in by_content[str(first[position].image.fingerprint.sha256)]]
        within = 'near_duplicate_one_side' if alike[0].subset else 'near_duplicate'
        findings += [Finding(kind, _paths(alike)) for kind in _relations(alike, 'look', within)]
    return findings


def check_balance(counts: Mapping[str, int]) -> list[Finding]:
    """Finds classes of very different size."""
    present = {label: count for label, count in counts.items() if count}
    if len(present) < 2 or max(present.values()) < MAX_IMBALANCE * min(present.values()):
        return []
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    ratio = present[most] / present[least]
    option = weights_option(class_weights(counts).values())
    detail = f'{most} has {present[most]} photos, {least} {present[least]}: {ratio:.1f} times as many; {option}'
    return [Finding('imbalance', (), detail)]


def class_weights(counts: Mapping[str, int]) -> dict[str, float]:
    """Balanced weights: N / (K n) for a class of n among N images of K classes (King & Zeng 2001), 0 for n = 0."""
    total, classes = sum(counts.values()), len(counts)
    return {label: round(total / (classes * count), 3) if count else 0.0 for label, count in counts.items()}


def weights_option(weights: Iterable[float]) -> str:
    """The training option that sets these weights, in label order, for CrossEntropyLoss."""
    return f"--cfg-options 'model.head.loss.class_weight=[{','.join(f'{weight:g}' for weight in weights)}]'"


def _training_counts(counts: Mapping[str, dict[str, int]]) -> dict[str, int]:
    """Images per class that training sees: those of train, or all raw ones."""
    return counts.get('train', counts.get('', {}))


def _relations(items: Sequence[Item], how: str, within: str) -> list[str]:
    """Kinds of finding for images that are alike."""
    kinds = []
    if len({item.subset for item in items}) > 1:
        kinds.append(f'leak_{how}')
    if len({item.label for item in items}) > 1:
        kinds.append(f'conflict_{how}')
    return kinds or [within]


def _read_list(file: Path, classes: Sequence[str], root: Path, findings: list[Finding]) -> list[Sample]:
    """Samples of a list; none if it breaks the format, which is added to the findings."""
    try:
        return read_samples(file, classes, root)
    except InputError as error:
        findings += _from_lines('annotation', error.problems)
        return []


def _paths(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(sorted(item.path for item in items))


def _from_lines(kind: str, lines: Iterable[str]) -> list[Finding]:
    """One finding per line; the last line may give the number of further ones."""
    findings = []
    for line in lines:
        more = re.fullmatch(r'and (\d+) more', line)
        findings.append(Finding(kind, (), printable(line), int(more[1]) if more else 1))
    return findings


def _join(subset: str, path: str) -> str:
    return f'{subset}/{path}' if subset else path
