"""Strict config validation: unknown keys, unregistered types and wrong types of values are errors.

MMEngine ignores most misspelt keys. The keys that a class takes are those of its signature; see :func:`parameters`.
"""

import ast
import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MomentumAnnealingEMA
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.utils.misc import import_modules_from_strings
from mmpretrain.models.utils import ClsDataPreprocessor, RandomBatchAugment
from torch import nn
from torch.utils.data import DataLoader

from custom_modules.errors import refuse
from custom_modules.models.saved_config import nested, registered_names, registries
from custom_modules.upstream import base_path

# For parts of a config (a regular expression of the dotted key): what reads a dict without a type, None for nothing
# known; and the keys that MMEngine itself reads from it.
PARTS: dict[str, tuple[Any, str]] = {
    '': (
        Runner,
        'compile sync_bn find_unused_parameters model_wrapper_cfg efficient_conv_bn_eval activation_checkpointing '
        'custom_imports runner_type tta_model tta_pipeline',
    ),
    r'\w+_dataloader': (
        DataLoader,
        'dataset sampler batch_sampler collate_fn worker_init_fn num_batch_per_epoch disable_subprocess_warning',
    ),
    'optim_wrapper': (OptimWrapper, 'optimizer paramwise_cfg constructor'),
    r'optim_wrapper\.clip_grad': (nn.utils.clip_grad_norm_, ''),
    r'optim_wrapper\.paramwise_cfg': (
        None,
        'custom_keys bias_lr_mult bias_decay_mult norm_decay_mult dwconv_decay_mult flat_decay_mult '
        'dcn_offset_lr_mult bypass_duplicate layer_decay_rate',
    ),
    r'param_scheduler(\.\d+)*': (None, 'convert_to_iter_based'),
    'train_cfg': (EpochBasedTrainLoop, 'by_epoch'),
    'val_cfg': (ValLoop, ''),
    'test_cfg': (TestLoop, ''),
    r'(default|custom)_hooks\.\w+': (Hook, 'priority'),
    'log_processor': (LogProcessor, ''),
    'randomness': (Runner.set_randomness, ''),
    'env_cfg': (None, 'cudnn_benchmark mp_cfg dist_cfg resource_limit'),
    r'env_cfg\.mp_cfg': (set_multi_processing, ''),
    'auto_scale_lr': (None, 'enable base_batch_size'),
    'compile': (torch.compile, ''),
    'custom_imports': (import_modules_from_strings, ''),
    r'(model\.)?data_preprocessor': (ClsDataPreprocessor, ''),
    r'model\.train_cfg': (RandomBatchAugment, ''),
    r'.*\bnorm_cfg': (None, 'requires_grad'),
    r'.*\bpolicies(\.\d+)+': (None, 'magnitude_key magnitude_range'),  # of RandAugment
}
DEFAULT_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
# Names that the base configs of this project give to values used in several places, and one that run.py adds.
VARIABLES = {'data_root', 'num_classes', 'train_pipeline', 'test_pipeline', 'vis_backends', 'pretrained'}
# What configs for MMClassification 0.x set at the top level, and what 1.x reads instead.
FORMER_NAMES = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper (clip_grad, accumulative_counts)',
    'lr_config': 'param_scheduler',
    'runner': 'train_cfg (max_epochs)',
    'total_epochs': 'train_cfg.max_epochs',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'evaluation': 'val_evaluator, and train_cfg.val_interval',
    'log_config': 'default_hooks.logger and visualizer.vis_backends',
    'checkpoint_config': 'default_hooks.checkpoint',
    'workflow': 'train_cfg and val_cfg',
    'gpu_ids': 'the launcher (tools/dist_train.sh)',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'fp16': "optim_wrapper.type='AmpOptimWrapper' (--amp)",
    'resume_from': '--resume CHECKPOINT',
    'seed': 'randomness.seed',
    'deterministic': 'randomness.deterministic',
    'device': 'nothing: the device is found automatically',
    'img_norm_cfg': 'data_preprocessor (mean, std, to_rgb)',
}
# What other libraries call a setting.
SYNONYMS = {
    **dict.fromkeys(('learning_rate', 'base_lr', 'initial_lr'), 'lr'),
    **dict.fromkeys(('epochs', 'n_epochs', 'num_epochs'), 'max_epochs'),
    **dict.fromkeys(('bs', 'samples_per_gpu', 'train_batch_size'), 'batch_size'),
    **dict.fromkeys(('workers', 'workers_per_gpu'), 'num_workers'),
    'wd': 'weight_decay',
}
# Classes whose **kwargs go elsewhere than to their bases: they may take any key.
OPEN = {
    *('HuggingFaceClassifier', 'MMSeparateDistributedDataParallel', 'MultiTaskHead', 'MultiheadAttention'),
    *('NonLocal2d', 'TIMMBackbone', 'TimmClassifier', 'VOCAveragePrecision', 'VOCMultiLabelMetric'),
    'ZeroRedundancyOptimizer',
}
KNOWN_PACKAGES = {'custom_modules', 'mmcv', 'mmengine', 'mmpretrain', 'torch', 'torchvision'}
MORE_THAN_ANNOTATED = {'loss_scale'}  # parameters that take other types than their annotations name


