"""Notes signals that ask a run to stop, so that it can end where its state is whole. Nothing is saved here."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Ctrl-C; slurm, docker, systemd and torchrun; a closed terminal, which Windows does not tell of.
STOP_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]

# slurm tells both torchrun and its workers, and torchrun its workers again: that is one request, not two.
ONE_REQUEST = 1.0  # seconds

_caught: list[tuple[int, float]] = []


class Stopped(Exception):
    """A training that ended because a signal asked for it, with its state in a checkpoint.

    Args:
        number: The signal.
        where: How far the training is and where its state is; one line.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name} {where}')
        self.exit_code = 128 + number  # what a shell says of a process that the signal ended


@contextmanager
def stop_signals_caught() -> Iterator[None]:
    """Notes the first signal to stop for :func:`stop_signal`; a later one ends the process at once, as ever."""
    _caught.clear()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            # One that is ignored from outside (nohup, a script's background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _caught:
        if now - _caught[0][1] > ONE_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return
    _caught.append((number, now))
    if os.environ.get('LOCAL_RANK', '0') == '0':
        with suppress(OSError):  # the terminal may be gone; print() could meet itself in the midst of a line
            os.write(
                2, f'\n{signal.Signals(number).name}: ending after this step; once more to end at once\n'.encode()
            )


def stop_signal() -> int:
    """The signal that asked the run to stop, or 0."""
    return _caught[0][0] if _caught else 0


class ShieldedWorker:
    """Initializes a DataLoader's worker so that it outlives the signals to stop, and the run can end in good order.

    They reach workers too: Ctrl-C the terminal's whole process group, a slurm job's end all of its processes. A worker
    that dies of one makes the DataLoader raise in the main process, wherever that is. The main process ends the
    workers; without it they end by themselves.

    Args:
        worker_init: What initializes a worker besides.
    """

    def __init__(self, worker_init: Callable[[int], Any] | None) -> None:
        self.worker_init = worker_init

    def __call__(self, worker_id: int) -> None:
        """Runs in the worker."""
        for number in STOP_SIGNALS:
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS and Windows
            # By SIGTERM the main process ends its workers as well: it is obeyed from there alone.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_obey_parent, daemon=True).start()
        if self.worker_init is not None:
            self.worker_init(worker_id)


def _obey_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
