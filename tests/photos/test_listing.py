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
    (tmp_path / 'in' / 'deep' / 'no suffix').write_bytes(b'\xff\xd8\xff\xe0')
    links = {'in/loop': 'in', 'in/linked': 'out/flowers', 'out/flowers/back': 'in', 'in/x': 'gone'}
    (tmp_path / 'out' / 'flowers').mkdir(parents=True)
    (tmp_path / 'out' / 'flowers' / 'd.heic').touch()
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)


FOLDER = [
    'in/a.PNG',
    'in/b.jpg',
    'in/deep/er/c.jpeg',
    'in/deep/no suffix',
    'in/linked/d.heic',
    'in/star[1]*.jpg',
    'in/x',
]


@pytest.mark.parametrize(
    ('inputs', 'found'),
    [
        (['in'], FOLDER),
        (['in/*', 'in/deep', 'in/linked/*'], sorted(FOLDER, key=lambda path: (path.count('/') > 1, path))),
        (['in/notes.txt', 'in/b.jpg', 'in/*.jpg', 'in/b.jpg'], ['in/b.jpg', 'in/star[1]*.jpg']),
        (['in/star[1]*.jpg'], ['in/star[1]*.jpg']),  # a name, though it holds a pattern's signs
        (['in/deep/**/*.jpeg'], ['in/deep/er/c.jpeg']),
        (['-'], ['in/b.jpg', 'gone.jpg', ' a b.jpg ']),
    ],
    ids=['folder', 'its files', 'each once', 'name', 'pattern', 'list'],
)
def test_photos_in_the_order_of_the_inputs(inputs, found):
    photos, others = list_photos(inputs, ['in/b.jpg\n', '\n', 'gone.jpg\r\n', ' a b.jpg '])
    assert photos == found
    assert others == (['in/notes.txt'] if {'in', 'in/*', 'in/notes.txt'} & set(inputs) else [])


def test_all_inputs_without_photos_are_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError) as caught:
        list_photos(['in', 'gone.jpg', 'empty', 'in/*.gif'])
    assert [problem.split(':')[0] for problem in caught.value.problems] == ['gone.jpg', 'empty', 'in/*.gif']
    for inputs, said in ((['-'], 'standard input is empty'), (['in/notes.txt'], 'in/notes.txt: no image')):
        with pytest.raises(InputError, match=said):
            list_photos(inputs, ['\n'])
