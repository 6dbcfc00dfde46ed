"""The command line of tools/split_dataset.py: what it prints, its exit codes, and what it does not import."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parents[2] / 'tools' / 'split_dataset.py'


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two classes of ten photos."""
    for name in ('daisy', 'rose'):
        (tmp_path / 'raw' / name).mkdir(parents=True)
        for number in range(10):
            noise = random.Random(f'{name}/{number}').randbytes(16 * 16)
            Image.frombytes('L', (16, 16), noise).save(tmp_path / 'raw' / name / f'{number}.jpg', 'PNG')
    return tmp_path / 'raw'


def split(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, *map(str, args)], capture_output=True, text=True)


def test_prints_counts_and_the_next_command_without_a_bar(raw, tmp_path):
    (raw / '.DS_Store').touch()
    done = split(raw, tmp_path / 'out')
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    assert lines[0] == 'left out: .DS_Store (hidden or system file)'
    assert [line.split() for line in lines[1:5]] == [
        ['class', 'train', 'val'],
        ['daisy', '8', '2'],
        ['rose', '8', '2'],
        ['total', '16', '4'],
    ]
    assert re.fullmatch(r'20 photos in \d+\.\d s: \d+ photos/s', lines[5])
    assert lines[-1] == (
        f'next: python tools/train.py configs/flower_mobilenetv2_fast.py --data-root {tmp_path / "out"}'
    )


def test_exits_1_when_something_else_was_left_out(raw, tmp_path):
    (raw / 'rose' / 'notes.txt').touch()
    done = split(raw, tmp_path / 'out', '--ratio', '0.5', '--seed', '7', '--mode', 'symlink')
    assert done.returncode == 1
    assert 'left out: rose/notes.txt (no photo by its suffix' in done.stdout
    assert len(list((tmp_path / 'out' / 'val' / 'rose').iterdir())) == 5


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        (['raw', 'raw/out'], 'the other way round'),
        (['absent', 'out'], 'no such folder'),
        (['raw', 'out', '--ratio', '1'], 'not between 0 and 1'),
        (['raw', 'out', '--ratio', '1e-9'], "class 'daisy'"),
        (['raw', 'out', '--mode', 'move'], 'invalid choice'),
        (['raw', 'out', '--workers', '0'], 'must be 1 to 61'),
    ],
)
def test_unusable_input_exits_2_without_traceback_and_writes_nothing(raw, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    done = split(*args)
    assert (done.returncode, done.stdout) == (2, '')
    assert said in done.stderr
    assert 'Traceback' not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['raw']
    assert sorted(path.name for path in raw.iterdir()) == ['daisy', 'rose']


@pytest.mark.parametrize('tool', ['split_dataset.py', 'generate_metadata.py'])
def test_help_imports_nothing_that_costs_seconds(tool):
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', TOOL.with_name(tool), '--help'], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert 'usage:' in done.stdout
    imported = {line.rpartition('|')[2].strip().split('.')[0] for line in done.stderr.splitlines()}
    assert 'argparse' in imported
    assert not imported & {
        'torch',
        'numpy',
        'mmengine',
        'mmpretrain',
        'mmcv',
        'cv2',
        'rich',
        'PIL',
        'imagehash',
        'scipy',
    }
