"""Checks of a whole folder of images, raw or prepared: annotation, leaks, conflicting labels, balance."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import SIDES, Sample, check_disjoint, is_prepared, read_classes, read_samples
from custom_modules.datasets.class_counts import class_weights
from custom_modules.datasets.image_checks import CheckedImage, check_images
from custom_modules.datasets.manifest import changes_since_split, read_manifest
from custom_modules.datasets.raw_folders import HIDDEN, scan_raw
from custom_modules.errors import InputError, collect
from custom_modules.files import printable
from custom_modules.photos.fingerprint import group_near_duplicates
from custom_modules.progress import Progress

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
# Above this ratio of class sizes, try class weights or more photos; the five flower classes are within 1.1.
MAX_IMBALANCE = 2.0


class Kind(NamedTuple):
    """A kind of finding: an error stops training or makes its score meaningless, a note is harmless."""

    severity: str
    title: str
    advice: str


_SPLIT_AGAIN = 'split the raw photos again with tools/split_dataset.py into a new folder, which keeps such together'
_COPY_AGAIN = 'copy them again from their source, or delete them: training stops there'
_LEAK = f'a test would reward memorising: {_SPLIT_AGAIN}'
_ONE_CLASS = 'decide on one class and delete the other file; if it shows both flowers, delete both'
_DELETE_POOR = 'look, and delete what cannot be recognised'
_LIST_AGAIN = 'run python tools/generate_metadata.py DATA'
# Errors first, then warnings, then notes: the order in which findings are reported.
KINDS = {
    'annotation': Kind(ERROR, 'annotation errors', f'fix each line, or {_LIST_AGAIN}'),
    'folder': Kind(ERROR, 'folders that are no classes', 'each line says what to fix'),
    'manifest': Kind(ERROR, 'files differ from manifest.json', f'restore them, or delete it, or {_SPLIT_AGAIN}'),
    'empty': Kind(ERROR, 'empty files', _COPY_AGAIN),
    'broken': Kind(ERROR, 'corrupt or unreadable images', f'do as the line says, or {_COPY_AGAIN}, or sees half'),
    'leak_content': Kind(ERROR, 'same content in two subsets', _LEAK),
    'leak_look': Kind(ERROR, 'near-duplicates across subsets', _LEAK),
    'conflict_content': Kind(ERROR, 'same content in two classes', f'one label is wrong: {_ONE_CLASS}'),
    'conflict_look': Kind(ERROR, 'near-duplicates in two classes', f'one label may be wrong: {_ONE_CLASS}'),
    'exact_duplicate': Kind(WARNING, 'same content twice in a class', 'keep one, as tools/split_dataset.py does'),
    'near_duplicate': Kind(WARNING, 'near-duplicates in a class', 'keep the best; a split keeps them in one subset'),
    'unlisted': Kind(WARNING, 'images in no list', f'{_LIST_AGAIN}, or remove them'),
    'left_out': Kind(WARNING, 'not images of a class', 'move, rename or delete them: training does not see them'),
    'misnamed': Kind(WARNING, 'suffix and content differ', 'rename or convert: other programs go by the suffix'),
    'tiny': Kind(WARNING, 'shorter than half the crop', 'find a larger original, or delete: most detail is invented'),
    'odd_size': Kind(WARNING, 'much larger or smaller than the others', 'look: thumbnails, screenshots, scans?'),
    'odd_aspect_ratio': Kind(WARNING, 'very long or very tall', 'crop: validation sees a third of the image at most'),
    'low_information': Kind(WARNING, 'almost no content', 'look, and delete what shows no flower'),
    'dark': Kind(WARNING, 'dark', 'look, and brighten or delete what cannot be recognised'),
    'light': Kind(WARNING, 'overexposed', _DELETE_POOR),
    'blurry': Kind(WARNING, 'blurred everywhere', _DELETE_POOR),
    'cmyk': Kind(WARNING, 'CMYK', 'convert to RGB: OpenCV ignores the colour profile, and colours shift'),
    'deep': Kind(WARNING, '16 bits per channel', 'convert to 8 bits: OpenCV keeps the upper 8, which may look black'),
    'animated': Kind(WARNING, 'several images in one file', 'save the right one: training sees the first'),
    'transparent': Kind(WARNING, 'transparent', 'flatten on a background: training sees the colours below'),
    'imbalance': Kind(WARNING, 'class imbalance', 'add photos, or train with --class-weights balanced'),
    'near_duplicate_one_side': Kind(NOTE, 'near-duplicates in one subset', 'nothing: they cause no leak'),
    'small': Kind(NOTE, 'shorter than the crop', 'nothing: training and prediction enlarge them, up to twofold'),
    'grey': Kind(NOTE, 'without colour', 'nothing, unless one class has many: a model may learn grey as its sign'),
    'palette': Kind(NOTE, 'palette of 256 colours or less', 'nothing: training and prediction convert them to RGB'),
    'orientation': Kind(NOTE, 'rotated by EXIF', 'nothing: training, test and prediction turn them upright'),
}


@dataclass(frozen=True)
class Finding:
    """One finding, of a kind in :data:`KINDS`, about images (paths in the dataset) that belong together."""

    kind: str
    paths: tuple[str, ...] = ()
    detail: str = ''
    count: int = 1  # problems it represents


@dataclass(frozen=True)
class CheckReport:
    """The result of a check of the folder ``data``, a prepared dataset or class folders."""

    data: str
    prepared: bool
    counts: dict[str, dict[str, int]]  # images by subset (empty for raw photos) and class
    findings: list[Finding] = field(default_factory=list)  # in the order of KINDS

    @property
    def photos(self) -> int:
        """Number of images checked."""
        return sum(sum(subset.values()) for subset in self.counts.values())

    @property
    def class_weights(self) -> dict[str, float]:
        """Balanced weights of the training images, by class."""
        counts = next(iter(self.counts.values()))
        weights = class_weights(list(counts.values()))
        return {label: round(weight, 3) for label, weight in zip(counts, weights, strict=True)}

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
    """Checks a folder of class folders or a prepared dataset, for training with a crop of so many pixels.

    Raises:
        InputError: There are no images, the folder cannot be listed, or CleanVision is not installed.
    """
    prepared = is_prepared(data)
    tested = ('test',) if os.path.isfile(data / 'test.txt') else ()
    subsets = [subset for subset in (*SIDES, *tested) if os.path.isdir(data / subset)] if prepared else ['']
    paths, findings = _list_images(data, subsets)
    classes = sorted({_label(path) for path in paths})
    if prepared:
        listed, found = _check_annotation(data, (*SIDES, *tested), paths)
        findings += found
        classes.sort(key=lambda name: listed.index(name) if name in listed else len(listed))
    if not classes:
        raise InputError(*(f.detail for f in findings if f.kind != 'left_out'), f'{data}: no photos to check.')
    if not prepared and len(classes) == 1:
        findings.append(Finding('folder', (), f'{data}: only one class, {classes[0]!r}. Add another.'))
    step = progress and partial(progress, 'checking')
    checked = check_images([data / path for path in paths], crop, workers, step)
    images = dict(zip(paths, checked, strict=True))
    findings += [Finding(kind, (path,), detail) for path in paths for kind, detail in images[path].findings]
    findings += _compare(images)
    if prepared:
        findings += _check_manifest(data, images)
    found_in = Counter((_subset(path), _label(path)) for path in paths)
    counts = {subset: {label: found_in[subset, label] for label in classes} for subset in subsets}
    findings += _check_balance(next(iter(counts.values())))
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    return CheckReport(str(data), prepared, counts, findings)


def _list_images(data: Path, subsets: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Paths of the images in the subsets' class folders, relative to ``data``, and findings about everything else."""
    paths: list[str] = []
    findings: list[Finding] = []
    for subset in subsets:
        scan = scan_raw(data / subset)
        prefix = f'{subset}/' if subset else ''
        paths += [prefix + path for path in scan.sources]
        findings += _from_lines('folder', scan.problems)
        findings += [Finding('left_out', (prefix + path,), why) for path, why in scan.left_out if why != HIDDEN]
    return paths, findings


