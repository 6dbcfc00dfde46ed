"""Applies a function to many files in parallel processes, in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

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
    imports: Sequence[str],
    workers: int | None = None,
    progress: StepProgress | None = None,
) -> list[Result]:
    """Calls ``read``, a picklable function that raises nothing, with each path; the results are in their order.

    The modules in ``imports``, which ``read`` imports late, are imported once for all processes on Linux. ``workers``
    is the number of processes; None for one per core, 8 at most, and only this process for few files.

    Raises:
        InputError: There cannot be so many workers, or a process was killed.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise InputError(f'--workers {workers}: must be 1 to {MAX_WORKERS}')
    workers = workers or min(cores(), _DEFAULT_WORKERS, 1 + len(paths) // _FILES_PER_WORKER)
    found: list[Result] = []
    with ExitStack() as stack:
        results: Iterable[Result] = map(read, paths)
        if workers > 1:
            # Not "fork", which is unsafe beside the thread of a progress bar.
            context = multiprocessing.get_context('forkserver' if sys.platform == 'linux' else 'spawn')
            context.set_forkserver_preload(['cv2', *imports])
            pool = ProcessPoolExecutor(workers, context, _start_worker)
            stack.callback(pool.shutdown, cancel_futures=True)
            results = _without_interrupts(lambda: pool.map(read, paths, chunksize=_CHUNK))
        try:
            for result in results:
                found.append(result)
                if progress and (len(found) % _CHUNK == 0 or len(found) == len(paths)):
                    progress(len(found), len(paths))
        except BrokenExecutor:
            raise InputError(
                f'{paths[len(found)]}, or one of the {2 * workers * _CHUNK} files after it: a process was killed '
                'while reading it, without memory or by a crash in a decoder. Try --workers 1, or remove the file'
            ) from None
    return found


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _without_interrupts(start: Callable[[], Iterable[Result]]) -> Iterable[Result]:
    """Starts processes that inherit a mask of SIGINT, so that Ctrl-C meanwhile prints no traceback of theirs."""
    if sys.platform == 'win32':
        return start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker() -> None:
    import cv2

    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # this process ends with the pool
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _exit_with_parent() -> None:
    """Ends this process when its parent was killed, which would leave it waiting forever."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]  # only None in the main process
    os._exit(1)
