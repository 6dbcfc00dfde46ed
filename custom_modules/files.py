"""Files are written whole or not at all, here alone. What goes into one is the caller's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Lets ``write`` fill a file beside ``path`` and moves it into place, so that ``path`` never names a torn file.

    A file already at ``path`` stays until the new one is complete.
    """
    beside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with beside.open('wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the move must not leave an empty file under the final name
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
