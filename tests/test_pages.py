"""The file that --out names: what is refused before the work, and that it is written whole."""

import os
from pathlib import Path

import pytest

from custom_modules.errors import InputError
from custom_modules.pages import SUFFIXES, check_out, write_out


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path):
    (tmp_path / 'there.csv').touch()
    for name in (*(f'new/folder/report{suffix}' for suffix in SUFFIXES), 'report.HTML', 'there.csv'):
        check_out(tmp_path / name, tmp_path / 'data')
    assert os.listdir(tmp_path) == ['there.csv']


@pytest.mark.parametrize(
    ('out', 'said'),
    [
        ('report.txt', 'must end in .html, .csv, .json'),
        ('report', 'must end in'),
        ('.html', 'must end in'),
        ('folder.csv', 'is a folder. Name a file'),
        ('file/report.csv', 'is a file, not a folder'),
        ('data/manifest.json', 'lies in .*data, which is only read'),
        ('link/report.csv', 'which is only read'),
    ],
)
def test_what_cannot_or_must_not_be_written_is_refused(tmp_path, out, said):
    for folder in ('folder.csv', 'data'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'link').symlink_to('data')
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=said):
        check_out(tmp_path / out, tmp_path / 'data')


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(InputError, match='nothing can be written in'):
        check_out(tmp_path / 'new' / 'a.csv', Path('data'))


def test_it_is_written_whole_with_its_folder_and_odd_names(tmp_path):
    out = tmp_path / 'new' / 'report.csv'
    write_out(out, 'rose/\udce9.jpg')
    assert out.read_bytes() == rb'rose/\udce9.jpg'
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    with pytest.raises(FileExistsError):  # which the tools tell in one line
        write_out(out / 'below.csv', '')
