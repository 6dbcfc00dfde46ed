"""What a class takes that a config names: its parameters and the values they may have. Nothing is built here."""

import ast
import functools
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

TAKES_MORE = {'loss_scale'}  # parameters that take more than upstream's annotation says


@dataclass(frozen=True)
class Parameters:
    """What a class or function takes.

    Args:
        named: Its parameters, those that its ``**kwargs`` hand on to its bases among them.
        documented: Further names that its docstring's ``Args:`` list.
        open_ended: Whether its ``**kwargs`` go somewhere that cannot be followed, so that it may take any name.
    """

    named: dict[str, inspect.Parameter]
    documented: frozenset[str] = frozenset()
    open_ended: bool = False

    def names(self) -> set[str]:
        """All names that are known."""
        return set(self.named) | self.documented


@functools.cache
def parameters(built: Any) -> Parameters:
    """What ``built``, a class, a function or a partial, takes."""
    if isinstance(built, functools.partial):
        # mmpretrain's ``torchvision/…`` are partials of one wrapper.
        built = built.keywords.get('transform', built.func)
    named: dict[str, inspect.Parameter] = {}
    documented: set[str] = set()
    for base in _chain(built):
        method = vars(base).get('__init__') if inspect.isclass(base) else base
        if base in (object, nn.Module):  # nn.Module has **kwargs, and refuses them
            break
        if method is None:
            continue
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):  # made in C
            return Parameters(named, frozenset(documented), open_ended=True)
        for name, parameter in _with_hints(method, signature).items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != 'self':
                named.setdefault(name, parameter)
        rest = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        if not inspect.isclass(built):
            return Parameters(named, open_ended=True)
        documented |= _documented(base)
        way, read = _way_of(method, rest)
        documented |= read
        if way != 'base':
            return Parameters(named, frozenset(documented), open_ended=way == 'elsewhere')
    return Parameters(named, frozenset(documented))


def _with_hints(method: Callable, signature: inspect.Signature) -> dict[str, inspect.Parameter]:
    """The parameters; annotations that are text become types, or nothing where that fails."""
    names = vars(sys.modules[method.__module__]) if method.__module__ in sys.modules else {}
    return {name: p.replace(annotation=_evaluated(p.annotation, names)) for name, p in signature.parameters.items()}


def _chain(built: Any) -> tuple[Any, ...]:
    """A class and its bases, or the function alone."""
    return inspect.getmro(built) if inspect.isclass(built) else (built,)


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation that is text, as the type it names in its module; empty where only type checkers know that."""
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except Exception:
        return inspect.Parameter.empty


def _documented(built: Callable) -> set[str]:
    """The names under ``Args:`` in a docstring, but for ``**kwargs`` itself."""
    texts = (vars(built).get('__doc__'), getattr(vars(built).get('__init__'), '__doc__', None))
    found = (re.search(r'^Args:\n((?:[ \t]+.*\n?|\n)+)', inspect.cleandoc(text or ''), re.MULTILINE) for text in texts)
    return {name for section in found if section for name in re.findall(r'^ +(\w+)(?: \(.*)?:', section[1], re.M)}


def _way_of(method: Callable, rest: str) -> tuple[str, set[str]]:
    """Where ``**rest`` goes: to the ``'base'``, ``'nowhere'`` or ``'elsewhere'``; and the names read out of it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return 'elsewhere', set()
    read: set[str] = set()
    handed_on, followed = False, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == '__init__':  # super().__init__(**kwargs), Base.__init__(self, **kwargs)
                given = [k.value for k in node.keywords if k.arg is None and _is_name(k.value, rest)]
                handed_on |= bool(given)
                followed |= {id(value) for value in given}
            elif _is_name(node.func.value, rest) and node.args and isinstance(node.args[0], ast.Constant):
                read.add(str(node.args[0].value))  # kwargs.get('key'), .pop, .setdefault
                followed.add(id(node.func.value))
        elif isinstance(node, ast.Subscript) and _is_name(node.value, rest) and isinstance(node.slice, ast.Constant):
            read.add(str(node.slice.value))
            followed.add(id(node.value))
        elif isinstance(node, ast.Compare) and any(_is_name(value, rest) for value in node.comparators):
            followed |= {id(value) for value in node.comparators}  # 'key' in kwargs
    everywhere = {id(node) for node in ast.walk(tree) if _is_name(node, rest)}
    if everywhere - followed:
        return 'elsewhere', read
    return 'base' if handed_on else 'nowhere', read


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def expected_instead(parameter: inspect.Parameter, value: Any, loosely: bool = False) -> str | None:
    """What ``value`` would have to be for a parameter, in words; None where it may be what it is.

    An annotation decides; without one, the kind of default: text for a number, and a number for text, is wrong.

    Args:
        parameter: What the value is for.
        value: What a config sets it to.
        loosely: Whether the annotation may be too narrow, as MMPretrain's and mmcv's often are: numbers and sequences
            of any kind, and None, are let pass.
    """
    empty = inspect.Parameter.empty
    if value is parameter.default or (value is None and (parameter.default is None or loosely)):
        return None
    if parameter.name in TAKES_MORE:
        return None
    if parameter.annotation is not empty:
        if loosely and not isinstance(value, str | dict) and not isinstance(value, bool):
            return None
        return None if _fits(value, parameter.annotation) else _in_words(parameter.annotation)
    if isinstance(parameter.default, bool | int | float) and isinstance(value, str):
        return type(parameter.default).__name__
    if isinstance(parameter.default, str) and isinstance(value, bool | int | float):
        return 'str'
    if isinstance(parameter.default, tuple | list) and isinstance(value, str) and not _holds_text(parameter.default):
        return 'list'
    return None


def _holds_text(values: Iterable) -> bool:
    return any(isinstance(value, str) for value in values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` may stand where ``hint`` is annotated; True for every hint that is not plain."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool) or value in (0, 1)
    if hint is int:  # MMEngine takes 20.0 epochs for 20
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value % 1 == 0)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if (origin or hint) in (list, tuple, Sequence):
        items = [argument for argument in arguments if argument is not ...]
        if not isinstance(value, list | tuple):
            return False
        items = [item for item in items if item in (bool, int, float, str)]
        return not items or all(any(_fits(item, argument) for argument in items) for item in value)
    if (origin or hint) is dict:  # or a list of them: init_cfg, neck
        return not isinstance(value, bool | int | float | str)
    # A tensor is nothing that a config can hold; any other class may be built from what stands there.
    return hint is not torch.Tensor


def _in_words(hint: Any) -> str:
    """A type as one would say it: ``int or None``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        known = [argument for argument in typing.get_args(hint) if argument is not torch.Tensor]
        return ' or '.join(dict.fromkeys(_in_words(argument) for argument in known))
    if typing.get_origin(hint) is typing.Literal:
        return ' or '.join(map(repr, typing.get_args(hint)))
    if hint in (None, type(None)):
        return 'None'
    return (typing.get_origin(hint) or hint).__name__ if typing.get_args(hint) == () else _generic(hint)


def _generic(hint: Any) -> str:
    """``list of float``."""
    items = [_in_words(argument) for argument in typing.get_args(hint) if argument is not ...]
    kind = typing.get_origin(hint).__name__.lower().replace('sequence', 'list')
    return f'{kind} of {" or ".join(dict.fromkeys(items))}'
