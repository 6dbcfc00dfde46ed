"""Writes the lists of a dataset whose train and val folders already exist; decodes no image."""

import shlex
from pathlib import Path

from custom_modules.datasets.annotation import (
    SIDES,
    VALIDATION,
    Sample,
    check_disjoint,
    label_photos,
    read_classes,
    write_classes,
    write_samples,
)
from custom_modules.datasets.manifest import changes_since_split, read_manifest
from custom_modules.datasets.raw_folders import LeftOut, list_folder, scan_raw
from custom_modules.datasets.splitting import SplitReport
from custom_modules.errors import InputError, refuse
from custom_modules.files import sha256_of


def generate_metadata(data: Path) -> SplitReport:
    """Writes ``classes.txt``, ``train.txt`` and ``val.txt`` for existing ``train`` and ``val`` folders.

    A folder ``valid`` or ``validation`` gets a link ``val`` to it. A folder ``test`` with class folders gets a
    ``test.txt``. The order of an existing ``classes.txt`` with the same names is kept; otherwise classes are sorted.

    Raises:
        InputError: When a folder is missing, train and val differ in classes, test has other ones, or a
            ``class/image`` is in both train and val.
    """
    folders, notes = _find_subsets(data)
    scans = {side: scan_raw(folder) for side, folder in folders.items()}
    refuse([problem for scan in scans.values() for problem in scan.problems])
    photos = {side: scan.photos for side, scan in scans.items()}
    classes = list(photos['train'])
    in_one = sorted(photos['train'].keys() ^ photos['val'].keys())
    where = {name: 'train' if name in classes else 'val' for name in in_one}
    where |= dict.fromkeys(sorted(photos.get('test', {}).keys() - photos['train'].keys()), 'test')
    refuse([f'{data}: class {name!r} is in {side} only. train and val need it.' for name, side in where.items()])
    file = data / 'classes.txt'
    if file.exists():
        order = read_classes(file)
        if set(order) != set(classes):
            named = f'names {", ".join(order)}, but the folders are {", ".join(classes)}'
            raise InputError(f'{file}: {named}. Delete or fix it.')
        if order != classes:
            notes.append(f'kept the class order of {file}: {", ".join(order)}')
        classes = order
    samples = {side: label_photos(found, classes) for side, found in photos.items()}
    check_disjoint(data, samples['train'], samples['val'], [folders[side].name for side in SIDES])
    if folders['val'].name != 'val':
        notes.append(f'{data / "val"}: now a link to {folders["val"].name}/')
        try:
            (data / 'val').symlink_to(folders['val'].name)
        except OSError as error:
            found = f'{folders["val"]}: no link to it can be made ({error.strerror})'
            raise InputError(f'{found}. Rename it to val.') from None
    write_classes(file, classes)
    for side in samples:
        write_samples(data / f'{side}.txt', samples[side], classes)
    left_out = [LeftOut(f'{side}/{path}', reason) for side, scan in scans.items() for path, reason in scan.left_out]
    counts = {side: {name: len(found.get(name, ())) for name in classes} for side, found in photos.items()}
    return SplitReport(counts, left_out, notes=notes, warnings=_manifest_warnings(data, classes, samples))


def _find_subsets(data: Path) -> tuple[dict[str, Path], list[str]]:
    """The folders of train and val, and of test if it has class folders; and notes about others."""
    folders, notes = {side: data / side for side in SIDES}, []
    if not folders['val'].exists():
        folders['val'] = next((data / name for name in VALIDATION if (data / name).is_dir()), folders['val'])
    raw = folders['train'] if folders['train'].is_dir() else 'RAW'
    fix = f'Split raw photos: python tools/split_dataset.py {shlex.quote(str(raw))} OUT'
    refuse([f'{folder}: no such folder. {fix}' for folder in folders.values() if not folder.is_dir()])
    if (test := data / 'test').is_dir():
        common = set(list_folder(test)) & set(list_folder(folders['train']))
        if any((test / name).is_dir() for name in common):
            folders['test'] = test
        else:
            notes.append(f'{test}: no class folders, so it gets no list; classify it by tools/predict.py')
    return folders, notes


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