def names_in_use(path: str) -> set[str]:
    """The variables that a config file or one of its bases reads; empty for a file in another language than Python."""
    if not path.endswith('.py'):
        return set()
    nodes = list(ast.walk(ast.parse(Path(path).read_bytes())))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}  # _base_.name
    return names.union(*(names_in_use(base_path(base, path)[0]) for base in Config._get_base_files(path)))


def check_config(cfg: Config, options: Iterable[str] = (), more: Iterable[tuple[str, str]] = ()) -> None:
    """Refuses a config with keys that nothing reads or values of wrong types; the InputError has a line for each.

    Args:
        cfg: The whole config, after all overrides.
        options: The dotted keys that ``--cfg-options`` set, which errors then name as their source.
        more: Problems of :func:`unread_variables`.
    """
    lines = []
    for key, problem in [*more, *_problems(cfg._cfg_dict, '')]:
        overridden = any(f'{key}.'.startswith(f'{option}.') or option.startswith(f'{key}.') for option in options)
        lines.append(f'{"--cfg-options " * overridden}{key}: {problem}')
    refuse(lines)


def check_option_names(cfg: Config, options: Iterable[str]) -> None:
    """Refuses ``options`` (dotted keys) that set a variable of the config, or that begin with an unknown name.

    They are not merged into ``cfg`` yet. The InputError names the keys to set instead, or the nearest known name.
    """
    known, lines = _keys('', Runner), []
    for option in options:
        name = option.partition('.')[0]
        if known is None or name in known:
            continue
        value = cfg.get(name)
        settings = dict(nested({key: cfg[key] for key in cfg if key in known}))
        same = [key for key, part in settings.items() if value and isinstance(value, dict | list) and part == value]
        places = ['--data-root DIR'] if name == 'data_root' else same or _places(name, settings)
        variable = f'has no effect, it is only a variable of the config. Set {", ".join(places)}.'
        problem = variable if name in cfg and places else _unknown('', name, known, places)
        lines.append(f'--cfg-options {option}: {problem}')
    refuse(lines)


