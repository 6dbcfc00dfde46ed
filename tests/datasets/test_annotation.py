"""The annotation format: what is written is read back, what is unambiguous is read, the rest is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_modules.datasets.annotation import (
    Sample,
    check_disjoint,
    class_name_problem,
    name_problem,
    read_classes,
    read_samples,
    write_classes,
    write_samples,
)
from custom_modules.errors import InputError

CLASSES = ['daisy', 'rose', 'tulip']
REGENERATE = 'regenerate with tools/generate_metadata.py'

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


def write(tmp_path: Path, content: str | bytes, name: str = 'train.txt') -> Path:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@given(labelled)
def test_what_is_written_is_read_back_sorted(tmp_path_factory, data):
    classes, pairs = data
    folder = tmp_path_factory.mktemp('annotation')
    samples = [Sample(f'{classes[label]}/{image}', label) for label, image in pairs]
    write_classes(folder / 'classes.txt', classes)
    assert read_classes(folder / 'classes.txt') == classes
    write_samples(folder / 'train.txt', samples)
    assert read_samples(folder / 'train.txt', classes) == sorted(samples)


@given(st.text() | st.binary())
def test_any_content_is_read_or_refused_in_lines_that_name_the_file(tmp_path_factory, content):
    file = write(
        tmp_path_factory.mktemp('annotation'),
        content if isinstance(content, bytes) else content.encode('utf-8', 'replace'),
    )
    for read in (read_classes, lambda file: read_samples(file, CLASSES)):
        try:
            read(file)
            lines: tuple[str, ...] = ()
        except InputError as error:
            lines = error.problems
        assert all(str(file) in line or line.startswith('and ') for line in lines)


def test_writes_utf8_lf_and_leaves_nothing_beside(tmp_path):
    write_samples(tmp_path / 'train.txt', [Sample('rose/b.jpg', 1), Sample('daisy/ä b.jpg', 0)])
    assert (tmp_path / 'train.txt').read_bytes() == 'daisy/ä b.jpg 0\nrose/b.jpg 1\n'.encode()
    assert [path.name for path in tmp_path.iterdir()] == ['train.txt']


@pytest.mark.parametrize(
    'content',
    [
        'daisy/a b.jpg 0\nrose/c.jpg 1\n',
        'daisy/a b.jpg 0\r\nrose/c.jpg 1\r\n',
        '\ufeffdaisy/a b.jpg 0\nrose/c.jpg 1\n',
        'daisy\\a b.jpg 0\nrose\\c.jpg 1\n',
        'daisy/a b.jpg 0\nrose/c.jpg 1',
        'daisy/a b.jpg 0  \nrose/c.jpg 1\t\n',
    ],
    ids=['plain', 'crlf', 'bom', 'backslash', 'no last newline', 'trailing spaces'],
)
def test_tolerates_what_is_unambiguous(tmp_path, content):
    assert read_samples(write(tmp_path, content), CLASSES) == [('daisy/a b.jpg', 0), ('rose/c.jpg', 1)]


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('rose/a.jpg one', "index 'one' is no integer"),
        ('rose/a.jpg 1.0', 'no integer'),
        ('rose/a.jpg ' + '9' * 5000, 'no integer'),
        ('rose/a.jpg', 'no index'),
        ('rose/a.jpg 3', 'index 3 is out of range: 3 classes have indices 0 to 2'),
        ('rose/a.jpg -1', 'out of range'),
        ('rose/a.jpg 2', "index 2 is 'tulip' in classes.txt, but the folder is 'rose' (1): the class order differs"),
        ('roses/a.jpg 1', "class 'roses' is not in classes.txt: did you mean 'rose'?"),
        ('zebra/a.jpg 1', 'known are daisy, rose, tulip'),
        ('daisy/first.jpg 0', 'is in line 1 already'),
        ('', 'blank line'),
        ('rose/ 1', 'blank name'),
        ('/rose/a.jpg 1', 'absolute path'),
        ('C:\\rose\\a.jpg 1', 'absolute path'),
        ('rose/../a.jpg 1', 'leaves its folder'),
        ('../a.jpg 1', 'leaves its folder'),
        ('train/rose/a.jpg 1', 'is not `class/image`'),
        ('a.jpg 1', 'is not `class/image`'),
        ('train/a.jpg 0', 'point at the folder whose subfolders are the classes'),
        ('rose/a.jpg 1daisy/b.jpg 0tulip/c.jpg 2', f'annotations without line breaks; {REGENERATE}'),
        ('rose/a.JPG 1 daisy/b.jpg 0', f'annotations without line breaks; {REGENERATE}'),
        ('rose/a\rb.jpg 1', 'control character'),
    ],
)
def test_refuses_a_line_by_its_number(tmp_path, line, said):
    file = write(tmp_path, f'daisy/first.jpg 0\n{line}\ntulip/last.jpg 2\n')
    with pytest.raises(InputError) as info:
        read_samples(file, CLASSES)
    assert len(info.value.problems) == 1
    assert info.value.problems[0].startswith(f'{file}:2: ')
    assert said in info.value.problems[0]


def test_refuses_bytes_that_are_not_utf8_and_empty_and_absent_files(tmp_path):
    with pytest.raises(InputError, match=r'train\.txt:2: not UTF-8'):
        read_samples(write(tmp_path, b'rose/a.jpg 1\nrose/\xe9.jpg 1\n'), CLASSES)
    with pytest.raises(InputError, match='no lines'):
        read_samples(write(tmp_path, ''), CLASSES)
    with pytest.raises(InputError, match='no such file'):
        read_samples(tmp_path / 'absent.txt', CLASSES)


def test_names_files_that_are_missing_beneath_the_image_root(tmp_path):
    (tmp_path / 'train' / 'rose').mkdir(parents=True)
    (tmp_path / 'train' / 'rose' / 'a.jpg').touch()
    file = write(tmp_path, 'rose/a.jpg 1\nrose/b.jpg 1\n')
    assert len(read_samples(file, CLASSES)) == 2
    with pytest.raises(InputError, match=r'train\.txt:2: no file .*b\.jpg') as info:
        read_samples(file, CLASSES, tmp_path / 'train')
    assert len(info.value.problems) == 1


def test_reports_all_problems_and_counts_those_beyond_twenty(tmp_path):
    with pytest.raises(InputError) as info:
        read_samples(write(tmp_path, 'rose/a.jpg x\n' * 332), CLASSES)
    assert len(info.value.problems) == 21
    assert info.value.problems[-1] == 'and 312 more'


@pytest.mark.parametrize(
    ('content', 'number', 'said'),
    [
        ('daisy 0\nrose\n', 1, 'as if an index were glued on'),
        ('daisy\ntrain\n', 2, 'a prepared folder was read as raw photos'),
        ('daisy\nVal\n', 2, 'point at the folder whose subfolders are the classes'),
        ('daisy\nrose\ndaisy\n', 3, 'is in line 1 already'),
        ('daisy\n\nrose\n', 2, 'blank name'),
        ('daisy\nrose\n\n', 3, 'blank name'),
        ('daisy\n rose\n', 2, 'begins or ends with a space'),
        ('daisy\nrose/red\n', 2, 'holds a slash'),
    ],
)
def test_refuses_a_class_by_its_line(tmp_path, content, number, said):
    file = write(tmp_path, content, 'classes.txt')
    with pytest.raises(InputError) as info:
        read_classes(file)
    assert len(info.value.problems) == 1
    assert info.value.problems[0].startswith(f'{file}:{number}: ')
    assert said in info.value.problems[0]
    assert 'tools/generate_metadata.py' in info.value.problems[0]


@pytest.mark.parametrize(
    ('content', 'said'), [('', 'no classes'), ('daisyrosetulip', "only one class, 'daisyrosetulip'")]
)
def test_refuses_fewer_than_two_classes(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        read_classes(write(tmp_path, content))


def test_classes_keep_their_order_and_may_hold_spaces(tmp_path):
    assert read_classes(write(tmp_path, '\ufefftulip\r\nblack-eyed susan \r\nrose')) == [
        'tulip',
        'black-eyed susan',
        'rose',
    ]


@pytest.mark.parametrize(
    'path',
    [
        'rose/a\nb.jpg',
        'rose\\a.jpg',
        '/rose/a.jpg',
        'rose/../a.jpg',
        'a.jpg',
        'rose/',
        'rose/\udce9.jpg',
        'train/a.jpg',
    ],
)
def test_refuses_to_write_what_it_could_not_read(tmp_path, path):
    with pytest.raises(InputError):
        write_samples(tmp_path / 'train.txt', [Sample(path, 0)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'classes', [['rose', 'val'], ['rose', 'daisy 0'], ['rose', 'rose'], ['rose'], ['rose', 'a\nb']]
)
def test_refuses_to_write_classes_it_could_not_read(tmp_path, classes):
    with pytest.raises(InputError):
        write_classes(tmp_path / 'classes.txt', classes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('samples', [[], [Sample('rose/a.jpg', 1)] * 2])
def test_writes_each_sample_once(tmp_path, samples):
    with pytest.raises(InputError, match='each once'):
        write_samples(tmp_path / 'train.txt', samples)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = write(tmp_path, 'old', 'classes.txt')

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match=r'No space left on device: .*classes\.txt'):
        write_classes(file, CLASSES)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['old']


def test_names_every_photo_that_is_on_both_sides():
    both = [Sample('rose/a.jpg', 1), Sample('rose/b.jpg', 1)]
    check_disjoint(both, [Sample('daisy/a.jpg', 0)])
    with pytest.raises(InputError) as info:
        check_disjoint(both, [*both, Sample('rose/c.jpg', 1)])
    assert [line.split()[0] for line in info.value.problems] == ["'rose/a.jpg'", "'rose/b.jpg'"]


def test_imports_the_standard_library_only():
    code = (
        'import sys, custom_modules.datasets.annotation; print({"torch", "numpy", "mmengine", "cv2"} & {*sys.modules})'
    )
    repo = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, '-c', code], cwd=repo, capture_output=True, text=True).stdout == 'set()\n'
