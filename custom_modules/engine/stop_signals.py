"""Signals that ask a run to stop: noted, so that it can save its state first, and passed on to other processes."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Ctrl-C; slurm, docker, systemd and torchrun; a closed terminal, of which Windows has no signal.
STOP_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]

# slurm signals both torchrun and its workers, and torchrun its workers again: that is one request, not two.
ONE_REQUEST = 1.0  # seconds

_caught: list[tuple[int, float]] = []  # the first signal and its time


class Stopped(Exception):
    """A training that ended because of signal ``number``; ``where`` is one line on its progress and its checkpoint."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name} {where}')
        self.exit_code = 128 + number  # as a shell reports a process that the signal ended


@contextmanager
def stop_signals_caught() -> Iterator[None]:
    """Notes the first signal to stop for :func:`stop_signal`; a later one ends the process at once."""
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
    if not _caught:
        _caught.append((number, now))
        if os.environ.get('LOCAL_RANK', '0') == '0':
            message = f'\n{signal.Signals(number).name}: ending after this step; once more to end at once\n'
            with suppress(OSError):  # the terminal may be gone; print() could interrupt itself within a line
                os.write(2, message.encode())
    elif now - _caught[0][1] > ONE_REQUEST:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def stop_signal() -> int:
    """The signal that asked the run to stop, or 0."""
    return _caught[0][0] if _caught else 0


def run_process(command: Sequence[str]) -> int:
    """Runs a command and passes a signal to stop on to it, so that it can save; returns its exit code."""
    with stop_signals_caught(), subprocess.Popen(command) as process:
        while process.poll() is None and not stop_signal():
            time.sleep(0.1)
        if stop_signal():
            process.send_signal(stop_signal())
        return process.wait()


def shield_worker(worker_init: Callable[[int], Any] | None, worker_id: int) -> None:
    """Initializes a DataLoader's worker that ignores signals to stop, unless they come from the main process.

    A terminal and slurm signal workers too. The death of one would raise in the main process before it has saved.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()
    if worker_init is not None:
        worker_init(worker_id)


def _obey_parent() -> None:
    """Ends this worker at the main process's SIGTERM, by which multiprocessing ends its children at exit."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
