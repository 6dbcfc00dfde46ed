"""The photos that files, folders, patterns and lists name."""

import pytest

from custom_modules.errors import InputError
from custom_modules.photos.listing import list_photos


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('b.jpg', 'a.PNG', 'deep/er/c.jpeg', 'notes.txt', '.hidden.jpg', '.git/x.jpg', 'star[1]*.jpg'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'in' / 'loop').symlink_to(tmp_path / 'in')


@pytest.mark.parametrize(
    ('inputs', 'found'),
    [
        (['in'], ['in/a.PNG', 'in/b.jpg', 'in/deep/er/c.jpeg', 'in/star[1]*.jpg']),
        (['in/notes.txt', 'in/b.jpg', 'in/*.jpg', 'in/b.jpg'], ['in/notes.txt', 'in/b.jpg', 'in/star[1]*.jpg']),
        (['in/star[1]*.jpg'], ['in/star[1]*.jpg']),  # a name, though it holds a pattern's signs
        (['in/deep/**/*.jpeg'], ['in/deep/er/c.jpeg']),
        (['-'], ['in/b.jpg', 'gone.jpg', ' a b.jpg ']),
    ],
    ids=['folder', 'each once', 'name', 'pattern', 'list'],
)
def test_photos_in_the_order_of_the_inputs(inputs, found):
    assert list_photos(inputs, ['in/b.jpg\n', '\n', 'gone.jpg\r\n', ' a b.jpg ']) == found


def test_all_inputs_without_photos_are_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError) as caught:
        list_photos(['in', 'gone.jpg', 'empty', 'in/*.gif'])
    assert [problem.split(':')[0] for problem in caught.value.problems] == ['gone.jpg', 'empty', 'in/*.gif']
    with pytest.raises(InputError, match='standard input is empty'):
        list_photos(['-'], ['\n'])
