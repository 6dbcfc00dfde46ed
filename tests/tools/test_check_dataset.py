"""The command line of tools/check_dataset.py: exit codes, output and reports."""

import json
import re
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(raw: Path, tmp_path: Path) -> Path:
    """The drawn flowers, to be changed."""
    return shutil.copytree(raw, tmp_path / 'photos')


def test_exits_0_if_nothing_was_found(raw, data, call):
    for photos in (raw, data):  # class folders, and a prepared dataset
        result = call('check_dataset', photos, '--crop', 32)
        assert (result.code, result.err) == (0, '')
        lines = result.out.splitlines()
        assert lines[-2] == 'nothing found'
        assert re.fullmatch(r'55 photos in \d+\.\d s: \d+ photos/s', lines[-1])


def test_exits_1_with_findings_and_advice(folder, call, tmp_path):
    (folder / 'rose' / 'empty.jpg').touch()
    result = call('check_dataset', folder, '--crop', 32)
    assert result.code == 1
    assert 'error: empty files: 1\n    rose/empty.jpg (empty file)\n  > copy them again' in result.out
    assert result.out.splitlines()[-1].startswith('next: --out report.html')
    result = call('check_dataset', folder, '--crop', 32, '--out', 'new/report.json')
    assert (result.code, result.out.splitlines()[-1]) == (1, 'written: new/report.json')
    report = json.loads((tmp_path / 'new' / 'report.json').read_text())
    assert (report['data'], report['summary']) == (str(folder), {'empty': 1})


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        (['nowhere'], 'no such folder'),
        (['photos', '--workers', 65], 'must be 1 to 64'),
        (['photos', '--out', 'a.txt'], 'must end in .html, .csv, .json'),
        (['photos', '--out', 'photos/a.csv'], 'which is only read'),
    ],
)
def test_exits_2_for_unusable_input(folder, call, args, said):
    assert said in call('check_dataset', *args).error


def test_a_missing_package_is_one_line_with_the_command(raw, call, monkeypatch):
    monkeypatch.setattr('custom_modules.errors.find_spec', lambda name: None)
    result = call('check_dataset', raw, '--out', 'report.csv')
    assert "pip install 'cleanvision" in result.error
    assert result.out == ''
