"""Strict settings: what a config or ``--cfg-options`` sets is read by something, and of a kind that it can read.

MMEngine takes misspelt keys in silence. Whether the settings are wise is the business of preflight.py.
"""

import difflib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from mmengine import registry as mmengine_registries
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.utils.misc import import_modules_from_strings
from mmpretrain import registry as registries
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from custom_modules.engine.config_sources import names_read, sources
from custom_modules.engine.parameters import expected_instead, parameters
from custom_modules.errors import InputError

# Keys that MMEngine reads from a part of the config itself, beside the parameters of the class it builds from it.
READ_BY_MMENGINE = {
    '': {
        'compile',
        'sync_bn',
        'find_unused_parameters',
        'model_wrapper_cfg',
        'efficient_conv_bn_eval',
        'activation_checkpointing',
        'custom_imports',
        'runner_type',
        'tta_model',
        'tta_pipeline',
    },
    'dataloader': {
        'num_batch_per_epoch',
        'dataset',
        'sampler',
        'batch_sampler',
        'collate_fn',
        'worker_init_fn',
        'disable_subprocess_warning',
    },
    'optim_wrapper': {'optimizer', 'paramwise_cfg', 'constructor'},
    'param_scheduler': {'convert_to_iter_based'},
    'train_cfg': {'by_epoch'},
    'norm_cfg': {'requires_grad'},
    'hook': {'priority'},
    'policy': {'magnitude_key', 'magnitude_range'},  # RandAugment
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'optim_wrapper.paramwise_cfg': {
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
        'layer_decay_rate',
    },
}
# What reads a part of the config that names no type.
DEFAULT_TYPES: dict[str, Any] = {
    '': Runner,
    'dataloader': DataLoader,
    'optim_wrapper': 'OptimWrapper',
    'optim_wrapper.clip_grad': clip_grad_norm_,
    'train_cfg': 'EpochBasedTrainLoop',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'log_processor': 'LogProcessor',
    'randomness': Runner.set_randomness,
    'env_cfg.mp_cfg': set_multi_processing,
    'compile': torch.compile,
    'custom_imports': import_modules_from_strings,
    'model.train_cfg': RandomBatchAugment,
}
# The registry that a dict with a type is looked up in, by the key it stands under; a model is made of MODELS.
PLACES: dict[str, Registry] = {
    'dataset': registries.DATASETS,
    'datasets': registries.DATASETS,
    'sampler': registries.DATA_SAMPLERS,
    'batch_sampler': registries.DATA_SAMPLERS,
    'pipeline': registries.TRANSFORMS,
    'tta_pipeline': registries.TRANSFORMS,
    'transforms': registries.TRANSFORMS,
    'policies': registries.TRANSFORMS,
    'collate_fn': mmengine_registries.FUNCTIONS,
    'worker_init_fn': mmengine_registries.FUNCTIONS,
    'optim_wrapper': registries.OPTIM_WRAPPERS,
    'optimizer': registries.OPTIMIZERS,
    'param_scheduler': registries.PARAM_SCHEDULERS,
    'default_hooks': registries.HOOKS,
    'custom_hooks': registries.HOOKS,
    'val_evaluator': registries.METRICS,
    'test_evaluator': registries.METRICS,
    'metrics': registries.METRICS,
    'visualizer': registries.VISUALIZERS,
    'vis_backends': registries.VISBACKENDS,
    'log_processor': registries.LOG_PROCESSORS,
    'init_cfg': registries.WEIGHT_INITIALIZERS,
    'augments': registries.BATCH_AUGMENTS,
}
DEFAULT_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
AVERAGED_MODELS = (ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage)
MODEL_PARTS = {'model', 'backbone', 'neck', 'head', 'loss', 'data_preprocessor'}
# Names that configs give to what they use in several places: already put there when options are laid over them.
VARIABLES = {
    'data_root': '--data-root DIR',
    'num_classes': 'model.head.num_classes and data_preprocessor.num_classes',
    'train_pipeline': 'train_dataloader.dataset.pipeline',
    'test_pipeline': 'val_dataloader.dataset.pipeline and test_dataloader.dataset.pipeline',
    'vis_backends': 'visualizer.vis_backends',
}
# What configs for MMClassification 0.x set at the top, and what 1.x reads instead.
FORMER_NAMES = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper (clip_grad, accumulative_counts)',
    'lr_config': 'param_scheduler',
    'momentum_config': 'param_scheduler',
    'runner': 'train_cfg (max_epochs)',
    'total_epochs': 'train_cfg.max_epochs',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'evaluation': 'val_evaluator, and train_cfg.val_interval',
    'log_config': 'default_hooks.logger and visualizer.vis_backends',
    'checkpoint_config': 'default_hooks.checkpoint',
    'workflow': 'train_cfg and val_cfg',
    'gpu_ids': 'the launcher (tools/dist_train.sh)',
    'dist_params': 'env_cfg.dist_cfg',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'fp16': "optim_wrapper.type='AmpOptimWrapper' (--amp)",
    'resume_from': '--resume CHECKPOINT',
    'seed': 'randomness.seed',
    'deterministic': 'randomness.deterministic',
    'device': 'nothing: the device is found',
    'img_norm_cfg': 'data_preprocessor (mean, std, to_rgb)',
}


