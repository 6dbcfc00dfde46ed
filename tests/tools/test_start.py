"""Start-up: tools parse their arguments before they import packages that take seconds."""

import ast
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[2] / 'tools').glob('*.py'))

HEAVY = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain'}
# Runs a tool as its command does, then prints the imported packages but Python's own and this project's.
IMPORTED = """
import runpy, sys
before = set(sys.modules)
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    code = end.code
packages = {name.partition('.')[0] for name in set(sys.modules) - before}
print(code, sorted(packages - set(sys.stdlib_module_names) - {'custom_modules'}))
"""


def run(*argv: object) -> list[str]:
    done = subprocess.run([sys.executable, '-c', IMPORTED, *map(str, argv)], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize('tool', TOOLS, ids=lambda path: path.stem)
def test_help_imports_nothing_but_this_project(tool):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first, *_, last = run(tool, '--help')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert first.startswith('usage: ')
    assert last == '0 []'
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7  # seconds, however busy the CPU


@pytest.mark.parametrize('arguments', [['generate_metadata'], ['check_dataset', '--crop', 32]])
def test_data_tools_do_without_torch(arguments, data, tmp_path):
    tool, *flags = arguments
    shutil.copytree(data, tmp_path / 'data')
    code, _, packages = run(TOOLS[0].parent / f'{tool}.py', tmp_path / 'data', *flags)[-1].partition(' ')
    assert code == '0'
    assert not HEAVY & set(ast.literal_eval(packages))
