"""A checkpoint made fit to be handed on: weights and what describes them, nothing else. Nothing is written here."""

import hashlib
import io
import json
import re
from typing import Any

import torch

from custom_modules.errors import InputError
from custom_modules.models.checkpoints import checkpoint_classes
from custom_modules.models.saved_config import config_text, parse_config

# What best.pth says of itself, and what is known since: each of what type.
META: dict[str, Any] = {
    'classes': list,
    'config': str,
    'metric': str,
    'value': int | float,
    'photos': int,
    'epoch': int,
    'iter': int,
    'seed': int,
    'processes': int,
    'dataset_digest': str,
    'versions': dict,
    'run': str,
    'pretrained': str,
    'temperature': int | float,
}


def describe(checkpoint: dict, name: str) -> dict[str, Any]:
    """What a checkpoint says of itself, under the names that best.pth has for it and in plain types.

    MMEngine's ``epoch_N.pth`` holds less of it, and elsewhere.

    Args:
        checkpoint: As :func:`custom_modules.models.checkpoints.load_checkpoint` gives it.
        name: The file, for messages.

    Raises:
        InputError: It names no classes, or holds what is no plain value or not of the type that it should be.
    """
    meta, hook = checkpoint.get('meta') or {}, checkpoint.get('BestCheckpointHook') or {}
    text = config_text(meta)
    found = {
        **meta,
        'classes': checkpoint_classes(checkpoint, name),
        'config': text,
        'run': meta.get('run') or meta.get('experiment_name'),
        'dataset_digest': meta.get('dataset_digest') or hook.get('dataset_digest'),
        'pretrained': meta.get('pretrained') or parse_config(text or '').get('pretrained'),
    }
    try:
        plain = json.loads(
            json.dumps({key: found[key] for key in META if found.get(key) is not None}, allow_nan=False)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f'{name}: its meta holds more than plain values ({error}); take another one') from error
    wrong = [key for key, value in plain.items() if not isinstance(value, META[key])]
    if plain.get('metric') == 'accuracy/top1' and 'value' not in wrong and not 0 <= plain.get('value', 0) <= 100:
        wrong.append('value')
    if wrong:
        told = ', '.join(f'{key} is {plain[key]!r:.60}' for key in wrong)
        raise InputError(f'{name}: its meta is not that of a training ({told}); take another one')
    return plain


def plain_weights(checkpoint: dict, name: str) -> dict[str, torch.Tensor]:
    """The weights that were validated, on the CPU, each with memory of its own.

    Of a run that averages its weights these are the averaged ones, in ``epoch_N.pth`` too: MMEngine's EMAHook
    exchanges ``state_dict`` and ``ema_state_dict`` in all that is saved.

    Args:
        checkpoint: As :func:`custom_modules.models.checkpoints.load_checkpoint` gives it.
        name: The file, for messages.

    Raises:
        InputError: There are none, or what is no tensor or not finite is among them.
    """
    state = checkpoint.get('state_dict')
    if not state:
        raise InputError(f'{name}: holds no state_dict; give a best.pth or epoch_N.pth')
    for key, value in state.items():
        if not _is_finite(value):
            raise InputError(f'{name}: {key} is no tensor of finite numbers: the weights are broken; give others')
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def _is_finite(value: Any) -> bool:
    """Whether it is a tensor of numbers that are all there, none of them NaN or infinite."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return bool((value.float() if value.itemsize == 1 else value).isfinite().all())  # float8 has no isfinite


def count_parameters(state: dict[str, torch.Tensor]) -> int:
    """How many numbers of a state dict are parameters: all but batch norm's statistics."""
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    return sum(value.numel() for key, value in state.items() if not key.endswith(statistics))


def publish(state: dict[str, torch.Tensor], meta: dict[str, Any], name: str) -> tuple[bytes, str]:
    """A file of weights and meta alone, which was read back under torch's ``weights_only=True`` and found the same.

    Args:
        state: Of :func:`plain_weights`.
        meta: Of :func:`describe`.
        name: The file that it comes from, without folder.

    Returns:
        The file's bytes, and the name it shall have: ``{run, or else the stem of name}-{sha256, first 8 digits}.pth``.

    Raises:
        InputError: What was read back differs.
    """
    written = io.BytesIO()
    torch.save({'state_dict': state, 'meta': meta}, written)
    content = written.getvalue()
    again = torch.load(io.BytesIO(content), weights_only=True)
    weights = again['state_dict']
    same = weights.keys() == state.keys() and all(
        weights[key].dtype == value.dtype and torch.equal(weights[key], value) for key, value in state.items()
    )
    if not same or again['meta'] != meta:
        raise InputError(f'{name}: changes when it is written; report that')
    stem = re.sub(r'[^\w.-]+', '_', str(meta.get('run') or name.removesuffix('.pth'))).lstrip('.-')
    return content, f'{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth'
