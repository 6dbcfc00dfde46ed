"""Tools answer at once: what costs seconds to import waits until the arguments are parsed."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[2] / 'tools').glob('*.py'))

# Runs a tool as its command does, and then names the packages that are neither Python's own nor this project's.
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
    began = time.monotonic()
    first, *_, last = run(tool, '--help')
    assert first.startswith('usage: ')
    assert last == '0 []'
    assert time.monotonic() - began < 1


def test_writing_the_lists_of_a_dataset_needs_no_package(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    *_, last = run(TOOLS[0].parent / 'generate_metadata.py', tmp_path / 'data')
    assert last == '0 []'
