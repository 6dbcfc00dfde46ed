"""The annotation format: round trip, tolerated deviations, and refusals with file and line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_modules.datasets.annotation import (
    Sample,
    class_name_problem,
    name_problem,
    read_classes,
    read_samples,
    write_classes,
    write_samples,
)
from custom_modules.errors import InputError

CLASSES = ['daisy', 'rose', 'tulip']

class_names = st.text(min_size=1, max_size=12).filter(lambda name: class_name_problem(name) is None)
image_names = (st.text(max_size=12) | st.sampled_from(['a b 3', ' a.jpg 0b', '.jpg 0', 'é\u2028'])).map(
    lambda s: s + '.jpg'
)
labelled = st.lists(class_names, min_size=2, max_size=5, unique=True).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.sets(
            st.tuples(st.integers(0, len(classes) - 1), image_names.filter(lambda name: name_problem(name) is None)),
            min_size=1,
        ),
    )
)


def write(folder: Path, content: str | bytes, name: str = 'train.txt') -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode('utf-8', 'replace'))
    return file


@given(labelled)
def test_what_is_written_is_read_back_sorted(tmp_path_factory, data):
    classes, pairs = data
    folder = tmp_path_factory.getbasetemp()
    samples = [Sample(f'{classes[label]}/{image}', label) for label, image in pairs]
    write_classes(folder / 'classes.txt', classes)
    assert read_classes(folder / 'classes.txt') == classes
    write_samples(folder / 'train.txt', samples, classes)
    assert read_samples(folder / 'train.txt', classes) == sorted(samples)


@given(st.text() | st.binary())
def test_any_content_is_read_or_refused_with_the_file(tmp_path_factory, content):
    file = write(tmp_path_factory.getbasetemp(), content)
    for read in (read_classes, lambda file: read_samples(file, CLASSES)):
        try:
            read(file)
            lines: tuple[str, ...] = ()
        except InputError as error:
            lines = error.problems
        assert all(str(file) in line or line.startswith('and ') for line in lines)


@pytest.mark.parametrize(
    'content',
    [
        'daisy/ä b.jpg 0\r\nrose/c.jpg 1\r\n',
        '\ufeffdaisy/ä b.jpg 0\nrose/c.jpg 1\n',
        'daisy\\ä b.jpg 0\nrose\\c.jpg 1\n',
        'daisy/ä b.jpg 0\nrose/c.jpg 1',
        'daisy/ä b.jpg 0  \nrose/c.jpg 1\t\n',
    ],
    ids=['crlf', 'bom', 'backslash', 'no last newline', 'trailing spaces'],
)
def test_unambiguous_deviations_are_tolerated_and_not_written(tmp_path, content):
    assert read_classes(write(tmp_path, '\ufeffblack-eyed susan \r\nrose')) == ['black-eyed susan', 'rose']
    samples = read_samples(write(tmp_path, content), CLASSES)
    assert samples == [('daisy/ä b.jpg', 0), ('rose/c.jpg', 1)]
    write_samples(tmp_path / 'train.txt', reversed(samples), CLASSES)
    assert (tmp_path / 'train.txt').read_bytes() == 'daisy/ä b.jpg 0\nrose/c.jpg 1\n'.encode()


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('rose/a.jpg one', "index 'one', but 'rose' has index 1 in classes.txt"),
        ('rose/a.jpg', 'no index'),
        ('rose/a.jpg 3', "index '3', but 'rose' has index 1 in classes.txt"),
        ('rose/a.jpg 01', "index '01', but 'rose' has index 1 in classes.txt"),
        ('roses/a.jpg 1', "class 'roses' is not in classes.txt (did you mean 'rose'?)"),
        ('zebra/a.jpg 1', 'known are daisy, rose, tulip'),
        ('daisy/first.jpg 0', 'is in line 1 already'),
        ('', 'blank line'),
        ('rose/ 1', 'blank name'),
        ('/rose/a.jpg 1', 'is not `class/image`'),
        ('C:\\rose\\a.jpg 1', 'is not `class/image`'),
        ('rose/../a.jpg 1', 'is not `class/image`'),
        ('../a.jpg 1', "'..' is no name"),
        ('train/rose/a.jpg 1', 'is not `class/image`'),
        ('a.jpg 1', 'is not `class/image`'),
        ('train/a.jpg 0', 'point at the folder whose subfolders are the classes'),
        ('rose/a.jpg 1daisy/b.jpg 0tulip/c.jpg 2', 'annotations without line breaks'),
        ('rose/a\rb.jpg 1', 'a line break'),
        (b'rose/\xe9.jpg 1', 'not UTF-8'),
    ],
)
def test_a_line_is_refused_by_its_number(tmp_path, line, said):
    line = line if isinstance(line, bytes) else line.encode()
    file = write(tmp_path, b'daisy/first.jpg 0\n' + line + b'\ntulip/last.jpg 2\n')
    with pytest.raises(InputError) as info:
        read_samples(file, CLASSES)
    (problem,) = info.value.problems
    assert problem.startswith(f'{file}:2: ')
    assert said in problem
    assert problem.endswith('.')


@pytest.mark.parametrize(
    ('content', 'number', 'said'),
    [
        ('daisy 0\nrose\n', 1, 'as if an index were glued on'),
        ('daisy\nVal\n', 2, 'point at the folder whose subfolders are the classes'),
        ('daisy\nrose\ndaisy\n', 3, 'is in line 1 already'),
        ('daisy\n\nrose\n', 2, 'blank name'),
        ('daisy\n rose\n', 2, 'begins or ends with a space'),
        ('daisy\nrose/red\n', 2, 'holds a slash'),
        ('', None, 'no classes'),
        ('daisyrosetulip', None, "only one class, 'daisyrosetulip'"),
    ],
)
def test_a_class_is_refused_by_its_line(tmp_path, content, number, said):
    file = write(tmp_path, content, 'classes.txt')
    with pytest.raises(InputError) as info:
        read_classes(file)
    (problem,) = info.value.problems
    assert problem.startswith(f'{file}: ' if number is None else f'{file}:{number}: ')
    assert said in problem
    assert 'tools/generate_metadata.py' in problem


def test_empty_and_missing_lists_and_missing_images_are_refused(tmp_path):
    with pytest.raises(InputError, match='no lines'):
        read_samples(write(tmp_path, ''), CLASSES)
    with pytest.raises(InputError, match='no such file'):
        read_samples(tmp_path / 'absent.txt', CLASSES)
    (tmp_path / 'train' / 'rose').mkdir(parents=True)
    (tmp_path / 'train' / 'rose' / 'a.jpg').touch()
    file = write(tmp_path, 'rose/a.jpg 1\nrose/b.jpg 1\n')
    assert len(read_samples(file, CLASSES)) == 2
    with pytest.raises(InputError, match=r'train\.txt:2: no file .*b\.jpg'):
        read_samples(file, CLASSES, tmp_path / 'train')
    with pytest.raises(InputError) as info:
        read_samples(write(tmp_path, 'rose/a.jpg x\n' * 332), CLASSES)
    assert len(info.value.problems) == 21
    assert info.value.problems[-1] == 'and 312 more'


def test_unreadable_lists_are_not_written(tmp_path):
    for paths in ([], ['rose/a.jpg'] * 2, ['rose/a\nb.jpg'], ['rose\\a.jpg'], ['rose/\udce9.jpg']):
        with pytest.raises(InputError):
            write_samples(tmp_path / 'train.txt', [Sample(path, 1) for path in paths], CLASSES)
    for classes in (['rose', 'val'], ['rose', 'daisy 0'], ['rose', 'rose'], ['rose'], ['a', 'b\nc']):
        with pytest.raises(InputError):
            write_classes(tmp_path / 'classes.txt', classes)
    assert not list(tmp_path.iterdir())
