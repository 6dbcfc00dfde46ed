"""Writes the lists of a dataset whose train and val folders already exist; opens no image."""

from pathlib import Path

from custom_modules.datasets.annotation import (
    SIDES,
    check_disjoint,
    label_photos,
    read_classes,
    write_classes,
    write_samples,
)
from custom_modules.datasets.manifest import described_by_manifest
from custom_modules.datasets.raw_folders import LeftOut, scan_raw
from custom_modules.datasets.splitting import SplitReport
from custom_modules.errors import collect, refuse


def generate_metadata(data: Path) -> SplitReport:
    """Writes ``classes.txt``, ``train.txt`` and ``val.txt`` for existing ``train`` and ``val`` folders.

    The order of an existing ``classes.txt`` with the same names is kept; otherwise classes are sorted.

    Raises:
        InputError: When a folder is missing, the two differ in classes, or a ``class/image`` is in both.
    """
    missing = [data / side for side in SIDES if not (data / side).is_dir()]
    refuse([f'{side}: no such folder; prepare the raw photos with tools/split_dataset.py' for side in missing])
    problems: list[str] = []
    scans = {}
    for side in SIDES:
        with collect(problems):
            scans[side] = scan_raw(data / side)
    refuse(problems)
    photos = {side: scan.photos for side, scan in scans.items()}
    classes = list(photos['train'])
    for name in sorted(set(classes) ^ set(photos['val'])):
        problems.append(f'{data}: class {name!r} is in {"train" if name in classes else "val"} only; both need it')
    refuse(problems)
    notes: tuple[str, ...] = ()
    file = data / 'classes.txt'
    if file.exists():
        order = read_classes(file)
        if set(order) != set(classes):
            refuse([f'{file}: names {", ".join(order)}, but the folders are {", ".join(classes)}; delete or fix it'])
        if order != classes:
            notes = (f'kept the class order of {file}: {", ".join(order)}',)
        classes = order
    samples = {side: label_photos(photos[side], classes) for side in SIDES}
    check_disjoint(samples['train'], samples['val'])
    write_classes(file, classes)
    for side in SIDES:
        write_samples(data / f'{side}.txt', samples[side])
    left_out = [LeftOut(f'{side}/{path}', reason) for side in SIDES for path, reason in scans[side].left_out]
    counts = {side: {name: len(photos[side][name]) for name in classes} for side in SIDES}
    digest, warnings = described_by_manifest(data, classes, samples)
    return SplitReport(counts, left_out, digest, notes, warnings)