@functools.cache
def parameters(built: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters of a class or function by name, and whether it takes any other name too.

    ``**kwargs`` of a class are taken to be passed on to its bases, whose parameters are added. A class from another
    package than the known ones may pass them on anywhere, so it takes any name.
    """
    if isinstance(built, functools.partial):  # MMPretrain's wrapper of torchvision's transforms
        built = built.keywords.get('transform', built.func)
    named: dict[str, inspect.Parameter] = {}
    bases = inspect.getmro(built) if inspect.isclass(built) else (built,)
    if EMAHook in bases:  # its **kwargs are those of the averaged model
        bases += inspect.getmro(MomentumAnnealingEMA)
    is_open = False
    for base in bases:
        method = vars(base).get('__init__') if inspect.isclass(base) else base
        if method is None or base is object:
            continue
        if base is nn.Module:  # has **kwargs, and refuses them
            return named, False
        try:
            takes = inspect.signature(method).parameters.values()
        except (TypeError, ValueError):  # implemented in C
            return named, True
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = getattr(inspect.unwrap(method), '__globals__', {})
        own = (item.replace(annotation=_annotation(item, names)) for item in takes if item.kind in plain)
        named = {item.name: item for item in own if item.name != 'self'} | named
        is_open = any(item.kind is item.VAR_KEYWORD for item in takes)
        if not is_open:
            break
    init = vars(built).get('__init__') if inspect.isclass(built) else None
    if init is not None and built.__module__.partition('.')[0] not in KNOWN_PACKAGES:  # a user's class
        is_open = is_open or bool(inspect.getfullargspec(init).varkw)
    return named, is_open or getattr(built, '__name__', '') in OPEN


def _annotation(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    """A parameter's annotation, evaluated if it is text; empty where only type checkers know its names."""
    try:
        return eval(parameter.annotation, names) if isinstance(parameter.annotation, str) else parameter.annotation
    except Exception:  # e.g. a name imported under TYPE_CHECKING
        return parameter.empty


def expected_type(parameter: inspect.Parameter, value: Any, loosely: bool = False) -> str | None:
    """The type that ``value`` should have for a parameter; None where it fits.

    An annotation decides. Without one, text for a number is wrong, and a number for text. Many annotations of
    MMPretrain and mmcv are too narrow: with ``loosely``, numbers, sequences and None are always accepted.
    """
    default, hint = parameter.default, parameter.annotation
    if value is default or parameter.name in MORE_THAN_ANNOTATED:
        return None
    if hint is not parameter.empty:
        if loosely and not isinstance(value, str | dict | bool):
            return None
        return None if _fits(value, hint) else re.sub(r'\w+\.', '', inspect.formatannotation(hint))
    if isinstance(default, bool | int | float) and isinstance(value, str):
        return type(default).__name__
    if isinstance(default, str) and isinstance(value, bool | int | float):
        return 'str'
    if isinstance(default, list | tuple) and isinstance(value, str) and not any(isinstance(x, str) for x in default):
        return 'list'
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value``, from a config, fits an annotation. A dict fits each class, which may be built from it."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if kind is typing.Literal:
        return value in arguments
    if kind in (None, type(None)) or value is None:
        return value is None and kind in (None, type(None), typing.Any, object)
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1)
    if kind in (int, float):  # MMEngine takes 20.0 epochs for 20
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind is float or value % 1 == 0)
    if kind is str:
        return isinstance(value, str)
    if kind in (list, tuple, Sequence):
        plain = [argument for argument in arguments if argument in (bool, int, float, str)]
        items = value if plain and isinstance(value, list | tuple) else ()
        return isinstance(value, list | tuple) and all(any(_fits(item, kind) for kind in plain) for item in items)
    if kind in (dict, nn.Module, DataLoader):  # or a list of them: init_cfg, neck
        return not isinstance(value, bool | int | float | str)
    if kind is torch.Tensor:
        return False
    return not (inspect.isclass(kind) and kind not in (typing.Any, object) and isinstance(value, bool | int | float))


def unread_variables(cfg: Config, in_use: set[str]) -> Iterator[tuple[str, str]]:
    """The names at the top level of a config that look like settings, but that nothing reads, and the problem.

    Any other name is a variable of the user's. So are those in use, by their names or values; these are removed,
    because a saved config does not show that they are.
    """
    known = _keys('', Runner)
    assert known is not None
    settings = dict(nested({key: value for key, value in cfg._cfg_dict.items() if key in known}))
    for name, value in list(cfg._cfg_dict.items()):
        if name in known or name in VARIABLES:
            continue
        places, former = _places(name, settings), name in FORMER_NAMES or bool(_nearest(name, known, 0.8))
        shared = isinstance(value, list) or (isinstance(value, dict) and len(value) > 1)
        if not places and not former:
            continue
        if name in in_use or (shared and any(_contains(part, value) for part in settings.values())):
            cfg.pop(name)
        elif former:
            yield name, _unknown('', name, known)
        elif value in [settings[key] for key in places]:
            cfg.pop(name)
        else:
            yield name, f'nothing reads it here. Did you mean {places[0]}? Otherwise give the variable another name.'


