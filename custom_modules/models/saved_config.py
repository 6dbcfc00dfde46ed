"""The config in a checkpoint, parsed as data: its text is Python, but none of it is run."""

import ast
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from custom_modules.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

ADVICE = 'give the config it was trained with: --config FILE'
NOT_PLAIN = ValueError, TypeError, SyntaxError, RecursionError  # raised by parsing other text than settings


def read_saved_config(checkpoint: Mapping[str, Any], name: str) -> 'Config':
    """The config in the ``meta`` of a checkpoint.

    MMEngine would run it as a program, and build any importable object that a ``type`` names. A checkpoint may come
    from anywhere, so it is parsed here, and each ``type`` has to be a registered name.

    Args:
        checkpoint: As :func:`custom_modules.models.checkpoints.load_checkpoint` gives it.
        name: The file, for messages.

    Raises:
        InputError: There is none, or it is more than settings.
    """
    from mmengine.config import Config  # seconds of imports, which reading settings does not need

    text = config_text(checkpoint.get('meta') or {})
    if not text:
        raise InputError(f'{name}: carries no config; {ADVICE}')
    try:
        settings = parse_settings(text)
    except NOT_PLAIN as error:
        raise InputError(f'{name}: its config is more than plain settings ({error}); {ADVICE}') from error
    for part in ('model', 'test_dataloader'):
        if not isinstance(settings.get(part), dict):
            raise InputError(f'{name}: its config has no {part}; {ADVICE}')
        if unknown := sorted(set(types_in(settings[part])) - registered_names()):
            raise InputError(f'{name}: {part} names {", ".join(unknown)}, which is not registered here; {ADVICE}')
    return Config(settings)


def parse_settings(text: str) -> dict[str, Any]:
    """Top-level ``name = value`` lines as a dict, where values are literals and ``dict(...)`` of literals.

    Raises:
        ValueError: Anything else; SyntaxError: no Python.
    """
    settings = {}
    for line in ast.parse(text).body:
        if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
            raise ValueError(f'line {line.lineno} is no setting')
        settings[line.targets[0].id] = _value(line.value)
    return settings


def _value(node: ast.expr | None) -> Any:
    match node:
        case None:
            raise ValueError('a dict is unpacked into another one')
        case ast.Call(func=ast.Name(id='dict'), args=args, keywords=keywords) if all(k.arg for k in keywords):
            given: dict = {}
            for part in [*map(_value, args), *({k.arg: _value(k.value)} for k in keywords)]:
                given.update(part)
            return given
        case ast.Dict(keys=keys, values=values):
            return {_value(k): _value(v) for k, v in zip(keys, values, strict=True)}
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.Name(id='inf'):
            return math.inf
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id='inf')):
            return -math.inf
        case ast.Constant(value=value):
            return value
    raise ValueError(f'line {node.lineno} has {ast.unparse(node)[:60]!r}')


def types_in(node: Any) -> Iterator[str]:
    """The ``type`` of each dict in nested settings, without its scope."""
    if isinstance(node, dict):
        if 'type' in node:
            yield str(node['type']).removeprefix('mmpretrain.').removeprefix('mmengine.').removeprefix('mmcv.')
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from types_in(part)


def registered_names() -> set[str]:
    """All names in MMPretrain's and MMEngine's registries."""
    import mmengine.registry
    import mmpretrain.registry
    from mmengine.registry import Registry
    from mmpretrain.utils import register_all_modules

    register_all_modules()
    found = [*vars(mmpretrain.registry).values(), *vars(mmengine.registry).values()]
    return {name for registry in found if isinstance(registry, Registry) for name in registry.module_dict}


def config_text(meta: Mapping[str, Any]) -> str | None:
    """The text of the saved config in a checkpoint's ``meta``: ``config`` in best.pth, ``cfg`` in epoch_N.pth."""
    found = (meta.get(key) for key in ('config', 'cfg'))
    return next((text for text in found if isinstance(text, str) and text), None)


def parse_config(text: str) -> dict[str, Any]:
    """The settings in a saved config, which is never run; empty if it is more than settings."""
    try:
        return parse_settings(text)
    except NOT_PLAIN:
        return {}


def section(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """The dict of settings under ``key``; empty without one."""
    value = settings.get(key)
    return value if isinstance(value, dict) else {}
