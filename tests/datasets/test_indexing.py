"""The lists of folders that are split already: what the split wrote, or a refusal that writes nothing."""

from pathlib import Path

import pytest

from custom_modules.datasets.indexing import index_prepared
from custom_modules.datasets.splitting import split_dataset
from custom_modules.errors import InputError


def make(folder: Path, counts: dict[str, int]) -> None:
    """Makes class folders of empty files, for none is opened."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f'{number:03}.jpg').touch()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_index_writes_what_the_split_wrote(raw, tmp_path):
    report = split_dataset(raw, tmp_path / 'out')
    before = tree(tmp_path / 'out')
    for name in ('classes.txt', 'train.txt', 'val.txt'):
        (tmp_path / 'out' / name).unlink()
    assert index_prepared(tmp_path / 'out') == report
    assert tree(tmp_path / 'out') == before


def test_index_keeps_the_order_of_classes_and_says_so(tmp_path):
    make(tmp_path / 'train', {'daisy': 2, 'rose': 2})
    make(tmp_path / 'val', {'daisy': 0, 'rose': 0})
    for name in ('daisy', 'rose'):
        (tmp_path / 'val' / name / 'val.jpg').touch()
    (tmp_path / 'classes.txt').write_text('rose\r\ndaisy')
    report = index_prepared(tmp_path)
    assert (tmp_path / 'classes.txt').read_bytes() == b'rose\ndaisy\n'
    assert (tmp_path / 'val.txt').read_bytes() == b'daisy/val.jpg 1\nrose/val.jpg 0\n'
    assert 'kept the class order' in str(report)
    assert (report.digest, report.has_problems) == (None, False)


@pytest.mark.parametrize('change', ['content', 'extra', 'order', 'manifest'])
def test_index_says_when_the_manifest_no_longer_fits(raw, tmp_path, change):
    out = tmp_path / 'out'
    split_dataset(raw, out)
    if change == 'content':
        next((out / 'val' / 'rose').iterdir()).write_text('another')
    elif change == 'extra':
        (out / 'val' / 'rose' / 'new.jpg').touch()
    elif change == 'order':
        (out / 'classes.txt').write_text('tulip\nsunflower\nrose\ndandelion\ndaisy\n')
    else:
        (out / 'manifest.json').write_text('{}')
    report = index_prepared(out)
    assert 'manifest.json' in report.warnings[0]
    assert (len(report.warnings), report.digest, report.has_problems) == (1, None, True)


def test_index_refuses_and_writes_nothing(tmp_path):
    def refuses(said, *more):
        before = tree(tmp_path)
        with pytest.raises(InputError) as info:
            index_prepared(tmp_path)
        assert len(info.value.problems) == 1 + len(more)
        assert all(part in line for part, line in zip((said, *more), info.value.problems, strict=True))
        assert tree(tmp_path) == before

    refuses('train: no such folder', 'val: no such folder')
    make(tmp_path / 'train', {'daisy': 1, 'rose': 1})
    refuses('val: no such folder')
    make(tmp_path / 'val', {'daisy': 1, 'lily': 1})
    refuses("'lily' is in val only", "'rose' is in train only")
    (tmp_path / 'val' / 'lily').rename(tmp_path / 'val' / 'rose')
    refuses("'daisy/000.jpg' is in train and in val", "'rose/000.jpg' is in train and in val")
    (tmp_path / 'classes.txt').write_text('daisy\nroses\n')
    refuses('names daisy, roses, but the folders are daisy, rose')
    (tmp_path / 'classes.txt').write_text('daisy 0\nrose 1\n')
    refuses('classes.txt:1', 'classes.txt:2')
    (tmp_path / 'train' / 'rose' / '000.jpg').unlink()
    (tmp_path / 'val' / 'daisy' / '000.jpg').unlink()
    refuses('train/rose: no photos', 'val/daisy: no photos')
