"""Applies a function to many files in parallel processes, in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import cv2

from custom_modules.errors import InputError
from custom_modules.progress import StepProgress
from custom_modules.upstream import quieten

Result = TypeVar('Result')

MAX_WORKERS = 61  # Windows can wait for no more
_CHUNK = 16  # files that a process is given at a time
_FILES_PER_WORKER = 500  # starting a process takes as long as reading 300 files
_DEFAULT_WORKERS = 8  # each takes some 100 MB, and the disk is the limit


def map_photos(
    read: Callable[[Path], Result],
    paths: Sequence[Path],
    workers: int | None = None,
    progress: StepProgress | None = None,
) -> list[Result]:
    """Calls ``read``, a picklable function that raises nothing, with each path; the results are in their order.

    ``workers`` is the number of processes; None for one per core, 8 at most, and only this process for few files.

    Raises:
        InputError: There cannot be so many workers, or a process was killed.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise InputError(f'--workers {workers}: must be 1 to {MAX_WORKERS}. Choose another number.')
    workers = workers or min(cores(), _DEFAULT_WORKERS, 1 + len(paths) // _FILES_PER_WORKER)
    found: list[Result] = []
    with ExitStack() as stack:
        results: Iterable[Result] = map(read, paths)
        if workers > 1:
            # "fork" is unsafe beside the thread of a progress bar.
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)
            stack.callback(pool.shutdown, cancel_futures=True)
            with _interrupts_blocked():
                results = pool.map(read, paths, chunksize=_CHUNK)
        try:
            for result in results:
                found.append(result)
                if progress and (len(found) % _CHUNK == 0 or len(found) == len(paths)):
                    progress(len(found), len(paths))
        except BrokenExecutor:
            raise InputError(
                f'{paths[len(found)]}, or one of the {2 * workers * _CHUNK} files after it: a process was killed '
                'while reading it, without memory or by a crash in a decoder. Try --workers 1, or remove the file.'
            ) from None
    return found


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile never get SIGINT, so that Ctrl-C prints no traceback of theirs."""
    if sys.platform == 'win32':
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker() -> None:
    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # this process ends with the pool
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _exit_with_parent() -> None:
    """Ends this process when its parent was killed, which would leave it waiting forever."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]  # only None in the main process
    os._exit(1)
