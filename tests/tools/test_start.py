"""Start-up: tools parse their arguments before they import packages that take seconds."""

import ast
import resource
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[2] / 'tools').glob('*.py'))

HEAVY = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain'}
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


def packages(line: str) -> set[str]:
    """The installed packages in the last of these lines; compiled modules bring others, such as Cython's."""
    return packages_distributions().keys() & ast.literal_eval(line.partition(' ')[2])


@pytest.mark.parametrize('tool', TOOLS, ids=lambda path: path.stem)
def test_help_imports_nothing_but_this_project(tool):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first, *_, last = run(tool, '--help')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert first.startswith('usage: ')
    assert last == '0 []'
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7  # seconds, however busy the CPU


def test_writing_the_lists_of_a_dataset_needs_no_package(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    *_, last = run(TOOLS[0].parent / 'generate_metadata.py', tmp_path / 'data')
    assert last == '0 []'


def test_checking_photos_imports_what_decodes_and_compares_them_and_no_more(data):
    *_, last = run(TOOLS[0].parent / 'check_dataset.py', data, '--crop', 32)
    assert last.startswith('0 ')
    assert packages(last) <= {'PIL', 'cv2', 'imagehash', 'numpy', 'scipy'}


def test_label_issues_need_torch_for_new_photos_only(data, random_weights, tmp_path, call):
    arguments = [data, '--weights', random_weights, '--cache', tmp_path / 'cache']
    first = call('find_label_issues', *arguments)
    assert 'embedded    55 photos;' in first.out
    *printed, last = run(TOOLS[0].parent / 'find_label_issues.py', *arguments)
    assert any(line.startswith('embedded    0 photos;') for line in printed)
    assert not packages(last) & HEAVY


def test_label_issues_refuse_missing_input_before_slow_imports(data, tmp_path):
    for arguments in ([tmp_path / 'absent'], [data, '--weights', tmp_path / 'absent.pth']):
        *_, last = run(TOOLS[0].parent / 'find_label_issues.py', *arguments)
        assert last.startswith('2 ')
        assert not packages(last) & HEAVY
