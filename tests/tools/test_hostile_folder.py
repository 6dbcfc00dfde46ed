"""The data tools on a folder with everything that goes wrong: they end with 0, 1 or 2, clear lines, whole output."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from custom_modules.datasets.annotation import read_classes, read_samples

TOOLS = Path(__file__).parents[2] / 'tools'


def picture(file: Path, size: int = 32) -> bytes:
    """Draws a picture like no other; returns its bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(os.fsencode(file.parent.name + file.name)).randbytes(size * size)
    Image.frombytes('L', (size, size), noise).save(file, 'JPEG')
    return file.read_bytes()


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, set[str]]:
    """The folder, and what of it can be used, by ``class/image``."""
    raw = tmp_path / 'raw'
    rose = raw / 'rose'
    usable = set()
    for name in ('rose', 'daisy'):
        for number in range(10):
            picture(raw / name / f'{number}.jpg')
            usable.add(f'{name}/{number}.jpg')
    for image in ('with spaces .jpg', 'flower \U0001f33b.jpg', 'ünïcode.PNG', '..two dots.jpg', 'x' * 251 + '.jpg'):
        picture(rose / image)
        if not image.startswith('.'):
            usable.add(f'rose/{image}')
    for image in (b'line\nbreak.jpg', b'latin \xe9.jpg', b'escape \x1b[31m.jpg', b'back\\slash.jpg'):
        picture(rose / os.fsdecode(image))
    usable.add('rose/escape \x1b[31m.jpg')
    Image.new('L', (1, 1), 90).save(rose / 'pixel.png')
    usable.add('rose/pixel.png')
    jpeg = picture(rose / 'whole.jpg', 64)
    usable.add('rose/whole.jpg')
    (rose / 'zero.jpg').touch()
    (rose / 'text.jpg').write_text('no picture')
    (rose / 'truncated.jpg').write_bytes(jpeg[: len(jpeg) // 2])
    Image.new('1', (14_000, 14_000)).save(rose / 'bomb.png')
    (rose / '.DS_Store').touch()
    (raw / '.DS_Store').touch()
    picture(rose / 'nested' / 'deep' / 'a.jpg')
    (rose / 'loop.jpg').symlink_to('loop.jpg')
    (rose / 'up').symlink_to('..')
    (raw / 'loop').symlink_to('loop')
    (rose / 'folder.jpg').mkdir()
    os.mkfifo(rose / 'pipe.jpg')
    return raw, usable


def run(tool: str, *args: object, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, TOOLS / f'{tool}.py', *map(str, args)],
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        timeout=300,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert 'Traceback' not in err
    assert not [character for character in out + err if unicodedata.category(character) == 'Cc' and character != '\n']
    if done.returncode == 2:
        assert all(line.startswith('error: ') for line in err.splitlines())
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob('*'))
        if not path.is_symlink()
    }


def whole(out: Path) -> set[str]:
    """Checks that a prepared dataset is complete; returns its ``class/image``."""
    classes = read_classes(out / 'classes.txt')
    samples = [
        sample for side in ('train', 'val') for sample in read_samples(out / f'{side}.txt', classes, out / side)
    ]
    assert len(json.loads((out / 'manifest.json').read_bytes())['files']) == len(samples)
    return {sample.path for sample in samples}


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_split_uses_what_can_be_used_and_lists_the_rest(hostile, tmp_path, encoding):
    raw, usable = hostile
    before = tree(raw)
    done = run('split_dataset', raw, tmp_path / 'out', PYTHONIOENCODING=encoding)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ''
    assert whole(tmp_path / 'out') == usable
    assert tree(raw) == before
    for said in (
        'zero.jpg (empty file)',
        'text.jpg (no picture',
        'truncated.jpg (broken picture',
        'bomb.png (too large',
        'loop.jpg (broken link)',
        'nested (folder inside a class folder)',
        'up (link to a folder)',
        'pipe.jpg (no readable file)',
        r'line\nbreak.jpg (its name does not fit',
        r'latin \udce9.jpg (its name does not fit',
        '.DS_Store (hidden',
    ):
        assert f'left out: rose/{said}' in done.stdout
    listed = [line for line in done.stdout.splitlines() if line.startswith('left out: ')]
    entries = sum(len(os.listdir(folder)) for folder in (raw, raw / 'rose', raw / 'daisy')) - 2
    assert len(listed) == entries - len(usable), 'nothing is skipped silently'

    again = run('generate_metadata', tmp_path / 'out', PYTHONIOENCODING=encoding)
    assert again.returncode == 0, again.stdout
    assert whole(tmp_path / 'out') == usable


