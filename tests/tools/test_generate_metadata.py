"""The lists of train and val folders that already exist: the same as a split's, or a refusal that writes nothing."""

import shutil
from pathlib import Path

import pytest


def make(data: Path, *paths: str) -> None:
    """Makes empty files, which suffice: no image is opened."""
    for path in paths:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).touch()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_the_lists_of_a_split_are_written_again(data, tmp_path, call):
    copy = shutil.copytree(data, tmp_path / 'data')
    for name in ('classes.txt', 'train.txt', 'val.txt'):
        (copy / name).unlink()
    result = call('generate_metadata', copy)
    assert (result.code, result.err) == (0, '')
    assert tree(copy) == tree(data)
    lines = result.out.splitlines()
    assert lines[-2].split() == ['total', '40', '15']
    assert lines[-1] == f'next: python tools/train.py configs/flower_mobilenetv2_fast.py --data-root {copy}'


def test_the_order_of_classes_is_kept_and_reported(tmp_path, call):
    make(tmp_path, 'train/daisy/a.jpg', 'train/rose/b.jpg', 'val/daisy/c d.jpg', 'val/rose/e.jpg')
    (tmp_path / 'classes.txt').write_text('rose\r\ndaisy')
    result = call('generate_metadata', tmp_path)
    assert result.code == 0
    assert 'kept the class order' in result.out
    assert (tmp_path / 'classes.txt').read_bytes() == b'rose\ndaisy\n'
    assert (tmp_path / 'train.txt').read_bytes() == b'daisy/a.jpg 1\nrose/b.jpg 0\n'
    assert (tmp_path / 'val.txt').read_bytes() == b'daisy/c d.jpg 1\nrose/e.jpg 0\n'


def test_train_valid_test_is_understood(data, best, tiny_config, tmp_path, call):
    for source, name in (('train', 'train'), ('val', 'valid'), ('val/rose', 'test/rose')):
        shutil.copytree(data / source, tmp_path / 'data' / name)
    for number, folder in enumerate(('train', 'valid', 'test')):  # equal names of different images
        (tmp_path / 'data' / folder / 'rose' / '1.jpg').write_text(str(number))
    testing = ['test', tiny_config, best, '--data-root', tmp_path / 'data', '--split', 'test']
    assert f'python tools/generate_metadata.py {tmp_path / "data"}' in call(*testing).error
    result = call('generate_metadata', tmp_path / 'data')
    assert result.out.splitlines()[1].split() == ['class', 'train', 'val', 'test']
    (tmp_path / 'data' / 'test' / 'rose' / '1.jpg').unlink()
    call('generate_metadata', tmp_path / 'data')
    assert call(*testing, '--out', 'a.csv').code in (0, 1)
    assert (tmp_path / 'a.csv').read_text().count(f'{tmp_path}/data/test/rose/') == 3


@pytest.mark.parametrize('change', ['content', 'extra', 'order', 'manifest'])
def test_a_manifest_that_no_longer_fits_is_a_warning(data, tmp_path, call, change):
    copy = shutil.copytree(data, tmp_path / 'data')
    if change == 'content':
        next((copy / 'val' / 'rose').iterdir()).write_text('another')
    elif change == 'extra':
        make(copy, 'val/rose/new.jpg')
    elif change == 'order':
        (copy / 'classes.txt').write_text('tulip\nsunflower\nrose\ndandelion\ndaisy\n')
    else:
        (copy / 'manifest.json').write_text('{}')
    result = call('generate_metadata', copy)
    assert result.code == 1
    (warning,) = (line for line in result.out.splitlines() if line.startswith('warning: '))
    assert 'manifest.json' in warning


def test_a_refusal_writes_nothing(tmp_path, call):
    data = tmp_path / 'data'

    def refuses(*said):
        before = tree(data)
        result = call('generate_metadata', data)
        assert (result.code, result.out) == (2, '')
        for line, part in zip(result.err.splitlines(), said, strict=True):
            assert part in line
        assert tree(data) == before

    refuses('train: no such folder', 'val: no such folder')
    make(data, 'train/daisy/0.jpg', 'train/rose/0.jpg', 'val/daisy/0.jpg', 'val/lily/0.jpg')
    refuses("'lily' is in val only", "'rose' is in train only")
    (data / 'val' / 'lily').rename(data / 'val' / 'rose')
    refuses("'daisy/0.jpg' is in train and in val", "'rose/0.jpg' is in train and in val")
    (data / 'classes.txt').write_text('daisy\nroses\n')
    refuses('names daisy, roses, but the folders are daisy, rose')
    (data / 'classes.txt').write_text('daisy 0\nrose 1\n')
    refuses('classes.txt:1', 'classes.txt:2')
    (data / 'train' / 'rose' / '0.jpg').unlink()
    (data / 'val' / 'daisy' / '0.jpg').unlink()
    refuses('train/rose: no photos', 'val/daisy: no photos')
