"""A progress bar for the terminal, and the speed in one line."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

StepProgress = Callable[[int, int], None]  # photos done, photos in all
Progress = Callable[[str, int, int], None]  # what is done to the photos, photos done, photos in all


def speed(photos: int, seconds: float) -> str:
    """Returns one line: how long photos took."""
    return f'{photos} photos in {seconds:.1f} s: {photos / max(seconds, 1e-9):.0f} photos/s'


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Shows a bar on a terminal that rich is installed for, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:  # where predictions are made from an exported model, with three packages
        yield None
        return

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('')

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        yield show
