"""A function over many photos, on all cores and in order. What it reads of a photo is the business of its room."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from custom_modules.errors import InputError
from custom_modules.progress import StepProgress

Result = TypeVar('Result')

MAX_WORKERS = 61  # what Windows can wait for
_CHUNK = 16  # photos that a process reads at a time
_PHOTOS_WORTH_A_PROCESS = 500  # starting one takes as long as reading 300
_DEFAULT_WORKERS = 8  # each takes some 100 MB, and the disk is the limit


def map_photos(
    read: Callable[[Path], Result],
    paths: Sequence[Path],
    imports: Sequence[str],
    workers: int | None = None,
    progress: StepProgress | None = None,
) -> list[Result]:
    """Calls a function with each photo; memory does not grow with their number, but for what is returned.

    In processes: measured on two cores, threads take as long as one, for they wait for each other's interpreter lock.

    Args:
        read: What to call, of a module's top level; to raise nothing.
        paths: The photos.
        imports: Modules that ``read`` imports late; done once for all processes where that can be.
        workers: Number of processes; None for one per core, 8 at most, and none but this one for few photos.
        progress: Called now and then with the numbers of photos done and in all.

    Returns:
        What ``read`` returned, in the order of the paths.

    Raises:
        InputError: A process was killed.
    """
    from concurrent.futures import BrokenExecutor

    if workers is None:
        workers = min(cores(), _DEFAULT_WORKERS, 1 + len(paths) // _PHOTOS_WORTH_A_PROCESS)
    found: list[Result] = []
    mapped = nullcontext(map(read, paths)) if workers == 1 else _in_processes(read, paths, imports, workers)
    try:
        with _quiet(), mapped as results:
            for result in results:
                found.append(result)
                if progress and (len(found) % _CHUNK == 0 or len(found) == len(paths)):
                    progress(len(found), len(paths))
    except BrokenExecutor:
        raise InputError(
            f'{paths[len(found)]}, or one of the {2 * workers * _CHUNK} photos after it: a process was killed while '
            'reading it, out of memory or by a crash in a decoder; free memory, try --workers 1, or take it away'
        ) from None
    return found


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextmanager
def _in_processes(
    read: Callable[[Path], Result], paths: Sequence[Path], imports: Sequence[str], workers: int
) -> Iterator[Iterator[Result]]:
    """Gives the results in order; at its end no process is left."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Not fork: a progress bar runs in a thread. A fork server imports once for all, where there is one.
    context = multiprocessing.get_context('forkserver' if sys.platform == 'linux' else 'spawn')
    if sys.platform == 'linux':
        context.set_forkserver_preload(['cv2', *imports])
    pool = ProcessPoolExecutor(workers, context, _start_worker)
    try:
        with _interrupts_held():  # processes start here, and inherit that
            results = pool.map(read, paths, chunksize=_CHUNK)
        yield results
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C wait; a process that is just starting would answer it with a traceback.

    Blocked signals are inherited by what starts here. They may still reach another thread, of a numeric library for
    one, and Python answers in its main thread: so the handler waits too.
    """
    caught: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, 'pthread_sigmask') else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main:
            signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)
    warnings.simplefilter('ignore')


def _end_with_parent() -> None:
    """Ends this process with the one that started it: killed, that says nothing, and this one would wait forever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences OpenCV and Pillow, which speak of odd files on stderr; what is odd is reported, with the path."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)