def test_generate_metadata_takes_a_hostile_folder_too(hostile, tmp_path):
    raw, usable = hostile
    data = tmp_path / 'data'
    data.mkdir()
    raw.rename(data / 'train')
    for name in ('rose', 'daisy'):
        picture(data / 'val' / name / 'other.jpg')
    before = tree(data)
    done = run('generate_metadata', data)
    assert done.returncode == 1
    assert 'left out: train/rose/up (link to a folder)' in done.stdout
    classes = read_classes(data / 'classes.txt')
    unopened = {f'rose/{name}' for name in ('zero.jpg', 'text.jpg', 'truncated.jpg', 'bomb.png')}
    assert {sample.path for sample in read_samples(data / 'train.txt', classes)} == usable | unopened
    assert {path: content for path, content in tree(data).items() if not path.endswith('.txt')} == before


def empty_class(raw: Path) -> None:
    (raw / 'tulip').mkdir()


def class_of_one(raw: Path) -> None:
    picture(raw / 'tulip' / 'only.jpg')


def names_differing_in_case(raw: Path) -> None:
    picture(raw / 'rose' / '0.JPG')


def class_of_other_bytes(raw: Path) -> None:
    picture(raw / os.fsdecode(b'r\xf4se') / '0.jpg')


def class_with_a_line_break(raw: Path) -> None:
    picture(raw / 'ro\nse' / '0.jpg')


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (empty_class, 'tulip: no photos'),
        (class_of_one, "class 'tulip': 1 photo(s)"),
        (names_differing_in_case, "'0.JPG' and '0.jpg' differ only in case"),
        (class_of_other_bytes, r"class folder 'r\udcf4se' is not UTF-8"),
        (class_with_a_line_break, r"class folder 'ro\nse' holds"),
    ],
)
def test_what_only_a_person_can_decide_is_refused_whole(hostile, tmp_path, spoil: Callable[[Path], None], said):
    raw, _ = hostile
    spoil(raw)
    done = run('split_dataset', raw, tmp_path / 'out')
    assert (done.returncode, done.stdout) == (2, '')
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['raw']


@pytest.mark.parametrize('name', ['report.html', 'report.csv', 'report.json'])
def test_check_takes_a_hostile_folder_as_it_is(hostile, tmp_path, name):
    raw, _ = hostile
    for spoil in (empty_class, class_of_one, names_differing_in_case, class_of_other_bytes, class_with_a_line_break):
        spoil(raw)
    before = tree(raw)
    done = run('check_dataset', raw, '--out', tmp_path / name, PYTHONIOENCODING='ascii')
    assert (done.returncode, done.stderr) == (1, '')
    assert tree(raw) == before
    assert done.stdout.splitlines()[-1] == f'written: {tmp_path / name}'
    report = (tmp_path / name).read_text()
    for said in ('zero.jpg', 'text.jpg', 'truncated.jpg', 'bomb.png', 'loop.jpg', 'pipe.jpg', '0.JPG', 'pixel.png'):
        assert said in report


def test_unusable_paths_are_refused(hostile, tmp_path):
    raw, _ = hostile
    for source, target in ((raw / 'loop', 'out'), (raw / ('x' * 300), 'out'), (raw, 'x' * 300), (raw, raw / 'loop')):
        done = run('split_dataset', source, tmp_path / target)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for tool in ('generate_metadata', 'check_dataset'):
        assert run(tool, raw / 'loop').returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ['raw']


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read everything')
def test_what_may_not_be_read(hostile, tmp_path):
    raw, usable = hostile
    (raw / 'rose' / '0.jpg').chmod(0)
    done = run('split_dataset', raw, tmp_path / 'out')
    assert done.returncode == 1
    assert 'left out: rose/0.jpg (cannot be read: Permission denied)' in done.stdout
    assert whole(tmp_path / 'out') == usable - {'rose/0.jpg'}
    assert run('split_dataset', raw, tmp_path / 'all', '--keep-all').returncode == 2
    assert not (tmp_path / 'all').exists()
    (raw / 'daisy').chmod(0)
    assert run('split_dataset', raw, tmp_path / 'other').returncode == 2
    (raw / 'daisy').chmod(0o755)


def test_killed_at_any_moment_there_is_no_output_or_the_whole(tmp_path):
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    for name in ('rose', 'daisy'):
        for number in range(150):
            picture(raw / name / f'{number:03}.jpg')
    command = [sys.executable, TOOLS / 'split_dataset.py', raw, out]
    started = time.monotonic()
    assert subprocess.run([*command[:-1], tmp_path / 'reference'], capture_output=True).returncode == 0
    seconds = time.monotonic() - started
    chance = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.3, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if out.exists():
            break
        assert {path.name[:13] for path in tmp_path.iterdir()} <= {'raw', 'reference', '.out.partial-'}
    else:
        assert subprocess.run(command, capture_output=True).returncode == 0
    assert tree(out) == tree(tmp_path / 'reference')
