"""The structure of the code: folders import downwards, imports are at the top, functions and tools are short."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The lowest first; register.py imports all registered classes.
LAYERS = ['photos', 'metrics', 'datasets', 'models', 'engine', 'register', 'evaluation', 'inference']
MODULES = {path: ast.parse(path.read_text(encoding='utf-8')) for path in (ROOT / 'custom_modules').rglob('*.py')}
TOOLS = {path: ast.parse(path.read_text(encoding='utf-8')) for path in (ROOT / 'tools').glob('*.py')}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def own_imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of a module of this package, and the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('custom_modules'):
            yield node, node.module or ''
        elif isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names if alias.name.startswith('custom_modules'))


def layer(module: str) -> int:
    """The height of a module's folder; -1 for other modules at the root of the package, below all folders."""
    parts = module.split('.')
    return LAYERS.index(parts[1]) if len(parts) > 1 and parts[1] in LAYERS else -1


def test_no_folder_imports_one_above_it():
    upward = []
    for path, tree in MODULES.items():
        here = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        upward += [f'{here}:{node.lineno}' for node, module in own_imports(tree) if layer(module) > layer(here)]
    assert not upward


def test_imports_are_at_the_top_of_modules():
    late = []
    for path, tree in {**MODULES, **TOOLS}.items():
        for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
            late += [f'{path.name}:{node.lineno}' for node, _ in own_imports(function)]
    assert len(set(late)) <= 30, sorted(set(late))


def test_functions_and_tools_are_short():
    functions = [
        node for tree in {**MODULES, **TOOLS}.values() for node in ast.walk(tree) if isinstance(node, FUNCTIONS)
    ]
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50}
    assert len(long) <= 4, long
    assert not [path.name for path in TOOLS if len(path.read_text(encoding='utf-8').splitlines()) > 90]
    assert len([path for path in MODULES if path.parent.name == 'engine']) <= 12
