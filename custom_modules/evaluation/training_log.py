"""The curves and the settings of a training, read from its log and its saved config."""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from custom_modules.datasets.class_counts import innermost
from custom_modules.models.saved_config import section

# CurvesHook's scalars and the fields of its history.
FIELDS = {
    'epoch/lr': 'lr',
    'epoch/loss_train': 'train_loss',
    'epoch/loss_val': 'val_loss',
    'epoch/accuracy_train': 'train_accuracy',
    'epoch/accuracy_val': 'val_accuracy',
    'epoch/seconds': 'seconds',
}


def read_scalars(work_dir: Path) -> list[list[dict]]:
    """The logged records of a run: a list per start or resume, each of which has a folder named by its time."""
    logs: list[list[dict]] = []
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        logs.append([])
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            with suppress(ValueError):  # a killed run leaves an incomplete line
                if isinstance(record := json.loads(line), dict):
                    logs[-1].append(record)
    return logs


def read_history(work_dir: Path) -> list[dict]:
    """The epochs of a run, as in ``CurvesHook.history``; a resume replaces those that it repeats, and all later ones.

    Returns:
        Dicts with ``epoch`` (from 1), ``lr``, ``train_loss``, ``val_loss``, ``train_accuracy`` and ``val_accuracy``
        (percent), ``seconds``; None for values that were not logged or are not finite.
    """
    history: dict[int, dict] = {}
    for log in read_scalars(work_dir):
        part = {
            record['step']: {'epoch': record['step']}
            | {name: _number(record.get(tag)) for tag, name in FIELDS.items()}
            for record in log
            if isinstance(record.get('step'), int) and FIELDS.keys() & record.keys()
        }
        if part:
            history = {epoch: record for epoch, record in history.items() if epoch < min(part)} | part
    return [history[epoch] for epoch in sorted(history)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def dataset_settings(settings: dict[str, Any], loader: str) -> dict[str, Any]:
    """The dataset of a loader in a saved config, without its wrappers; empty without one."""
    found = innermost(section(section(settings, loader), 'dataset'))
    return found if isinstance(found, dict) else {}


def settings_table(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings that decide a training's result, as ``(name, value)`` pairs for people."""
    model, wrapper = section(settings, 'model'), section(settings, 'optim_wrapper')
    head = section(model, 'head')
    hooks = settings.get('custom_hooks')
    hooks = [*section(settings, 'default_hooks').values(), *(hooks if isinstance(hooks, list | tuple) else ())]
    kinds = {hook.get('type'): hook for hook in hooks if isinstance(hook, dict)}
    found = {
        'Backbone': _call(model.get('backbone'), leave_out=('init_cfg',)),
        'Neck, head': ', '.join(filter(None, (_call(model.get('neck')), _call(head, only=('num_classes',))))),
        'Loss': _call(head.get('loss'), leave_out=('loss_weight',)),
        'Batch augmentation': _call(section(model, 'train_cfg').get('augments')),
        'Pretrained': settings.get('pretrained'),
        'Optimizer': _call(wrapper.get('optimizer')),
        'Mixed precision': 'yes' if wrapper.get('type') == 'AmpOptimWrapper' else None,
        'Schedule': _call(settings.get('param_scheduler')),
        'Head initialization': _call(kinds.get('LinearProbeHook')),
        'EMA weights': _call(kinds.get('EMAHook')),
        'Epochs, at most': section(settings, 'train_cfg').get('max_epochs'),
        'Batch size': section(settings, 'train_dataloader').get('batch_size'),
        'Seed': section(settings, 'randomness').get('seed'),
        'Training transforms': _call(dataset_settings(settings, 'train_dataloader').get('pipeline')),
        'Test transforms': _call(dataset_settings(settings, 'test_dataloader').get('pipeline')),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, '')]


def _call(part: Any, only: tuple[str, ...] | None = None, leave_out: tuple[str, ...] = ()) -> str:
    """A part of a config, or several, as a call: ``SGD(lr=0.001, momentum=0.9)``."""
    if isinstance(part, list | tuple):
        return ' → '.join(_call(item) for item in part)
    if not isinstance(part, dict) or 'type' not in part:
        return ''
    hidden = ('type', '_scope_', 'by_epoch', *leave_out)
    shown = [f'{key}={value!r}' for key, value in part.items() if key not in hidden and (not only or key in only)]
    return f'{part["type"]}({", ".join(shown)})' if shown else str(part['type'])