def check_settings(cfg: Config) -> None:
    """Refuses a config that sets what nothing reads, or what cannot be read.

    Args:
        cfg: The whole config, after all overrides.

    Raises:
        InputError: One line for each problem: its dotted key, what is wrong, and the nearest known name or the type
            that is expected.
    """
    problems = [*_unread_variables(cfg), *_problems(cfg._cfg_dict, [])]
    if problems:
        raise InputError(*problems)


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuses ``--cfg-options`` keys that nothing would read.

    Args:
        cfg: The config before the options are merged.
        options: Dotted key to value, as ``DictAction`` parses them.

    Raises:
        InputError: One line for each unknown key, with the nearest known one.
    """
    problems = []
    for dotted in options:
        node: Any = cfg._cfg_dict
        path: list[str] = []
        for key in dotted.split('.'):
            known = _known_keys(node, path, options)
            if known is None and key != 'type':  # nothing is there yet whose keys could be known
                break
            if known is not None and key not in known:
                problems.append(f'--cfg-options {dotted}: {_unknown(path, key, known)}')
                break
            path.append(key)
            node = node[int(key)] if isinstance(node, list | tuple) else (node or {}).get(key)
        else:
            value = options[dotted]
            if isinstance(node, dict) and node and not isinstance(value, dict | list | None):
                problems.append(
                    f'--cfg-options {dotted}: holds settings, of which {value!r} is none; set {dotted}.KEY'
                )
            elif path[-1] == 'type' and isinstance(value, str) and _resolve(value, _registry(path[:-1])) is None:
                problems.append(f'--cfg-options {dotted}: {_unregistered(value, _registry(path[:-1]))}')
    if problems:
        raise InputError(*problems)


def _unread_variables(cfg: Config) -> Iterator[str]:
    """The names at the top of a config that are meant as settings, but that nothing reads.

    What a config or one of its bases reads, or what stands elsewhere in it, is a variable of its own.
    """
    known = _keys([], Runner)
    assert known is not None
    files = sources(cfg.filename) if cfg.filename else ()
    read = {name for file in files for name in names_read(file)}
    nested = dict(_nested([], {key: value for key, value in cfg._cfg_dict.items() if key in known}))
    for name, value in cfg._cfg_dict.items():
        if name in known or name in VARIABLES or name in read:
            continue
        settings = [key for key in nested if key.rpartition('.')[2] == name]
        if name in FORMER_NAMES or _nearest(name, known, 0.8):
            yield f'{name}: {_unknown([], name, known)}'
        elif settings and value not in [nested[key] for key in settings]:
            likely = min(settings, key=lambda key: not key.startswith('train'))
            yield f'{name}: nothing reads it here; did you mean {likely}?'


def _nested(path: list[str], node: Any) -> Iterator[tuple[str, Any]]:
    """Each dotted key below ``node`` with its value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        yield '.'.join([*path, str(key)]), value
        yield from _nested([*path, str(key)], value)


def _known_keys(node: Any, path: list[str], options: dict[str, Any]) -> set[str] | None:
    """The keys that ``node``, found at ``path``, has, that its class takes or that MMEngine reads; None for any."""
    if isinstance(node, list | tuple):
        return {str(i) for i in range(len(node))}
    if not isinstance(node, dict | None):
        return set()
    kind = options.get('.'.join([*path, 'type'])) or (node or {}).get('type')
    built = _built(path, kind)
    if built is None and node is None and _part(path) not in READ_BY_MMENGINE:
        return None
    known = _keys(path, built)
    if not path:  # what else a config has at the top are its own variables
        return known
    if path == ['default_hooks']:  # a new hook may have any name, but has a type
        known = DEFAULT_HOOKS | {
            key.split('.')[1] for key in options if re.fullmatch(r'default_hooks\.\w+\.type', key)
        }
    if known is None:
        return None
    return known | set(node or {}) | {'type', '_delete_'}


