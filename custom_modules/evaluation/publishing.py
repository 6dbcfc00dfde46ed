"""Writes a published checkpoint and its model card."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from custom_modules.errors import InputError
from custom_modules.evaluation.model_card import card_path, find_manifest, model_card
from custom_modules.evaluation.results import as_written, find_results
from custom_modules.files import check_folder, command_line, write_atomically
from custom_modules.models.model_file import open_model_file
from custom_modules.models.publishing import describe, plain_weights
from custom_modules.pages import write_out


def publish_checkpoint(path: Path, folder: Path) -> Iterator[str]:
    """Publishes a checkpoint into ``folder``, with the temperature of its test; yields lines on what was done.

    The file's name is ``{run, or else the stem of path}-{first 8 digits of the sha256}.pth``.

    Raises:
        InputError: The checkpoint cannot be published, or the files exist.
    """
    check_folder(folder)
    model = open_model_file(path)
    meta, state = describe(model), plain_weights(model)
    known = find_results(model)
    meta.pop('temperature', None)
    if known.temperature is not None:
        meta['temperature'] = known.temperature
    content = _saved(state, meta, path)
    stem = re.sub(r'[^\w.-]+', '_', str(meta.get('run') or path.stem)).lstrip('.-')
    out = folder / f'{stem}-{sha256(content).hexdigest()[:8]}.pth'
    files = [(out.name, content, 'weights and their description')]
    with as_written(known.file):
        card = model_card(out.name, replace(model, meta=meta), known.results, find_manifest(model), files)
    for file in (out, card_path(out)):
        if file.exists():
            raise InputError(f'{file}: exists already. Name another --out, or delete it.')
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))
    write_out(card_path(out), card)
    dropped = sorted(model.checkpoint.keys() - {'state_dict', 'meta'})
    yield f'left out    {", ".join(dropped) or "nothing"}'
    yield f'temperature {known.source}'
    yield f'verified    {len(state)} tensors, loaded again with weights_only=True, equal those of {path}'
    yield f'written     {out} ({len(content) / 1e6:.1f} MB of {path.stat().st_size / 1e6:.1f})'
    yield f'written     {card_path(out)}'
    yield f'next        {command_line("tools/predict.py", "PHOTOS", "--checkpoint", out)}'


def _saved(state: dict[str, torch.Tensor], meta: dict[str, Any], path: Path) -> bytes:
    """The bytes of a checkpoint of ``state`` and ``meta``, verified by loading them with ``weights_only=True``."""
    written = io.BytesIO()
    torch.save({'state_dict': state, 'meta': meta}, written)
    written.seek(0)
    again = torch.load(written, weights_only=True)
    weights = again['state_dict']
    same = weights.keys() == state.keys() and all(
        weights[key].dtype == value.dtype and torch.equal(weights[key], value) for key, value in state.items()
    )
    if not same or again['meta'] != meta:
        raise InputError(f'{path}: changes when it is saved. Report this as a bug.')
    return written.getvalue()
