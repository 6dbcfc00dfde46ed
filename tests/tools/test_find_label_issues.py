"""The command line of tools/find_label_issues.py: what it prints and writes, and its exit codes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from custom_modules.evaluation import label_issues
from custom_modules.evaluation.embeddings import Embedder

COLOURS = {'daisy': (240, 240, 240), 'rose': (40, 30, 200), 'sunflower': (20, 190, 240)}  # BGR


class ColourEmbedder:
    """A stand-in for the backbone: 4 x 4 pixels of the photo, which separate the colours of these classes."""

    cache_name = 'colours.npz'
    load = Embedder.load

    def __init__(self, weights: Path) -> None:
        self._pipeline = lambda item: {'inputs': torch.from_numpy(cv2.imread(item['img_path'])).permute(2, 0, 1)}

    def __call__(self, photos: list[torch.Tensor]) -> np.ndarray:
        return torch.nn.functional.adaptive_avg_pool2d(torch.stack(photos).float(), 4).flatten(1).numpy()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of twelve noisy photos of a colour each, read by a stand-in for the backbone."""
    monkeypatch.setattr(label_issues, 'Embedder', ColourEmbedder)
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / 'photos' / name).mkdir(parents=True)
        for number in range(12):
            shades = colour + random.normal(scale=30, size=(8, 8, 3))
            picture = np.kron(shades.clip(0, 255), np.ones((4, 4, 1))).astype(np.uint8)
            (tmp_path / 'photos' / name / f'{number}.png').write_bytes(cv2.imencode('.png', picture)[1].tobytes())
    return tmp_path / 'photos'


def plant(photos: Path) -> None:
    """Files a rose and a sunflower in the wrong folders."""
    (photos / 'rose' / '3.png').rename(photos / 'daisy' / 'blüte 🌹.png')
    (photos / 'sunflower' / '7.png').rename(photos / 'rose' / 'late\x1b.png')


def test_planted_suspects_are_printed_and_written_and_a_second_run_computes_nothing(photos, call):
    plant(photos)
    before = sorted(path.stat().st_mtime_ns for path in photos.rglob('*'))
    done = call('find_label_issues', photos, '--out', 'new/suspects.json')
    assert (done.code, done.err) == (1, '')
    lines = done.out.splitlines()
    assert sorted(line.split(' (')[0] for line in lines[:2]) == [
        'labelled daisy, looks like rose',
        'labelled rose, looks like sunflower',
    ]
    assert '\x1b' not in done.out
    assert lines[2] == '2 of 36 labels doubtful, 0 photos unreadable'
    cache = Path('work_dirs/embeddings/colours.npz')
    assert lines[3] == f'embedded    36 photos; the embeddings are in {cache}'
    assert lines[4] == f'written     {Path("new/suspects.json")}'
    written = json.loads(Path('new/suspects.json').read_text())
    assert {row['path'] for row in written['suspects']} == {'daisy/blüte 🌹.png', 'rose/late\x1b.png'}
    assert sorted(path.stat().st_mtime_ns for path in photos.rglob('*')) == before

    again = call('find_label_issues', photos, '--out', 'suspects.html', '--top', '1')
    assert again.code == 1
    lines = again.out.splitlines()
    assert lines[1] == 'and 1 more: --top, or --out FILE'
    assert lines[3].startswith('embedded    0 photos; ')
    assert 'daisy/blüte 🌹.png' in Path('suspects.html').read_text()


def test_unreadable_and_left_out_files_are_listed(photos, call):
    """Control characters in names reach no terminal."""
    done = call('find_label_issues', photos, '--out', 'none.csv')
    assert (done.code, done.out.splitlines()[0]) == (0, '0 of 36 labels doubtful, 0 photos unreadable')
    assert Path('none.csv').read_text().count('\n') == 1
    (photos / 'rose' / 'zero\x1b.jpg').touch()
    (photos / 'rose' / 'notes.txt').touch()
    done = call('find_label_issues', photos, '--out', 'x.json')
    assert (done.code, done.err) == (1, '')
    assert done.out.splitlines()[:3] == [
        'left out: rose/notes.txt (not an image)',
        r'unreadable: rose/zero\x1b.jpg (empty file)',
        '0 of 36 labels doubtful, 1 photos unreadable',
    ]
    assert json.loads(Path('x.json').read_text())['unreadable'][0]['path'] == 'rose/zero\x1b.jpg'


def test_unusable_input_is_one_line_and_writes_nothing(photos, call, monkeypatch, tmp_path):
    for path in (photos / 'rose').iterdir():
        if path.stem not in ('1', '2', '3', '4'):
            path.unlink()
    shutil.copy(photos / 'rose' / '1.png', photos / 'rose' / 'copy.png')
    error = call('find_label_issues', photos, '--out', 'x.csv').error
    assert "class 'rose': 4 readable photo(s), near-duplicates counted once, and 5 are needed" in error
    assert not Path('x.csv').exists()

    monkeypatch.setattr(label_issues, 'map_photos', None)  # the rest is found before photos are read
    (tmp_path / 'file').touch()
    assert 'no such folder' in call('find_label_issues', 'absent', '--out', 'x.csv').error
    assert 'lies in' in call('find_label_issues', photos, '--out', photos / 'x.csv').error
    assert 'is a file, not a folder' in call('find_label_issues', photos, '--cache', 'file').error
    for name in ('daisy', 'sunflower'):
        (photos / name).rename(tmp_path / name)
    assert "only one class, 'rose'" in call('find_label_issues', photos).error


def test_missing_weights_and_extras_name_the_command_that_gets_them(raw, call, monkeypatch):
    error = call('find_label_issues', raw).error
    assert 'mobilenet_v2.pth: no such file. Get it with: python tools/fetch_weights.py mobilenet_v2' in error
    monkeypatch.setattr('custom_modules.errors.find_spec', lambda name: None)
    assert 'pip install cleanlab scikit-learn' in call('find_label_issues', raw).error


def test_a_real_run_on_a_prepared_dataset(data: Path, random_weights: Path, call: Callable):
    done = call('find_label_issues', data, '--weights', random_weights, '--cache', 'c', '--out', 'x.json', '--seed', 1)
    assert done.code in (0, 1), done
    assert done.err == ''
    assert f'embedded    55 photos; the embeddings are in {Path("c/mobilenet_v2-")}' in done.out
    for row in json.loads(Path('x.json').read_text())['suspects']:
        assert (data / row['path']).is_file()
        assert row['label'] == row['path'].split('/')[1]
