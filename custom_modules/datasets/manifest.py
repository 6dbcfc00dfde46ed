"""manifest.json: the origin of a prepared dataset, and the digest that identifies it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_modules.datasets.annotation import SIDES, Sample
from custom_modules.datasets.raw_folders import LeftOut
from custom_modules.datasets.split_plan import Plan
from custom_modules.errors import InputError
from custom_modules.files import sha256_of
from custom_modules.photos.fingerprint import DHASH_BITS, PHASH_BITS, Fingerprint

PHASH_DIGITS = (PHASH_BITS + DHASH_BITS) // 4  # hexadecimal


def make_manifest(
    plan: Plan,
    mode: str,
    contents: Mapping[str, str],
    left_out: Sequence[LeftOut],
    fingerprints: Mapping[str, Fingerprint],
) -> dict[str, Any]:
    """Returns the manifest of a split.

    Args:
        plan: Which photo went where.
        mode: How photos were placed.
        contents: The sha256 of each photo, in hex, by ``side/class/image``.
        left_out: What stood in the raw folder and is not in the dataset.
        fingerprints: Of the photos, by ``class/image``; empty when they were not compared.
    """
    files = {path: {'sha256': sha256} for path, sha256 in contents.items()}
    if fingerprints:
        for path, entry in files.items():
            entry['phash'] = f'{fingerprints[path.split("/", 1)[1]].phash:0{PHASH_DIGITS}x}'
    sides = {sample.path: side for side in SIDES for sample in plan.samples(side)}
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
        'left_out': [item._asdict() for item in left_out],
    }
    return {**manifest, 'digest': _digest(manifest)}


def format_manifest(manifest: Mapping[str, Any]) -> bytes:
    """The content of the file: the same bytes for the same manifest."""
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + '\n').encode()


def read_manifest_digest(data_root: Path) -> str | None:
    """Returns the digest that names the dataset, None when it has no ``manifest.json``.

    Raises:
        InputError: When the manifest cannot be read, or its digest is not that of its contents.
    """
    manifest = read_manifest(data_root)
    return None if manifest is None else manifest['digest']


def read_manifest(data_root: Path) -> dict[str, Any] | None:
    """Returns the manifest, None when there is none.

    Raises:
        InputError: When it cannot be read, or its digest is not that of its contents.
    """
    file = data_root / 'manifest.json'
    remedy = 'restore it, or split the raw photos again with tools/split_dataset.py into a new folder'
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f'{file}: cannot be read ({error}); {remedy}') from None
    try:
        sound = manifest['digest'] == _digest(manifest)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(f'{file}: its digest is not that of its contents, so it was changed; {remedy}')
    return manifest


def described_by_manifest(
    data: Path, classes: list[str], samples: dict[str, list[Sample]]
) -> tuple[str | None, list[str]]:
    """The manifest's digest if it describes exactly these files; else None and lines for the user."""
    try:
        manifest = read_manifest(data)
        if manifest is None:
            return None, []
        names = {f'{side}/{sample.path}' for side in SIDES for sample in samples[side]}
        recorded = {name: entry['sha256'] for name, entry in manifest['files'].items()}
        if (
            manifest['classes'] == classes
            and names == set(recorded)
            and all(sha256_of(data / name) == recorded[name] for name in sorted(names))
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
    """The sha256 of the photos, their subsets, seed and ratio.

    Excluded are how photos were placed, those left out, and what follows from the photos: perceptual hashes, groups
    and folds.
    """
    excluded = ('digest', 'mode', 'left_out', 'groups', 'folds')
    content = {key: value for key, value in manifest.items() if key not in excluded}
    content['files'] = {path: {'sha256': entry['sha256']} for path, entry in manifest['files'].items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