def _check_annotation(data: Path, subsets: Sequence[str], paths: Iterable[str]) -> tuple[list[str], list[Finding]]:
    """The class names, none if they cannot be read, and the findings about them and all lists, also of folds."""
    problems: list[str] = []
    classes: list[str] = []
    with collect(problems):
        classes = read_classes(data / 'classes.txt')
    if not classes:
        return [], _from_lines('annotation', problems)

    def read(file: Path, root: Path) -> list[Sample]:
        with collect(problems):
            return read_samples(file, classes, root)
        return []

    listed = {side: {f'{side}/{path}' for path, _ in read(data / f'{side}.txt', data / side)} for side in subsets}
    for fold in sorted(data.glob('fold[0-9]*')):  # their validation images are part of train
        train, val = (read(fold / f'{side}.txt', data / 'train') for side in SIDES)
        with collect(problems):
            check_disjoint(fold, train, val)
    unlisted = sorted(path for path in paths if (known := listed[_subset(path)]) and path not in known)
    return classes, _from_lines('annotation', problems) + [Finding('unlisted', (path,)) for path in unlisted]


def _check_manifest(data: Path, images: Mapping[str, CheckedImage]) -> list[Finding]:
    """Compares the images with ``manifest.json``; finds nothing if there is none."""
    try:
        manifest = read_manifest(data)
    except InputError as error:
        return _from_lines('manifest', error.problems)
    if manifest is None:
        return []
    contents = {path: image.fingerprint.sha256 for path, image in images.items() if _subset(path) in SIDES}
    changes = changes_since_split(manifest, contents)
    return [Finding('manifest', (path,), f'{change} since the split') for path, change in changes.items()]


