"""Which photos files, folders, patterns and lists stand for."""

import os

import pytest

from custom_modules.errors import InputError
from custom_modules.photos.listing import list_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('b.jpg', 'a.PNG', 'deep/er/c.jpeg', 'notes.txt', '.hidden.jpg', '.git/x.jpg', 'star[1]*.jpg'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'in' / 'loop').symlink_to(tmp_path / 'in')
    return tmp_path


def test_a_folder_is_searched_to_any_depth_and_sorted(folder):
    assert list_photos(['in']) == [f'in/{name}' for name in ('a.PNG', 'b.jpg', 'deep/er/c.jpeg', 'star[1]*.jpg')]


def test_the_order_of_inputs_stays_and_a_photo_counts_once(folder):
    assert list_photos(['in/notes.txt', 'in/b.jpg', 'in/*.jpg', 'in/b.jpg']) == [
        'in/notes.txt',
        'in/b.jpg',
        'in/star[1]*.jpg',
    ]
    assert list_photos(['in/star[1]*.jpg']) == ['in/star[1]*.jpg']  # a name, though it holds a pattern's signs
    assert list_photos(['in/deep/**/*.jpeg']) == ['in/deep/er/c.jpeg']


def test_a_list_is_taken_as_it_is(folder):
    assert list_photos(['-'], ['in/b.jpg\n', '\n', 'gone.jpg\r\n', ' a b.jpg ']) == [
        'in/b.jpg',
        'gone.jpg',
        ' a b.jpg ',
    ]


def test_inputs_that_name_nothing_are_all_told(folder):
    os.mkdir('empty')
    with pytest.raises(InputError) as caught:
        list_photos(['in', 'gone.jpg', 'empty', 'in/*.gif'])
    assert [problem.split(':')[0] for problem in caught.value.problems] == ['gone.jpg', 'empty', 'in/*.gif']
    with pytest.raises(InputError, match='standard input is empty'):
        list_photos(['-'], ['\n'])
