"""A function over many files: order, progress, number of processes, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom_modules.errors import InputError
from custom_modules.photos.parallel import map_photos

ROOT = Path(__file__).parents[2]
PATHS = [Path(str(number)) for number in range(50)]
ENDLESS = """
import signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from custom_modules.photos.parallel import map_photos
from custom_modules.errors import run_tool

def read(path):
    print('reading', flush=True)
    time.sleep(0.01)

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background
    sys.exit(run_tool(lambda: map_photos(read, [Path('a')] * 100_000, 2)))
"""


def number_and_process(path: Path) -> tuple[int, int]:
    return int(path.name), os.getpid()


def die_at_20(path: Path) -> None:
    if path.name == '20':
        os._exit(1)  # as a decoder that crashes does


@pytest.mark.parametrize('workers', [1, 2])
def test_order_progress_and_processes(workers):
    calls = []
    found = map_photos(number_and_process, PATHS, workers, lambda *call: calls.append(call))
    assert [number for number, _ in found] == list(range(50))
    assert calls == [(16, 50), (32, 50), (48, 50), (50, 50)]
    processes = {process for _, process in found}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert len(processes) <= workers
    assert {process for _, process in map_photos(number_and_process, PATHS)} == {os.getpid()}  # few files


def test_a_killed_process_is_reported_with_the_files_it_may_have_read():
    with pytest.raises(InputError, match=r'^(0|16), or one of the 64 files after it: a process was killed'):
        map_photos(die_at_20, PATHS, 2)


def processes_of(session: int) -> set[int]:
    found = set()
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            state, _, _, its_session = (folder / 'stat').read_text().rpartition(')')[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != 'Z':
            found.add(int(folder.name))
    return found


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='/proc lists the processes that are left')
@pytest.mark.parametrize(
    ('how', 'when'), [(signal.SIGINT, 'starting'), (signal.SIGINT, 'reading'), (signal.SIGKILL, 'reading')]
)
def test_no_process_outlives_the_one_that_started_it(tmp_path, how, when):
    script = tmp_path / 'endless.py'
    script.write_text(ENDLESS.format(root=str(ROOT)))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    if when == 'reading':
        process.stdout.readline()
    else:
        while len(processes_of(process.pid)) < 3:  # this one, the resource tracker and a worker
            time.sleep(0.01)
    if how == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, how)  # as a terminal does, to all of them
    _, err = process.communicate(timeout=60)  # which waits for every process that holds the pipes
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert len(err.splitlines()) == 1, err
    assert 'Traceback' not in err
    deadline = time.monotonic() + 20
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(process.pid) == set()
