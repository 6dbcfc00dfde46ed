"""Writes a published checkpoint and its model card."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.evaluation.model_card import PublishedFile, card_path, find_manifest, model_card
from custom_modules.evaluation.results import as_written, find_results
from custom_modules.files import check_folder, write_atomically
from custom_modules.models.model_file import open_model_file
from custom_modules.models.publishing import describe, plain_weights, publish


def publish_checkpoint(path: Path, folder: Path) -> Iterator[str]:
    """Publishes a checkpoint into ``folder``, with the temperature of its test; yields lines on what was done.

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
    content, name = publish(state, meta, path.name)
    out = folder / name
    files = [PublishedFile(name, len(content), sha256(content).hexdigest(), 'weights and their description')]
    with as_written(known.file):
        card = model_card(name, replace(model, meta=meta), known.results, find_manifest(model), files)
    for file in (out, card_path(out)):
        if file.exists():
            raise InputError(f'{file}: exists already. Name another --out, or delete it.')
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))
    write_atomically(card_path(out), lambda file: file.write(card.encode(errors='backslashreplace')))
    dropped = sorted(model.checkpoint.keys() - {'state_dict', 'meta'})
    yield f'left out    {", ".join(dropped) or "nothing"}'
    yield f'temperature {known.source}'
    yield f'verified    {len(state)} tensors, loaded again with weights_only=True, equal those of {path}'
    yield f'written     {out} ({len(content) / 1e6:.1f} MB of {path.stat().st_size / 1e6:.1f})'
    yield f'written     {card_path(out)}'
    yield f'next        {shlex.join(["python", "tools/predict.py", "PHOTOS", "--checkpoint", str(out)])}'