def _problems(node: Any, path: list[str]) -> Iterator[str]:
    """What is wrong with ``node``, found at ``path``, and all that stands in it."""
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from _problems(item, [*path, str(index)])
        return
    if not isinstance(node, dict):
        return
    kind = node.get('type') if path else None
    built = _built(path, kind)
    where = '.'.join(path)
    if isinstance(kind, str) and built is None and (_registry(path) is not None or path[-1] in MODEL_PARTS):
        yield f'{where}.type: {_unregistered(kind, _registry(path))}'
        return
    if kind is None and len(path) == 2 and path[0] == 'default_hooks':
        hint = _nearest(path[1], [name for name in DEFAULT_HOOKS if name != path[1]])
        yield f'{where}: names no type of hook' + (f'; did you mean default_hooks.{hint}?' if hint else '')
        return
    if inspect.isfunction(built) and kind is not None and parameters(built).open_ended:
        return  # it may take anything out of what stands in it
    known = _keys(path, built)
    takes = parameters(built).named if built is not None else {}
    loosely = getattr(built, '__module__', '').startswith(('mmpretrain.', 'mmcv.'))
    for key, value in node.items():
        if path and known is not None and key not in known | {'type', '_scope_', '_delete_'}:
            yield f'{".".join([*path, key])}: {_unknown(path, key, known)}'
        elif (path or known is None or key in known) and key in takes:
            instead = expected_instead(takes[key], value, loosely)
            if instead:
                yield f'{".".join([*path, key])}: is {value!r}, a {type(value).__name__}; it must be {instead}'
        if path or known is None or key in known:
            yield from _problems(value, [*path, key])


def _unknown(path: list[str], key: str, known: set[str]) -> str:
    """Says that there is no ``key`` at ``path``, and what there is."""
    if not path and key in VARIABLES:
        return f'has no effect any more; set {VARIABLES[key]}'
    if not path and key in FORMER_NAMES:
        return f'the config has no {key!r} (it is of 0.x): set {FORMER_NAMES[key]}'
    near = _nearest(key, known)
    return f'{".".join(path) or "the config"} has no {key!r}' + (
        f'; did you mean {".".join([*path, near])}?' if near else ''
    )


def _unregistered(kind: str, registry: Registry | None) -> str:
    """Says that no class is registered as ``kind``, and which is."""
    chain = [registry] if registry is not None else _registries()
    names = {name for item in chain for name in [*item.module_dict, *(item.parent.module_dict if item.parent else ())]}
    near = [name for name in names if name.lower() == kind.lower()] or [_nearest(kind, names)]
    return f'nothing is registered as {kind!r}' + (f'; did you mean {near[0]}?' if near[0] else '')


def _nearest(name: str, known: Any, cutoff: float = 0.6) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)), None)


def _part(path: list[str]) -> str:
    """The name under which the tables above list what stands at ``path``."""
    where = '.'.join(path)
    if re.fullmatch(r'\w+_dataloader', where):
        return 'dataloader'
    if re.fullmatch(r'param_scheduler(\.\w+)*', where):
        return 'param_scheduler'
    if re.fullmatch(r'(default|custom)_hooks\.\w+', where):
        return 'hook'
    if re.search(r'\bpolicies(\.\d+)+$', where):
        return 'policy'
    return 'norm_cfg' if path and path[-1] == 'norm_cfg' else where


def _registry(path: list[str]) -> Registry | None:
    """The registry that fits what stands at ``path``; None where that could be any."""
    where = '.'.join(path)
    if where in ('train_cfg', 'val_cfg', 'test_cfg'):
        return registries.LOOPS
    if re.fullmatch(r'default_hooks\.\w+', where):
        return registries.HOOKS
    keys = [key for key in path if not key.isdigit()]
    if keys and keys[-1] == 'dataset' and keys[0] in ('model', 'data_preprocessor'):
        return None
    return PLACES.get(keys[-1]) if keys else None


def _built(path: list[str], kind: Any) -> Any:
    """What is built at ``path`` from a dict with the type ``kind``, or with none; None where that is unknown."""
    if kind is None:
        kind = DEFAULT_TYPES.get(_part(path))
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    registry = _registry(path)
    if registry is None and path[:1] == ['model']:
        registry = registries.MODELS
    return _resolve(kind, registry)


def _keys(path: list[str], built: Any) -> set[str] | None:
    """The keys that are read at ``path`` from a dict that ``built`` is made from; None for any."""
    more = READ_BY_MMENGINE.get(_part(path), set())
    if built is None:
        return set(more) or None
    takes = parameters(built)
    if inspect.isclass(built) and issubclass(built, EMAHook):  # its **kwargs are those of the averaged model
        more = more | set().union(*(parameters(model).names() for model in AVERAGED_MODELS))
    # Transforms and hooks swallow in **kwargs what was meant to be read, so what they take has to be documented.
    if takes.open_ended and not _is_transform_or_hook(path, built):
        return None
    return (takes.names() | more) - ({'cfg'} if not path else set())


def _is_transform_or_hook(path: list[str], built: Any) -> bool:
    return (inspect.isclass(built) and issubclass(built, Hook)) or _registry(path) is registries.TRANSFORMS


def _resolve(name: str, registry: Registry | None = None) -> Any:
    """What is registered as ``name``, in ``registry`` or else in whichever; None for nothing."""
    found = (item.get(name) for item in ([registry] if registry is not None else _registries()))
    return next((cls for cls in found if cls is not None), None)


def _registries() -> list[Registry]:
    """MMPretrain's registries, then MMEngine's, some of which MMPretrain has no child of."""
    both = [*vars(registries).values(), *vars(mmengine_registries).values()]
    return [item for item in both if isinstance(item, Registry)]
