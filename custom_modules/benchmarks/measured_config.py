"""The config of a measured run: a training's, with another image size or batch, and without what is not timed."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom_modules.engine.launch import place
from custom_modules.engine.run_config import keep_train_only, parse_options, read_config

# What saves, draws or judges between iterations: not part of a training step, and a disk's business.
NOT_TIMED = ('MidEpochCheckpointHook', 'ValidateOnResumeHook', 'AugmentedPhotosHook', 'ValidationBoardHook')
# What this project turns on for speed; upstream's training has none of it.
FOR_SPEED = ('CompileHook',)


def measured_config(task: dict[str, Any]) -> Config:
    """The config that a task names: ``config``, ``options``, ``data_root``, ``size``, ``batch_size``, ``folder``.

    Raises:
        InputError: It cannot be read, or has no crop whose size could be set.
    """
    cfg = read_config(task['config'], parse_options(task['options']), task['data_root'], task['folder'])
    if task['size'] is not None:
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name) is not None:
                resize(cfg[name].dataset.pipeline, task['size'])
    if task['batch_size'] is not None:
        cfg.train_dataloader.batch_size = task['batch_size']
    if task.get('workers') is not None:
        cfg.train_dataloader.num_workers = task['workers']
    place(cfg, 'none')
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
        elif 'scale' in step:
            step['scale'] = size if isinstance(step['scale'], int) else (size, size)


def train_as(cfg: Config, side: str, iterations: int) -> None:
    """Leaves the training steps alone, in place: ``'ours'`` as configured, ``'stock'`` without what is for speed."""
    keep_train_only(cfg)
    left_out = (*NOT_TIMED, *(FOR_SPEED if side == 'stock' else ()))
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', []) if hook['type'] not in left_out]
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg.max_epochs = max(cfg.train_cfg.get('max_epochs', 1), iterations)  # an epoch has an iteration or more
    if side == 'stock':
        cfg.pop('compile', None)
