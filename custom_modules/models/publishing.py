"""The content of a published checkpoint: checked weights and their metadata."""

import json
from typing import Any

import torch

from custom_modules.errors import InputError
from custom_modules.models.model_file import ModelFile
from custom_modules.models.saved_config import config_text

# What a published meta holds, as best.pth names it, and of what type.
META: dict[str, Any] = {
    'classes': list,
    **dict.fromkeys(('config', 'metric', 'dataset_digest', 'run', 'pretrained'), str),
    **dict.fromkeys(('photos', 'epoch', 'iter', 'seed', 'processes'), int),
    **dict.fromkeys(('value', 'temperature'), int | float),
    'versions': dict,
}


def describe(model: ModelFile) -> dict[str, Any]:
    """The meta data of a checkpoint in plain types, under the names of best.pth; ``epoch_N.pth`` has others.

    Raises:
        InputError: A value is not plain, or of another type than it should be.
    """
    meta, hook = model.meta, model.checkpoint.get('BestCheckpointHook') or {}
    found = {
        **meta,
        'classes': model.classes,
        'config': config_text(meta),
        'run': meta.get('run') or meta.get('experiment_name'),
        'dataset_digest': meta.get('dataset_digest') or hook.get('dataset_digest'),
        'pretrained': meta.get('pretrained') or model.settings.get('pretrained'),
    }
    try:
        plain = json.loads(
            json.dumps({key: found[key] for key in META if found.get(key) is not None}, allow_nan=False)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f'{model.path}: its meta holds more than plain values ({error}). Use another one.') from error
    wrong = [key for key, value in plain.items() if not isinstance(value, META[key])]
    if plain.get('metric') == 'accuracy/top1' and 'value' not in wrong and not 0 <= plain.get('value', 0) <= 100:
        wrong.append('value')
    if wrong:
        values = ', '.join(f'{key} is {plain[key]!r:.60}' for key in wrong)
        raise InputError(f'{model.path}: its meta is not that of a training ({values}). Use another one.')
    return plain


def plain_weights(model: ModelFile) -> dict[str, torch.Tensor]:
    """The validated weights on the CPU, each with memory of its own.

    For a run with EMA these are the averaged ones, in ``epoch_N.pth`` too: MMEngine's EMAHook exchanges ``state_dict``
    and ``ema_state_dict`` when it saves.

    Raises:
        InputError: A weight is not finite.
    """
    state = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in model.weights.items()}
    for key, value in state.items():
        if not (value.float() if value.itemsize == 1 else value).isfinite().all():  # float8 has no isfinite
            raise InputError(f'{model.path}: {key} is not finite: the weights are broken. Use another checkpoint.')
    return state


def count_parameters(state: dict[str, torch.Tensor]) -> int:
    """The number of parameters in a state dict, without batch norm's statistics."""
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    return sum(value.numel() for key, value in state.items() if not key.endswith(statistics))
