"""Time and memory of the data tools grow with the number of photos; figures are printed.

python -m pytest -m slow tests/tools/test_scale.py

compares 1 000 small photos with 10 000; SCALE_PHOTOS=100000 before it, 10 000 with 100 000.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from custom_modules.photos.parallel import cores, map_photos

ROOT = Path(__file__).parents[2]
PHOTOS = int(os.environ.get('SCALE_PHOTOS', 10_000))
MAX_GROWTH = 11  # for ten times the photos
MAX_MEMORY = 1.5e9  # bytes, of all processes of a tool together
TICKS = os.sysconf('SC_CLK_TCK')
TOOLS = {
    'split_dataset': ('{photos}', '{out}', '--mode', 'hardlink'),
    'check_dataset': ('{photos}', '--out', '{out}.html'),
}


class Cost(NamedTuple):
    """Seconds by the clock, processor seconds and peak memory in bytes, shared pages counted once."""

    seconds: float
    cpu: float
    memory: float


def draw_photo(path: Path) -> None:
    """Smooth noise of 96 to 128 pixels: two of them are no near-duplicates."""
    chance = np.random.default_rng(int(path.stem))
    width, height = (int(edge) for edge in chance.integers(96, 129, 2))
    spots = chance.integers(0, 256, (9, 12, 3), np.uint8)
    path.write_bytes(cv2.imencode('.jpg', cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC))[1])


def draw_photos(folder: Path, count: int) -> None:
    paths = [folder / f'class{number % 5}' / f'{number:06}.jpg' for number in range(count)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True)
    map_photos(draw_photo, paths, (), cores())


def session(leader: int) -> dict[int, float]:
    """Processor seconds of each living process of a session."""
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


def memory(process: int) -> int:
    """Bytes of a process, with its share of the memory in common with others."""
    try:
        lines = Path(f'/proc/{process}/smaps_rollup').read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))


def run(tool: str, photos: Path, out: Path) -> Cost:
    arguments = [argument.format(photos=photos, out=out) for argument in TOOLS[tool]]
    cpu: dict[int, float] = {}
    peak, start = 0, time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools' / f'{tool}.py', *arguments],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        alive = session(process.pid)
        cpu.update(alive)
        peak = max(peak, sum(map(memory, alive)))
        time.sleep(0.1)
    assert process.returncode in (0, 1)
    return Cost(time.perf_counter() - start, sum(cpu.values()), peak)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='/proc has the cost of processes')
def test_cost_grows_with_the_photos(tmp_path, capsys):
    for count in (PHOTOS // 10, PHOTOS):
        draw_photos(tmp_path / str(count), count)
    for tool in TOOLS:
        few, many = (run(tool, tmp_path / str(n), tmp_path / f'{tool} {n}') for n in (PHOTOS // 10, PHOTOS))
        with capsys.disabled():
            print(
                f'\n{tool}: {PHOTOS} photos in {many.seconds:.1f} s, {PHOTOS / many.seconds:.0f} photos/s, '
                f'{many.cpu / many.seconds:.2f} cores busy, {many.memory / 1e6:.0f} MB; of a tenth of them '
                f'{many.seconds / few.seconds:.1f} times the time, {many.cpu / few.cpu:.1f} the processor'
            )
        assert many.memory < MAX_MEMORY
        growth = min(many.seconds / few.seconds, many.cpu / few.cpu)  # other programs disturb the two differently
        assert growth <= MAX_GROWTH
        assert cores() == 1 or many.cpu > 1.2 * many.seconds, 'more than one core works'
