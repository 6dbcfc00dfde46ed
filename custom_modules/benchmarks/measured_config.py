"""The config of a measured run: a training's, with another image size or batch, run as upstream or this project does.

``'ours'`` is the config as the tools run it. ``'stock'`` is the same by upstream's means: its Runner, its layout of
the weights, the C library's allocator as it is, and where loading is measured its transforms.
"""

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from custom_modules.engine.run_config import LOADERS, keep_train_only, parse_options, read_config
from custom_modules.engine.runner import has_accelerator, place
from custom_modules.errors import InputError

# What saves, draws or judges, or happens once before the first iteration: not part of a training step.
NOT_TIMED = (
    'MidEpochCheckpointHook',
    'ValidateOnResumeHook',
    'AugmentedPhotosHook',
    'ValidationBoardHook',
    'LinearProbeHook',
    'CheckpointHook',
)


def measured_config(task: dict[str, Any]) -> Config:
    """The config that a task names, for this process to run.

    Args:
        task: ``config``, ``options``, ``data_root``, ``folder``; ``size``, ``batch_size`` and ``workers`` of the
            training, None for the config's own; ``side``.

    Raises:
        InputError: It cannot be read, or lacks one of the loaders.
    """
    cfg = read_config(task['config'], parse_options(task['options']), task['data_root'], task['folder'])
    if lacking := [name for name in LOADERS if cfg.get(name) is None]:
        raise InputError(f'{", ".join(lacking)}: the config has none; what is measured also validates and tests')
    if task['size'] is not None:
        for name in LOADERS:
            resize(cfg[name].dataset.pipeline, task['size'])
    if task['batch_size'] is not None:
        cfg.train_dataloader.batch_size = task['batch_size']
    if task['workers'] is not None:
        cfg.train_dataloader.num_workers = task['workers']
    if task['side'] == 'ours':
        place(cfg, 'none')
    else:
        cfg.pop('compile', None)
        for name in LOADERS:
            cfg[name].setdefault('pin_memory', has_accelerator())
            cfg[name].persistent_workers = bool(cfg[name].get('num_workers'))
    init_default_scope('mmpretrain')
    return cfg


def image_size(pipeline: list[dict]) -> int:
    """The side, in pixels, of the photos that a pipeline gives; 0 where no step sets it."""
    for step in reversed(pipeline):
        value = step.get('crop_size', step.get('scale'))
        if value is not None and step['type'] != 'ResizeEdge':
            return int(value if isinstance(value, int) else value[0])
    return 0


def resize(pipeline: list[dict], size: int) -> None:
    """Makes a pipeline give photos of ``size`` pixels, in place; an edge that is cropped stays as much longer."""
    before = image_size(pipeline)
    for step in pipeline:
        if 'crop_size' in step:
            step['crop_size'] = size
        elif step['type'] == 'ResizeEdge':
            step['scale'] = round(step['scale'] * size / before) if before else size
        elif 'min_short_edge' in step:
            step['min_short_edge'] = round(step['min_short_edge'] * size / before) if before else size
        elif 'scale' in step:
            step['scale'] = size if isinstance(step['scale'], int) else (size, size)


def upstream_pipeline(pipeline: list[dict]) -> list[dict]:
    """A pipeline with upstream's transforms in the place of this project's; those that upstream lacks stay."""
    return [each for step in pipeline for each in _upstream_steps(step)]


def _upstream_steps(step: dict) -> list[ConfigDict]:
    if step['type'] == 'LoadPhoto':
        return [ConfigDict(type='LoadImageFromFile')]
    if step['type'] == 'LoadRandomResizedCrop':
        crop = {key: value for key, value in step.items() if key not in ('type', 'flip_prob')}
        steps = [ConfigDict(type='LoadImageFromFile'), ConfigDict(type='RandomResizedCrop', **crop)]
        flip = [ConfigDict(type='RandomFlip', prob=step['flip_prob'])] if step.get('flip_prob') else []
        return steps + flip
    return [ConfigDict({**step, 'type': 'PackInputs'} if step['type'] == 'PackPhoto' else step)]


def train_only(cfg: Config, iterations: int) -> None:
    """Leaves the training steps alone, in place, and enough epochs for so many of them."""
    keep_train_only(cfg)
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', []) if hook['type'] not in NOT_TIMED]
    kept = {name: hook for name, hook in cfg.default_hooks.items() if hook and hook['type'] not in NOT_TIMED}
    cfg.default_hooks = {**kept, 'checkpoint': None}  # None: the Runner would bring its own
    cfg.param_scheduler = []  # may end before
    cfg.train_cfg.max_epochs = max(cfg.train_cfg.get('max_epochs', 1), iterations)  # an epoch has an iteration or more
