"""Photos sorted into class folders: whole or not at all, nothing overwritten."""

from pathlib import Path

import pytest

from custom_modules.errors import InputError
from custom_modules.inference.sorting import check_names, check_target, sort_photos


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / 'in' / name for name in ('x/a.jpg', 'y/a.jpg', 'y/b.jpg')]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    return [str(path) for path in paths]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('mode', ['copy', 'hardlink', 'symlink'])
def test_the_same_name_twice(photos, tmp_path, mode):
    sort_photos(tmp_path / 'out', zip(photos, ['rose', 'rose', 'unsure'], strict=True), mode)
    assert contents(tmp_path / 'out') == {'rose/a.jpg': '0', 'rose/a_2.jpg': '1', 'unsure/b.jpg': '2'}
    assert contents(tmp_path / 'in') == {'x/a.jpg': '0', 'y/a.jpg': '1', 'y/b.jpg': '2'}


def test_a_photo_that_is_gone_leaves_nothing(photos, tmp_path):
    with pytest.raises(FileNotFoundError):
        sort_photos(tmp_path / 'out', [(photos[0], 'rose'), (str(tmp_path / 'gone.jpg'), 'rose')])
    assert {path.name for path in tmp_path.iterdir()} == {'in'}


def test_the_current_folder_is_refused(tmp_path, monkeypatch):
    check_target(tmp_path)  # it is empty
    check_target(tmp_path / 'new')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'^--sort-into \.: is the current folder'):
        check_target(Path())


@pytest.mark.parametrize('name', ['', '.', '..', '../rose', '/rose', '..\\rose', 'ro\0se', 'x' * 256])
def test_a_class_cannot_lead_out_of_the_folder(name):
    with pytest.raises(InputError, match='no folder can be called'):
        check_names(['rose', name])
    check_names(['rose', '..rose', 'a b', 'é'])
