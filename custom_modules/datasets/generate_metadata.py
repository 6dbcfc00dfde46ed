"""Writes the lists of a dataset whose train and val folders already exist; opens no image."""

from pathlib import Path

from custom_modules.datasets.annotation import (
    SIDES,
    Sample,
    check_disjoint,
    label_photos,
    read_classes,
    write_classes,
    write_samples,
)
from custom_modules.datasets.manifest import changes_since_split, read_manifest
from custom_modules.datasets.raw_folders import LeftOut, scan_raw
from custom_modules.datasets.splitting import SplitReport
from custom_modules.errors import InputError, refuse
from custom_modules.files import sha256_of


def generate_metadata(data: Path) -> SplitReport:
    """Writes ``classes.txt``, ``train.txt`` and ``val.txt`` for existing ``train`` and ``val`` folders.

    The order of an existing ``classes.txt`` with the same names is kept; otherwise classes are sorted.

    Raises:
        InputError: When a folder is missing, the two differ in classes, or a ``class/image`` is in both.
    """
    missing = [data / side for side in SIDES if not (data / side).is_dir()]
    refuse([f'{side}: no such folder. Prepare the raw photos with tools/split_dataset.py.' for side in missing])
    scans = {side: scan_raw(data / side) for side in SIDES}
    refuse([problem for scan in scans.values() for problem in scan.problems])
    photos = {side: scan.photos for side, scan in scans.items()}
    classes = list(photos['train'])
    in_one = sorted(photos['train'].keys() ^ photos['val'].keys())
    where = {name: 'train' if name in classes else 'val' for name in in_one}
    refuse([f'{data}: class {name!r} is in {side} only. Both need it.' for name, side in where.items()])
    notes = []
    file = data / 'classes.txt'
    if file.exists():
        order = read_classes(file)
        if set(order) != set(classes):
            named = f'names {", ".join(order)}, but the folders are {", ".join(classes)}'
            raise InputError(f'{file}: {named}. Delete or fix it.')
        if order != classes:
            notes.append(f'kept the class order of {file}: {", ".join(order)}')
        classes = order
    samples = {side: label_photos(photos[side], classes) for side in SIDES}
    check_disjoint(data, samples['train'], samples['val'])
    write_classes(file, classes)
    for side in SIDES:
        write_samples(data / f'{side}.txt', samples[side], classes)
    left_out = [LeftOut(f'{side}/{path}', reason) for side in SIDES for path, reason in scans[side].left_out]
    counts = {side: {name: len(photos[side][name]) for name in classes} for side in SIDES}
    return SplitReport(counts, left_out, notes=notes, warnings=_manifest_warnings(data, classes, samples))


def _manifest_warnings(data: Path, classes: list[str], samples: dict[str, list[Sample]]) -> list[str]:
    """Says that there is a manifest which does not describe exactly these files."""
    try:
        manifest = read_manifest(data)
    except InputError as error:
        return list(error.problems)
    if manifest is None:
        return []
    names = [f'{side}/{sample.path}' for side in SIDES for sample in samples[side]]
    contents = {name: sha256_of(data / name) for name in names}
    if manifest['classes'] == classes and not changes_since_split(manifest, contents):
        return []
    fix = 'Delete it, or split the raw photos again with tools/split_dataset.py into a new folder.'
    return [f'{data / "manifest.json"}: no longer describes these files. {fix}']
