"""The command line of tools/check_dataset.py: exit codes, what it prints and writes, and what it does without."""

import json
import re
import shutil
from pathlib import Path

import pytest

from custom_modules import report_file
from custom_modules.datasets import image_checks


@pytest.fixture
def folder(raw: Path, tmp_path: Path) -> Path:
    """The drawn flowers, to be changed."""
    return shutil.copytree(raw, tmp_path / 'photos')


def test_exits_0_when_nothing_was_found(folder, call):
    result = call('check_dataset', folder, '--crop', 32)
    assert (result.code, result.err) == (0, '')
    lines = result.out.splitlines()
    assert lines[-2] == 'nothing found'
    assert re.fullmatch(r'55 photos in \d+\.\d s: \d+ photos/s', lines[-1])


def test_a_split_of_them_is_good_too(data, call):
    assert call('check_dataset', data, '--crop', 32).code == 0


def test_exits_1_with_findings_and_what_to_do(folder, call):
    (folder / 'rose' / 'empty.jpg').touch()
    result = call('check_dataset', folder, '--crop', 32)
    assert result.code == 1
    assert 'error: empty files: 1\n    rose/empty.jpg (empty file)\n  > copy them again' in result.out
    assert result.out.splitlines()[-1].startswith('next: --out report.html')


@pytest.mark.parametrize('name', ['report.html', 'report.csv', 'report.json'])
def test_out(folder, call, tmp_path, name):
    (folder / 'rose' / 'empty.jpg').touch()
    result = call('check_dataset', folder, '--crop', 32, '--out', name)
    assert result.code == 1
    assert result.out.splitlines()[-1] == f'written: {name}'
    text = (tmp_path / name).read_text()
    assert 'empty.jpg' in text
    if name.endswith('.json'):
        assert json.loads(text)['data'] == str(folder)


def test_exits_2_for_what_cannot_be_checked_or_written(folder, call, tmp_path):
    (tmp_path / 'folder.csv').mkdir()
    assert 'is a folder' in call('check_dataset', folder, '--out', 'folder.csv').error
    assert 'must be 1 to 61' in call('check_dataset', folder, '--workers', 62).error
    assert 'no such folder' in call('check_dataset', tmp_path / 'nowhere').error


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        (['--out', 'a.txt'], 'must end in .html, .csv, .json'),
        (['--crop', '0'], '--crop'),
        ([], 'required'),
    ],
)
def test_exits_2_for_bad_arguments(run_process, tmp_path, args, said):
    result = run_process('check_dataset', *(['x', *args] if args else []), cwd=tmp_path)
    assert result.code == 2
    assert said in result.err


def test_one_class_alone_is_no_dataset(folder, call, tmp_path):
    for name in ('daisy', 'dandelion', 'sunflower', 'tulip'):
        (folder / name).rename(tmp_path / name)
    result = call('check_dataset', folder, '--crop', 32)
    assert result.code == 1
    assert "only one class, 'rose': training needs two or more" in result.out


def test_a_missing_extra_is_one_line_with_the_command(folder, call, monkeypatch):
    monkeypatch.setattr(image_checks, 'find_spec', lambda name: None)
    assert 'pip install "cleanvision' in call('check_dataset', folder).error


def test_a_missing_jinja2_is_reported_before_the_work(folder, call, monkeypatch):
    monkeypatch.setattr(report_file, 'find_spec', lambda name: None)
    result = call('check_dataset', folder, '--out', 'report.html')
    assert 'pip install Jinja2' in result.error
    assert result.out == ''
