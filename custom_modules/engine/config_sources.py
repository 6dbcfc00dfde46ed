"""The files that a config is made of, and which of them a setting comes from. What it means is not asked here."""

import ast
import functools
import warnings
from pathlib import Path
from typing import Any

from mmengine.config import Config

from custom_modules.upstream import base_path

MISSING = object()


@functools.cache
def bases(file: str) -> tuple[str, ...]:
    """The files that ``file`` names in its ``_base_``; none for one that cannot be parsed as such."""
    try:
        return tuple(base_path(base, file)[0] for base in Config._get_base_files(file))
    except Exception:  # e.g. a config in the lazy format, which imports its bases
        return ()


@functools.cache
def sources(file: str) -> tuple[str, ...]:
    """``file`` and all that it inherits from, each once, the nearest first."""
    found = [file]
    for base in bases(file):
        found += [path for path in sources(base) if path not in found]
    return tuple(found)


@functools.cache
def names_read(file: str) -> frozenset[str]:
    """The variables that the code of a config reads, its own and those of its bases (``_base_.name``)."""
    text = Path(file).read_text(encoding='utf-8').replace('{{', '(').replace('}}', ')')  # {{_base_.name}}
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a config in JSON or YAML
        return frozenset()
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return frozenset(loaded | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)})


def origin(file: str, dotted: str) -> str:
    """The file that first gives the setting at ``dotted`` the value that it has in ``file``."""
    value = _value(file, dotted)
    return next((origin(base, dotted) for base in bases(file) if _value(base, dotted) == value), file)


def _value(file: str, dotted: str) -> Any:
    """What a config holds at ``dotted``; ``MISSING`` for nothing, or for a file that is no config by itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return at(Config.fromfile(file, import_custom_modules=False)._cfg_dict, dotted)
    except Exception:  # e.g. a base that reads variables of another base
        return MISSING


def at(node: Any, dotted: str) -> Any:
    """What stands at ``dotted`` in nested dicts and lists; ``MISSING`` for nothing."""
    for key in dotted.split('.'):
        try:
            node = node[int(key)] if isinstance(node, list | tuple) else node[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return MISSING
    return node
