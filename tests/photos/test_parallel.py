"""A function over many files: order, progress, number of threads, and Ctrl-C."""

import threading
from pathlib import Path

import pytest

from custom_modules.errors import InputError
from custom_modules.photos.parallel import map_photos

PATHS = [Path(str(number)) for number in range(50)]


@pytest.mark.parametrize('workers', [1, 2, None])
def test_order_progress_and_threads(workers):
    calls = []

    def number_and_thread(path):
        return int(path.name), threading.get_ident()

    found = map_photos(number_and_thread, PATHS, workers, lambda *call: calls.append(call))
    assert [number for number, _ in found] == list(range(50))
    assert calls == [(done, 50) for done in range(1, 51)]
    assert len({thread for _, thread in found}) <= (workers or 8)


def test_an_impossible_number_of_threads_is_refused():
    with pytest.raises(InputError, match='--workers 0: must be 1 to 64'):
        map_photos(int, PATHS, 0)


def test_an_interrupt_cancels_the_files_that_wait():
    read = []

    def interrupt(done, total):
        raise KeyboardInterrupt

    blocked = threading.Event()

    def first_only(path):
        read.append(path)
        if path != PATHS[0]:
            blocked.wait(0.1)

    with pytest.raises(KeyboardInterrupt):
        map_photos(first_only, PATHS, 1, interrupt)
    assert len(read) <= 3