def _compare(images: Mapping[str, CheckedImage]) -> list[Finding]:
    """Finds copies and near-duplicates: across subsets, across classes, within a class."""
    by_content: dict[str | None, list[str]] = defaultdict(list)
    for path, image in images.items():
        if image.measures:
            by_content[image.fingerprint.sha256].append(path)
    findings = []
    groups = [('content', same) for same in by_content.values() if len(same) > 1]
    # Images with almost no content all look alike.
    contents = [same for same in by_content.values() if 'low_information' not in dict(images[same[0]].findings)]
    for near in group_near_duplicates([images[same[0]].fingerprint.phash for same in contents]):
        groups.append(('look', [path for position in near for path in contents[position]]))
    for how, paths in groups:
        kinds = [f'leak_{how}'] if len({_subset(path) for path in paths}) > 1 else []
        kinds += [f'conflict_{how}'] if len({_label(path) for path in paths}) > 1 else []
        within = 'near_duplicate_one_side' if _subset(paths[0]) else 'near_duplicate'
        kinds = kinds or ['exact_duplicate' if how == 'content' else within]
        findings += [Finding(kind, tuple(sorted(paths))) for kind in kinds]
    return findings


def _check_balance(counts: Mapping[str, int]) -> list[Finding]:
    """Finds classes of very different size."""
    present = {label: count for label, count in counts.items() if count}
    if len(present) < 2 or max(present.values()) < MAX_IMBALANCE * min(present.values()):
        return []
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    ratio = present[most] / present[least]
    detail = f'{most} has {present[most]} photos, {least} {present[least]}: {ratio:.1f} times as many'
    return [Finding('imbalance', (), detail)]


def _from_lines(kind: str, lines: Iterable[str]) -> list[Finding]:
    """One finding per line; the last line may give the number of further ones."""
    findings = []
    for line in lines:
        more = re.fullmatch(r'and (\d+) more', line)
        findings.append(Finding(kind, (), printable(line), int(more[1]) if more else 1))
    return findings


def _label(path: str) -> str:
    """The class of ``class/image`` or ``subset/class/image``."""
    return path.split('/')[-2]


def _subset(path: str) -> str:
    """The subset of ``subset/class/image``; empty for ``class/image``."""
    return path.rpartition('/')[0].rpartition('/')[0]
