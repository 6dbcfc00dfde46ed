"""The data tools on a folder with everything that goes wrong: exit code 0, 1 or 2, clear lines, complete output."""

import os
import random
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from custom_modules.datasets.prepared_dataset import read_prepared


def image(file: Path, size: int = 32) -> bytes:
    """Draws an image like no other; returns its bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(os.fsencode(file.parent.name + file.name)).randbytes(size * size)
    Image.frombytes('L', (size, size), noise).save(file, 'JPEG')
    return file.read_bytes()


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, set[str]]:
    """The folder, and its usable images by ``class/image``."""
    raw = tmp_path / 'raw'
    rose = raw / 'rose'
    names = ['with spaces .jpg', 'flower \U0001f33b.jpg', 'ünïcode.PNG', 'x' * 251 + '.jpg', 'escape \x1b[31m.jpg']
    usable = {f'rose/{name}' for name in [*names, 'pixel.png', 'whole.jpg']}
    usable |= {f'{name}/{number}.jpg' for name in ('rose', 'daisy') for number in range(10)}
    for path in usable:
        image(raw / path)
    Image.new('L', (1, 1), 90).save(rose / 'pixel.png')
    jpeg = image(rose / 'whole.jpg', 64)
    for name in (b'..two dots.jpg', b'line\nbreak.jpg', b'latin \xe9.jpg', b'back\\slash.jpg'):
        image(rose / os.fsdecode(name))
    (rose / 'zero.jpg').touch()
    (rose / 'text.jpg').write_text('no picture')
    (rose / 'truncated.jpg').write_bytes(jpeg[: len(jpeg) // 2])
    Image.new('1', (14_000, 14_000)).save(rose / 'bomb.png')
    for path in (rose / '.DS_Store', rose / 'Thumbs.db', rose / 'notes.txt', raw / '.DS_Store', raw / 'readme.txt'):
        path.touch()
    image(rose / 'nested' / 'deep' / 'a.jpg')
    (rose / 'loop.jpg').symlink_to('loop.jpg')
    (rose / 'up').symlink_to('..')
    (raw / 'loop').symlink_to('loop')
    (raw / 'linked').symlink_to('rose')
    (rose / 'folder.jpg').mkdir()
    os.mkfifo(rose / 'pipe.jpg')
    return raw, usable


@pytest.fixture
def run(run_process, tmp_path):
    """A function that runs a tool whose output can hold ASCII alone; the lines it prints about what is wrong."""

    def run(*args: object) -> list[str]:
        done = run_process(*args, cwd=tmp_path, PYTHONIOENCODING='ascii')
        assert (done.code, done.err) == (1, '')
        assert {character for character in done.out if unicodedata.category(character) == 'Cc'} == {'\n'}
        return done.out.splitlines()

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob('*'))
        if not path.is_symlink()
    }


def test_split_uses_the_usable_images_and_lists_the_others(hostile, run, tmp_path, call):
    raw, usable = hostile
    before = tree(raw)
    printed = run('split_dataset', raw, tmp_path / 'out')
    assert tree(raw) == before
    prepared = read_prepared(tmp_path / 'out')
    assert {sample.path for sample in prepared.train + prepared.val} == usable
    listed = [line for line in printed if line.startswith('left out: ')]
    for said in (
        '.DS_Store (hidden',
        'linked (link to a folder that is listed itself or lies above)',
        'readme.txt (not in a class folder)',
        'rose/.DS_Store (hidden',
        'rose/Thumbs.db (hidden',
        'rose/notes.txt (not an image',
        'rose/zero.jpg (empty file)',
        'rose/text.jpg (no picture',
        'rose/truncated.jpg (broken picture',
        'rose/bomb.png (too large',
        'rose/loop.jpg (broken link)',
        'rose/nested (folder inside a class folder)',
        'rose/up (link to a folder)',
        'rose/pipe.jpg (no readable file)',
        r'rose/line\nbreak.jpg (its name does not fit',
        r'rose/latin \udce9.jpg (its name does not fit',
        r'rose/back\slash.jpg (its name does not fit',
    ):
        assert any(line.startswith(f'left out: {said}') for line in listed), said
    entries = sum(len(os.listdir(folder)) for folder in (raw, raw / 'rose', raw / 'daisy')) - 2
    assert len(listed) == entries - len(usable), 'nothing is skipped silently'

    written = tree(tmp_path / 'out')
    assert call('generate_metadata', tmp_path / 'out').code == 0
    assert tree(tmp_path / 'out') == written
    for path in raw.glob('rose/[ptuz]*'):  # what cannot be opened is listed, for no image is opened
        path.rename(tmp_path / 'out' / 'train' / 'rose' / path.name)
    result = call('generate_metadata', tmp_path / 'out')
    assert result.code == 1
    assert 'left out: train/rose/up (link to a folder)' in result.out
    assert 'left out: train/rose/pipe.jpg (no readable file)' in result.out
    assert 'rose/truncated.jpg 1\n' in (tmp_path / 'out' / 'train.txt').read_text()


def test_check_reports_everything_and_changes_nothing(hostile, run, tmp_path):
    raw, _ = hostile
    (raw / 'lily').mkdir()
    for path in ('rose/0.JPG', 'ro\nse/0.jpg', os.fsdecode(b'r\xf4se/0.jpg')):
        image(raw / path)
    before = tree(raw)
    printed = run('check_dataset', raw, '--out', tmp_path / 'report.html')
    assert tree(raw) == before
    assert printed[-1] == f'written: {tmp_path / "report.html"}'
    report = (tmp_path / 'report.html').read_text()
    for said in ('zero.jpg', 'text.jpg', 'truncated.jpg', 'bomb.png', 'loop.jpg', 'pipe.jpg', '0.JPG', 'pixel.png'):
        assert said in report


def test_unusable_paths_are_refused(hostile, tmp_path, call):
    raw, _ = hostile
    for source, target in ((raw / 'loop', 'out'), (raw / ('x' * 300), 'out'), (raw, 'x' * 300), (raw, raw / 'loop')):
        assert call('split_dataset', source, tmp_path / target).error
    for tool in ('generate_metadata', 'check_dataset'):
        assert call(tool, raw / 'loop').code == 2
    assert [path.name for path in tmp_path.iterdir()] == ['raw']
