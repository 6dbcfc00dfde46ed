"""manifest.json: the origin of a prepared dataset, and the digest that identifies it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_modules.datasets.annotation import SIDES, Sample
from custom_modules.datasets.raw_folders import Scan
from custom_modules.datasets.split_plan import Plan
from custom_modules.errors import InputError
from custom_modules.files import sha256_of
from custom_modules.photos.fingerprint import DHASH_BITS, PHASH_BITS

PHASH_DIGITS = (PHASH_BITS + DHASH_BITS) // 4  # hexadecimal
_SPLIT_AGAIN = 'split the raw photos again with tools/split_dataset.py into a new folder'


def write_manifest(folder: Path, plan: Plan, mode: str, contents: Mapping[str, str], scan: Scan) -> str:
    """Writes the manifest of a split, the same bytes for the same split, and returns its digest.

    ``contents`` holds the sha256 of each photo, in hex, by ``side/class/image``.
    """
    files = {path: {'sha256': sha256} for path, sha256 in contents.items()}
    sides = {}
    for path, entry in files.items():
        side, _, image = path.partition('/')
        sides[image] = side
        if scan.fingerprints:
            entry['phash'] = f'{scan.fingerprints[image].phash:0{PHASH_DIGITS}x}'
    manifest: dict[str, Any] = {
        'tool': 'tools/split_dataset.py',
        'version': 1,
        'seed': plan.seed,
        'ratio': plan.ratio,
        'mode': mode,
        'classes': plan.classes,
        'counts': plan.counts,
        'folds': len(plan.folds),
        'files': files,
        'groups': [[f'{sides[path]}/{path}' for path in group] for group in plan.groups],
        'left_out': [item._asdict() for item in scan.left_out],
    }
    manifest['digest'] = _digest(manifest)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
    (folder / 'manifest.json').write_bytes(text.encode())
    return manifest['digest']


def read_manifest_digest(data_root: Path) -> str | None:
    """Returns the digest that identifies the dataset, as :func:`read_manifest` reads it; None without a manifest."""
    manifest = read_manifest(data_root)
    return None if manifest is None else manifest['digest']


def read_manifest(data_root: Path) -> dict[str, Any] | None:
    """Returns the manifest, None when there is none; refuses one whose digest is not that of its contents."""
    file = data_root / 'manifest.json'
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f'{file}: cannot be read ({error}); restore it, or {_SPLIT_AGAIN}') from None
    try:
        sound = manifest['digest'] == _digest(manifest)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(
            f'{file}: its digest is not that of its contents, so it was changed; restore it, or {_SPLIT_AGAIN}'
        )
    return manifest


def described_by_manifest(
    data: Path, classes: list[str], samples: dict[str, list[Sample]]
) -> tuple[str | None, tuple[str, ...]]:
    """The manifest's digest if it describes exactly these files; else None and lines for the user."""
    file = data / 'manifest.json'
    try:
        manifest = read_manifest(data)
        if manifest is None:
            return None, ()
        names = [f'{side}/{sample.path}' for side in SIDES for sample in samples[side]]
        files = manifest['files']
        same = manifest['classes'] == classes and files.keys() == set(names)
        if same and all(sha256_of(data / name) == files[name]['sha256'] for name in names):
            return manifest['digest'], ()
    except InputError as error:
        return None, error.problems
    return None, (f'{file}: no longer describes these files; delete it, or {_SPLIT_AGAIN}',)


def _digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of the photos, their subsets, seed and ratio.

    Excluded are how photos were placed, those left out, and what follows from the photos: perceptual hashes, groups
    and folds.
    """
    excluded = ('digest', 'mode', 'left_out', 'groups', 'folds')
    content = {key: value for key, value in manifest.items() if key not in excluded}
    content['files'] = {path: {'sha256': entry['sha256']} for path, entry in manifest['files'].items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
