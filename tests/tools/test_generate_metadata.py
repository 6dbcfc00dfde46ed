"""The command line of tools/generate_metadata.py: the three files it writes, and its exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'generate_metadata.py'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared folder of two classes without its text files."""
    for path in ('train/daisy/a.jpg', 'train/rose/b.jpg', 'val/daisy/c d.jpg', 'val/rose/e.jpg'):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    return tmp_path


def generate(data: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, data], capture_output=True, text=True)


def test_writes_the_three_files(data):
    done = generate(data)
    assert (done.returncode, done.stderr) == (0, '')
    assert (data / 'classes.txt').read_bytes() == b'daisy\nrose\n'
    assert (data / 'train.txt').read_bytes() == b'daisy/a.jpg 0\nrose/b.jpg 1\n'
    assert (data / 'val.txt').read_bytes() == b'daisy/c d.jpg 0\nrose/e.jpg 1\n'
    assert done.stdout.splitlines()[-1].startswith('next: python tools/train.py ')


def test_exits_1_when_the_manifest_no_longer_fits(data):
    (data / 'manifest.json').write_text('{}')
    done = generate(data)
    assert done.returncode == 1
    assert 'warning: ' in done.stdout
    assert (data / 'manifest.json').read_text() == '{}'


def test_exits_2_and_writes_nothing_when_the_sides_share_a_photo(data):
    (data / 'val' / 'rose' / 'b.jpg').touch()
    done = generate(data)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith("error: 'rose/b.jpg' is in train and in val")
    assert sorted(path.name for path in data.iterdir()) == ['train', 'val']
