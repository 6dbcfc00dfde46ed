"""Registered classes are used through configs only: every documented default has to be the real one."""

import ast
import inspect
import re
from pathlib import Path

import mmengine.registry
import mmpretrain.registry
import pytest
from mmengine.registry import Registry

from custom_modules import register

PACKAGE = Path(register.__file__).parent


def registered_classes() -> list[type]:
    """The registered classes of this project that have an ``__init__`` of their own."""
    registries = [*vars(mmengine.registry).values(), *vars(mmpretrain.registry).values()]
    classes = {item for found in registries if isinstance(found, Registry) for item in found.module_dict.values()}
    ours = [item for item in classes if item.__module__.startswith('custom_modules.') and '__init__' in vars(item)]
    return sorted(ours, key=lambda item: item.__name__)


@pytest.mark.parametrize('cls', registered_classes(), ids=lambda cls: cls.__name__)
def test_documented_defaults_are_those_of_the_signature(cls):
    documentation = inspect.getdoc(cls) or ''
    arguments = re.search(r'^Args:\n((?:    .*\n?|\n)+)', documentation, re.MULTILINE)
    assert arguments, 'no Args: section'
    entries = re.findall(r'^    (\*{0,2}\w+)(?: \(.*?\))?:((?:.*\n?)(?:^     .*\n?|^\n)*)', arguments[1], re.MULTILINE)
    documented = dict(entries)
    parameters = {
        ('*' * {2: 1, 4: 2}.get(int(parameter.kind), 0)) + name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    assert set(documented) == set(parameters)
    for name, default in parameters.items():
        text = re.search(r'Defaults\s+to\s+(.+?)\.\s*$', documented[name], re.DOTALL)
        if default is inspect.Parameter.empty:
            assert text is None, name
        else:
            assert text, f'{name}: default not documented'
            assert ast.literal_eval(re.sub(r'\s+', ' ', text[1]).strip('`')) == default, name


def test_every_registered_class_is_imported():
    decorated = re.compile(r'^@\w+\.register_module\(', re.MULTILINE)
    files = {str(path) for path in PACKAGE.rglob('*.py') if decorated.search(path.read_text(encoding='utf-8'))}
    assert files == {module.__file__ for module in vars(register).values() if inspect.ismodule(module)}
