"""Processes that measure when told, in turns, and what memory they take: the parent's end. What is measured is theirs.

Each side has a process of its own, so that threads, memory and its allocator do not mix; while it waits for its turn
it only blocks on a pipe. Requests and replies are lines of JSON; what else the process prints goes into a log.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError

ROOT = Path(__file__).parents[2]
POLL = 0.5  # seconds between two looks at the memory


class Side:
    """A process that does one job in turns.

    Args:
        job: A name of :data:`custom_modules.benchmarks.side_process.JOBS`.
        task: What the job needs to know; plain data.
        folder: Where its log and work dir go.
        environment: Variables for it.
    """

    def __init__(self, job: str, task: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.log = folder / 'log.txt'
        with self.log.open('wb') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'custom_modules.benchmarks.side_process'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding='utf-8',
                env={**os.environ, **environment, 'PYTHONPATH': str(ROOT)},
                start_new_session=True,
            )
        self._memory = MemoryWatch(self._process.pid)
        self.send(job=job, task={**task, 'folder': str(folder)})

    def send(self, **request: Any) -> None:
        """Hands over a request."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:  # it has died; receive() says of what
            pass

    def receive(self) -> dict[str, Any]:
        """Waits for the reply to a request.

        Raises:
            InputError: The process says what is wrong, or died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f'a measuring process ended early ({self._process.wait()}); its output: {self.log}')
        reply = json.loads(line)
        if 'problems' in reply:
            raise InputError(*reply['problems'])
        return reply

    def ask(self, **request: Any) -> dict[str, Any]:
        """The reply to a request."""
        self.send(**request)
        return self.receive()

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that the process and its children took together, None where the system does not tell."""
        return self._memory.peak or None

    def close(self) -> None:
        """Ends the process and its children."""
        self._memory.stop()
        end(self._process)


@contextmanager
def open_sides(*arguments: tuple[str, Mapping[str, Any], Path, Mapping[str, str]]) -> Iterator[list[Side]]:
    """Sides made of each tuple of :class:`Side`'s arguments, which are ended whatever happens."""
    sides: list[Side] = []
    try:
        for each in arguments:
            sides.append(Side(*each))
        yield sides
    finally:
        for side in sides:
            side.close()


def environment_of(device: str, threads: int) -> dict[str, str]:
    """Variables for a process that computes on ``device`` (``'cpu'`` or ``'cuda'``) with so many threads."""
    hidden = {'CUDA_VISIBLE_DEVICES': ''} if device == 'cpu' else {}
    return {'OMP_NUM_THREADS': str(threads), **hidden}


def end(process: subprocess.Popen) -> None:
    """Ends a process that leads a session, and all that it has started."""
    members = family(process.pid)
    process.kill()
    for member in members:
        try:
            os.kill(member, 9)
        except OSError:
            continue
    process.wait()
    until = time.monotonic() + 10
    while memory(members) and time.monotonic() < until:  # what is left must not disturb the next measurement
        time.sleep(0.05)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue


def family(leader: int) -> list[int]:
    """A process, those of the session that it leads, and their children; only itself where /proc does not tell."""
    parents, found = {}, {leader}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        if int(fields[3]) == leader:
            found.add(int(folder.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def memory(processes: Sequence[int]) -> int:
    """Bytes that processes take together, shared pages counted once; 0 where /proc does not tell."""
    total = 0
    for process in processes:
        try:
            lines = Path(f'/proc/{process}/smaps_rollup').read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))
    return total


class MemoryWatch:
    """Looks at the memory of a process and its children now and then, from a thread.

    Attributes:
        peak: The most that was seen, in bytes.
    """

    def __init__(self, leader: int) -> None:
        self.peak = 0
        self._leader = leader
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        pause = POLL
        while not self._stopped.wait(pause):
            began = time.perf_counter()
            self.peak = max(self.peak, memory(family(self._leader)))
            # The kernel walks all pages of a process for it, a tenth of a second for gigabytes, and holds it up.
            pause = max(POLL, 100 * (time.perf_counter() - began))

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        self._thread.join()
