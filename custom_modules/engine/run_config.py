"""The config of one run, from a config file and the command line's overrides."""

import importlib.util
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.utils.misc import import_modules_from_strings
from mmpretrain.models import MultiLabelClsHead, MultiTaskHead
from mmpretrain.registry import MODELS

from custom_modules.datasets.annotation import read_classes
from custom_modules.datasets.class_counts import innermost
from custom_modules.engine.config_validation import (
    DEFAULT_HOOKS,
    check_config,
    check_option_names,
    names_in_use,
    unread_variables,
)
from custom_modules.errors import InputError, first_on_machine
from custom_modules.files import check_folder
from custom_modules.models.saved_config import nested, with_names

DEMO_FRAGMENT = Path(__file__).parents[2] / 'configs' / '_base_' / 'demo.py'
REGISTER = 'custom_modules.register'
VALIDATION_HOOKS = ('BestCheckpointHook', 'ResumableEarlyStoppingHook')
FLOWER_CLASSES, UPSTREAM_CLASSES = 5, 1000  # of configs/_base_/flower_dataset.py, and of MMPretrain's configs
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` strings as a dict of dotted key to value, in the notation of MMEngine's ``DictAction``."""
    options = {}
    for pair in pairs or []:
        key, equals, value = pair.partition('=')
        if not (key and equals):
            raise InputError(f'--cfg-options {pair}: is not of the form KEY=VALUE.')
        try:
            options[key] = DictAction._parse_iterable(value)
        except (AssertionError, RecursionError) as error:  # upstream's parser takes no dict(...)
            advice = 'Set single keys, as in param_scheduler.0.T_max=4, or write it in a config file.'
            raise InputError(f'--cfg-options {pair}: the value cannot be parsed. {advice}') from error
    return options


def read_config(
    path: str,
    options: dict[str, Any],
    data_root: str | None,
    work_dir: str | None,
    demo: bool = False,
    probe: bool = False,
    quiet: bool = False,
) -> Config:
    """Reads a config, applies the command line's overrides and checks it.

    The arguments are the flags of the tools; ``quiet`` prints no line on the number of classes. That follows the
    dataset's ``classes.txt``, except where a person set it.
    """
    cfg = _load(path)
    _check_model(cfg, path)
    if demo:
        cfg.merge_from_dict(Config.fromfile(DEMO_FRAGMENT).to_dict())
        cfg.model.backbone = ConfigDict(without_pretrained(cfg.model.backbone))
    check_option_names(cfg, options)
    unread = list(unread_variables(cfg, names_in_use(path)))  # before an option changes a value that shows a use
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError) as error:
        raise InputError(f'--cfg-options: {str(error.args[0]).partition(" of list")[0]}') from error
    check_config(cfg, options, unread)
    _check_model(cfg, path)
    if empty := [name for name in LOADERS if cfg.get(name) is not None and cfg[name].get('dataset') is None]:
        raise InputError(*(f'{name}.dataset: the config has none. Set the dataset to load.' for name in empty))
    replaced = {hook['type'] for hook in cfg.get('custom_hooks') or []}
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        # MMEngine accepts None only for its own six, and would register a hook of both lists twice.
        if name not in DEFAULT_HOOKS and (hook is None or hook.get('type') in replaced):
            del cfg.default_hooks[name]
    if probe:
        _keep_probe_only(cfg)
    if data_root is not None:
        _set_data_root(cfg, data_root)
    dataset = innermost(next((cfg[name].dataset for name in LOADERS if cfg.get(name)), {}))
    file = Path(dataset.get('data_root') or '') / 'classes.txt'
    with suppress(InputError, OSError):  # the dataset itself reports what is wrong with it
        count = len(read_classes(file))
        followed = follow_classes(cfg, count, options, {UPSTREAM_CLASSES} if data_root else ())
        if followed and not quiet and first_on_machine():
            print(f'{count} classes, from {file}')
    cfg.setdefault('default_scope', 'mmpretrain')
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(default_work_dir(path, demo, probe))
    check_folder(Path(cfg.work_dir))
    return cfg


def _load(path: str) -> Config:
    """The config of a file, its ``custom_imports`` imported."""
    import_modules_from_strings(REGISTER)  # also for configs that do not import it
    if not Path(path).is_file():
        here = ' '.join(path.as_posix() for path in sorted(Path('configs').glob('*.py')))
        raise InputError(f'{path}: no such config.' + (f' Choose one of: {here}' if here else ''))
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
        if cfg.get('custom_imports'):
            names = cfg.custom_imports.get('imports') or []
            names = [names] if isinstance(names, str) else list(names)
            # Until 2.3 configs, and their copies in work dirs, named each module of this package.
            if gone := [name for name in names if name.startswith('custom_modules.') and not _exists(name)]:
                print(f'{path}: custom_imports: {REGISTER} replaces {", ".join(gone)}', file=sys.stderr)
                cfg.custom_imports.imports = [REGISTER, *(name for name in names if name not in gone)]
            import_modules_from_strings(**cfg.custom_imports)
        if hasattr(cfg, '_imported_names'):  # pure Python: its types are classes
            settings = {key: value for key, value in cfg._cfg_dict.items() if key not in cfg._imported_names}
            cfg = Config(with_names(settings), filename=path)
    except Exception as error:  # a config is a program and may raise anything
        advice = '. Install it, or add its folder to PYTHONPATH.' if isinstance(error, ImportError) else ''
        raise InputError(f'{path}: not a usable config: {type(error).__name__}: {error}{advice}') from error
    return cfg


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False


def _check_model(cfg: Config, path: str) -> None:
    if cfg.get('model') is None:
        raise InputError(f'{path}: has no model, so it is a part of a config. Name one that inherits it.')
    parts = cfg.model if isinstance(cfg.model, dict) else {}
    if lacking := [part for part in ('backbone', 'head') if not parts.get(part)]:
        raise InputError(f'{path}: its model has no {" and no ".join(lacking)}. Name an ImageClassifier of both.')


def follow_classes(
    cfg: Config, count: int, options: Iterable[str] = (), unchosen: Iterable[int] = (UPSTREAM_CLASSES,)
) -> bool:
    """Sets the numbers of classes that nobody chose to ``count``; returns whether there were any others.

    Nobody chose those that equal the config's variable ``num_classes`` or are among ``unchosen``, unless
    ``--cfg-options`` set them. Numbers in a base config stay where a config on top changes that variable.
    """
    variable = cfg.get('num_classes')
    numbers = {variable, FLOWER_CLASSES if variable == count else variable, *unchosen} - {None, count}
    parts = {name: cfg[name] for name in ('model', 'data_preprocessor') if cfg.get(name)}
    found = [key for key, value in nested(parts) if key.endswith('.num_classes') and value in numbers]
    keys = [key for key in found if not key.startswith('model.backbone.')]
    follow = [key for key in keys if not any(f'{key}.'.startswith(f'{option}.') for option in options)]
    cfg.merge_from_dict(dict.fromkeys(follow, count))
    if follow and variable:
        cfg.num_classes = count
    return bool(follow)


def _set_data_root(cfg: Config, data_root: str) -> None:
    for name in LOADERS:
        if cfg.get(name) is not None:
            dataset = innermost(cfg[name].dataset)
            if 'datasets' in dataset:
                raise InputError(f'--data-root: {name}.dataset joins several. Set their data_root in the config.')
            prefix = dataset.get('data_prefix') or ''
            folder = prefix if isinstance(prefix, str) else prefix.get('img_path', '')
            if not dataset.get('data_root') and os.path.exists(folder):
                raise InputError(f'--data-root: {name}.dataset has its folder in data_prefix ({folder}). Set that.')
            dataset.data_root = data_root


def default_work_dir(config: str, demo: bool = False, probe: bool = False) -> Path:
    """The work dir where neither the command line nor the config names one."""
    return Path('work_dirs') / (Path(config).stem + '_demo' * demo + '_probe' * probe)


def save_every(cfg: Config, minutes: float) -> None:
    """Sets the interval, in minutes, of the checkpoints within an epoch."""
    all_hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    hooks = [hook for hook in all_hooks if hook and hook['type'] == 'MidEpochCheckpointHook']
    if not hooks:
        raise InputError('--save-every-minutes: the config has no MidEpochCheckpointHook. Add it to default_hooks.')
    hooks[0].minutes = minutes


def keep_train_only(cfg: Config) -> None:
    """Removes validation from ``cfg``, and the hooks that need its metrics."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    leave_out_hooks(cfg, VALIDATION_HOOKS)


def _keep_probe_only(cfg: Config) -> None:
    """Makes of ``cfg`` a linear probe: the head is fitted once, on images prepared as for validation."""
    if not cfg.get('val_dataloader'):
        raise InputError('--probe: the config has no val_dataloader. Add one; a probe needs its images.')
    cfg.train_cfg = ConfigDict(type='LinearProbeLoop')
    cfg.param_scheduler = []
    val = cfg.val_dataloader
    cfg.train_dataloader = in_order(cfg.train_dataloader, innermost(val.dataset).pipeline, val.batch_size)
    # The one step of a probe cannot be resumed.
    leave_out_hooks(cfg, ('LinearProbeHook', 'EMAHook', 'ResumableEarlyStoppingHook', 'MidEpochCheckpointHook'))


def in_order(loader: ConfigDict, pipeline: list[dict], batch_size: int) -> ConfigDict:
    """A dataloader of all images of ``loader``, in their order and with another pipeline."""
    loader = deepcopy(loader)
    innermost(loader.dataset).pipeline = deepcopy(pipeline)
    loader.update(
        batch_size=batch_size,
        sampler=ConfigDict(type='DefaultSampler', shuffle=False),
        drop_last=False,
        persistent_workers=False,  # it is used once
    )
    return loader


def leave_out_hooks(cfg: Config, types: tuple[str, ...]) -> None:
    """Removes all hooks of these types from ``cfg``."""
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] not in types]
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if hook is not None and hook['type'] in types:
            del cfg.default_hooks[name]


def keep_test_only(cfg: Config, checkpoint: str) -> None:
    """Reduces ``cfg`` to a test of ``checkpoint``: no training or validation, no pretrained weights."""
    cfg.load_from = checkpoint
    cfg.resume = False
    cfg.model = ConfigDict(without_pretrained(cfg.model))
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'custom_hooks'):
        cfg.pop(key, None)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'visualizer'):
        cfg[key] = None


def without_pretrained(part: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model or backbone without pretrained weights, those that timm's backbones load included."""
    kept = {key: value for key, value in part.items() if key not in ('init_cfg', 'pretrained', 'checkpoint_path')}
    return {**kept, 'backbone': without_pretrained(part['backbone'])} if part.get('backbone') else kept


def head_problem(model: dict) -> str | None:
    """Why no tool can use the scores of a trained model with these settings; None if they can."""
    name = (model.get('head') or {}).get('type')
    kind = MODELS.get(name) if isinstance(name, str) else None
    if kind is None or not issubclass(kind, MultiLabelClsHead | MultiTaskHead):
        return None
    return f'{name} gives several labels per image, which test, predict and export cannot use. Take a ClsHead.'


def model_settings(cfg: Config) -> dict[str, Any]:
    """The model's settings for the registry, with its preprocessor and without pretrained weights."""
    model = without_pretrained(cfg.model)
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return model


def average_flips(cfg: Config) -> None:
    """Makes a test average the scores of each image and its mirror image (MMPretrain's default ``--tta``)."""
    dataset = innermost(cfg.test_dataloader.dataset)
    if 'datasets' in dataset:
        raise InputError('--tta: test_dataloader.dataset joins several. Test them one by one.')
    pipeline = deepcopy(dataset.pipeline)
    flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (1.0, 0.0)]
    dataset.pipeline = [*pipeline[:-1], {'type': 'TestTimeAug', 'transforms': [flips, [pipeline[-1]]]}]
    cfg.model = ConfigDict(type='AverageClsScoreTTA', module=cfg.model)
