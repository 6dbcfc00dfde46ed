"""The config in a checkpoint, parsed as data: its text is Python, but none of it is run."""

import ast
import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from custom_modules.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.registry import Registry

ADVICE = 'Give the config it was trained with: --config FILE'
NOT_PLAIN = ValueError, TypeError, SyntaxError, RecursionError  # raised by parsing other text than settings


def read_saved_config(checkpoint: Mapping[str, Any], name: str) -> 'Config':
    """The config in the ``meta`` of a checkpoint; ``name`` is the file, for messages.

    MMEngine would run it as a program, and build any importable object that a ``type`` names. A checkpoint may come
    from anywhere, so it is parsed here, and each ``type`` has to be a registered name.
    """
    from mmengine.config import Config  # seconds of imports, which reading settings does not need

    text = config_text(checkpoint.get('meta') or {})
    if not text:
        raise InputError(f'{name}: carries no config. {ADVICE}')
    try:
        settings = parse_settings(text)
    except NOT_PLAIN as error:
        raise InputError(f'{name}: its config is more than plain settings ({error}). {ADVICE}') from error
    for part in ('model', 'test_dataloader'):
        if not isinstance(settings.get(part), dict):
            raise InputError(f'{name}: its config has no {part}. {ADVICE}')
        if unknown := sorted(set(types_in(settings[part])) - registered_names()):
            raise InputError(f'{name}: {part} names {", ".join(unknown)}, which is not registered here. {ADVICE}')
    return Config(settings)


def parse_settings(text: str) -> dict[str, Any]:
    """Top-level ``name = value`` lines as a dict, where values are literals and ``dict(...)`` of literals.

    Anything else raises one of :data:`NOT_PLAIN`.
    """
    settings = {}
    for line in ast.parse(text).body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    settings[name] = ast.literal_eval(_Literals().visit(value))
                except (ValueError, TypeError):
                    raise ValueError(f'line {line.lineno} has {ast.unparse(value)[:60]!r}') from None
            case _:
                raise ValueError(f'line {line.lineno} is no setting')
    return settings


class _Literals(ast.NodeTransformer):
    """Rewrites ``dict({'a': 1}, b=2)`` as ``{'a': 1, 'b': 2}`` and ``inf`` as a number."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.args or [ast.Dict([], [])]:
            case [ast.Dict(keys=keys, values=values)] if isinstance(node.func, ast.Name) and node.func.id == 'dict':
                # No name means **: without a key, literal_eval refuses the dict.
                keys = [*keys, *(ast.Constant(k.arg) if k.arg else None for k in node.keywords)]
                return ast.Dict(keys, [*values, *(k.value for k in node.keywords)])
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(math.inf) if node.id == 'inf' else node


def nested(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Nested settings, then each setting within them, with its dotted key."""
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        yield from nested(value, f'{path}.{key}'.removeprefix('.'))


def types_in(settings: Any) -> Iterator[str]:
    """The ``type`` of each dict in nested settings, without its scope."""
    for _, node in nested(settings):
        if isinstance(node, dict) and 'type' in node:
            yield str(node['type']).removeprefix('mmpretrain.').removeprefix('mmengine.').removeprefix('mmcv.')


@functools.cache
def registries() -> 'list[Registry]':
    """All registries of MMPretrain and MMEngine, filled."""
    import mmengine.registry
    import mmpretrain.registry
    from mmpretrain.utils import register_all_modules

    register_all_modules()
    both = [*vars(mmpretrain.registry).values(), *vars(mmengine.registry).values()]
    return [item for item in both if isinstance(item, mmengine.registry.Registry)]


def registered_names() -> set[str]:
    """All names in these registries."""
    return {name for registry in registries() for name in registry.module_dict}


def with_names(node: Any) -> Any:
    """Nested settings of a pure-Python config, with its classes and functions by their registered names.

    One that is not registered is named by its path: ``package.module.Name``.
    """
    names = {found: name for registry in registries() for name, found in reversed(registry.module_dict.items())}

    def named(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: named(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return type(node)(map(named, node))
        return names.get(node, f'{node.__module__}.{node.__qualname__}') if callable(node) else node

    return named(node)


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
