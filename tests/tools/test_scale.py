"""The time of the data tools grows with the number of photos; figures are printed.

python -m pytest -m slow tests/tools/test_scale.py

compares 1 000 small photos with 10 000; SCALE_PHOTOS=100000 before it, 10 000 with 100 000.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from custom_modules.photos.parallel import cores, map_photos

ROOT = Path(__file__).parents[2]
PHOTOS = int(os.environ.get('SCALE_PHOTOS', 10_000))
MAX_GROWTH = 11  # for ten times the photos


def draw_photo(path: Path) -> None:
    """Smooth noise of 96 to 128 pixels: two of them are no near-duplicates."""
    chance = np.random.default_rng(int(path.stem))
    width, height = (int(edge) for edge in chance.integers(96, 129, 2))
    spots = chance.integers(0, 256, (9, 12, 3), np.uint8)
    path.write_bytes(cv2.imencode('.jpg', cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC))[1])


def draw_photos(folder: Path, count: int) -> Path:
    paths = [folder / f'class{number % 5}' / f'{number:06}.jpg' for number in range(count)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True)
    map_photos(draw_photo, paths, (), cores())
    return folder


@pytest.mark.slow
def test_time_grows_with_the_photos(tmp_path, capsys):
    few, many = (draw_photos(tmp_path / str(count), count) for count in (PHOTOS // 10, PHOTOS))
    for tool, options in (('split_dataset', ['--mode', 'hardlink']), ('check_dataset', ['--crop', '64'])):
        seconds = []
        for photos in (few, many):
            out = [tmp_path / f'out {photos.name}'] if tool == 'split_dataset' else []
            start = time.perf_counter()
            done = subprocess.run([sys.executable, ROOT / 'tools' / f'{tool}.py', photos, *out, *options])
            seconds.append(time.perf_counter() - start)
            assert done.returncode in (0, 1)
        with capsys.disabled():
            print(f'\n{tool}: {PHOTOS} photos in {seconds[1]:.1f} s, a tenth of them in {seconds[0]:.1f} s')
        assert seconds[1] <= MAX_GROWTH * seconds[0]