def _places(name: str, settings: Iterable[str]) -> list[str]:
    """The dotted keys of settings that end in a name, or else in one that is spelt alike; those of training first."""
    nearest = _nearest(name, {key.rpartition('.')[2] for key in settings}, 0.8)
    wanted = name if any(key.endswith(f'.{name}') for key in settings) else nearest
    return sorted((key for key in settings if key.endswith(f'.{wanted}')), key=lambda key: key[:5] != 'train')


def _problems(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """The dotted key of each problem in ``node``, found at ``path``, and the problem."""
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from _problems(item, f'{path}.{index}')
    if not isinstance(node, dict):
        return
    kind = node.get('type') if path else None
    built = _part(path)[0] if kind is None else _resolve(kind) if isinstance(kind, str) else kind
    if isinstance(kind, str) and built is None and not re.search(r'\.targets\.\d+$', path):  # of a LoRAModel: layers
        yield f'{path}.type', f'nothing is registered as {kind!r}{_hint("", kind, registered_names())}'
        return
    if built is Hook:
        where, _, name = path.rpartition('.')
        yield path, f'names no type of hook{_hint(where, name, DEFAULT_HOOKS - {name})}'
        return
    known = _keys(path, built)
    takes = parameters(built)[0] if built is not None else {}
    loosely = getattr(built, '__module__', '').startswith(('mmpretrain.', 'mmcv.'))
    for key, value in node.items():
        dotted = f'{path}.{key}'.removeprefix('.')
        if known is not None and key not in known | {'type', '_scope_', '_delete_'}:
            if path:  # at the top level it is a variable
                yield dotted, _unknown(path, key, known)
        else:
            if key in takes and (expected := expected_type(takes[key], value, loosely)):
                yield dotted, f'is {value!r}, a {type(value).__name__}. Give {expected}.'
            yield from _problems(value, dotted)


def _part(path: str) -> tuple[Any, set[str]]:
    """The entry of :data:`PARTS` for ``path``."""
    built, keys = next((part for pattern, part in PARTS.items() if re.fullmatch(pattern, path)), (None, ''))
    return built, set(keys.split())


def _keys(path: str, built: Any) -> set[str] | None:
    """The keys that are read at ``path`` from a dict that ``built`` is made from; None for any."""
    keys = _part(path)[1]
    if built is None:
        return keys or None
    named, is_open = parameters(built)
    return None if is_open else (set(named) | keys) - ({'cfg'} if not path else set())


def _resolve(name: str) -> Any:
    """The class or function that is registered as ``name``; None for nothing."""
    return next((found for registry in registries() if (found := registry.get(name)) is not None), None)


def _unknown(path: str, key: str, known: set[str], places: Iterable[str] = ()) -> str:
    """Says that there is no ``key`` at ``path``, and which name to use instead."""
    if not path and key in FORMER_NAMES:
        return f'the config has no {key!r} (it is of 0.x): set {FORMER_NAMES[key]}'
    elsewhere = next((f'. Did you mean {place}?' for place in places), '')
    return f'{path or "the config"} has no {key!r}{elsewhere or _hint(path, key, known)}'


def _hint(path: str, name: str, known: Iterable[str]) -> str:
    near = _nearest(name, known)
    return f'. Did you mean {f"{path}.{near}".removeprefix(".")}?' if near else ''


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    spelt = {item.lower(): item for item in sorted(known)}
    name = SYNONYMS.get(name, name)
    return next((spelt[item] for item in difflib.get_close_matches(name.lower(), spelt, 1, cutoff)), None)


def _contains(part: Any, value: Any) -> bool:
    """Whether settings hold all that ``value`` holds: they may have been merged with more."""
    if isinstance(part, dict) and isinstance(value, dict):
        return all(key in part and _contains(part[key], item) for key, item in value.items())
    return bool(part == value)
