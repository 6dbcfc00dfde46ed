"""manifest.json: the origin of a prepared dataset, and the digest that identifies it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError

_FIX = 'Restore it, or split the raw photos again with tools/split_dataset.py into a new folder.'


def write_manifest(folder: Path, content: Mapping[str, Any]) -> str:
    """Writes the manifest of a split, the same bytes for the same content, and returns its digest."""
    digest = _digest(content)
    text = json.dumps({**content, 'digest': digest}, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
    (folder / 'manifest.json').write_bytes(text.encode())
    return digest


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
        raise InputError(f'{file}: cannot be read ({error}). {_FIX}') from None
    try:
        sound = manifest['digest'] == _digest(manifest)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(f'{file}: its digest is not that of its contents, so it was changed. {_FIX}')
    return manifest


def changes_since_split(manifest: Mapping[str, Any], contents: Mapping[str, str | None]) -> dict[str, str]:
    """The photos that are ``'missing'``, ``'changed'`` or ``'added'``, sorted by ``side/class/image``.

    ``contents`` holds the sha256 of each photo that is there, in hex.
    """
    recorded = {path: entry['sha256'] for path, entry in manifest['files'].items()}
    return {
        path: 'missing' if path not in contents else 'changed' if path in recorded else 'added'
        for path in sorted(recorded.keys() | contents.keys())
        if recorded.get(path) != contents.get(path)
    }


def _digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of the photos, their subsets, seed and ratio.

    Excluded are how photos were placed, those left out or renamed, and what follows from the photos: perceptual
    hashes, groups and folds.
    """
    excluded = ('digest', 'mode', 'left_out', 'renamed', 'groups', 'folds')
    content = {key: value for key, value in manifest.items() if key not in excluded}
    content['files'] = {path: {'sha256': entry['sha256']} for path, entry in manifest['files'].items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
