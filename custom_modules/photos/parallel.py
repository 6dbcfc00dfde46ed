"""Applies a function to many files in parallel threads, in order."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from custom_modules.errors import InputError
from custom_modules.progress import StepProgress

Result = TypeVar('Result')

MAX_WORKERS = 64
_DEFAULT_WORKERS = 8  # the disk is the limit


def map_photos(
    read: Callable[[Path], Result],
    paths: Sequence[Path],
    workers: int | None = None,
    progress: StepProgress | None = None,
) -> list[Result]:
    """Calls ``read``, a function that raises nothing, with each path; the results are in their order.

    ``workers`` is the number of threads; None for one per core, 8 at most.

    Raises:
        InputError: There cannot be so many workers.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise InputError(f'--workers {workers}: must be 1 to {MAX_WORKERS}. Choose another number.')
    found: list[Result] = []
    pool = ThreadPoolExecutor(workers or min(cores(), _DEFAULT_WORKERS))
    try:
        for result in pool.map(read, paths):
            found.append(result)
            if progress:
                progress(len(found), len(paths))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C ends at once
    return found


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
