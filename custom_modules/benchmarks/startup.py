"""Start-up: how long each tool takes to answer ``--help``, and a training to its first iteration."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.sides import ROOT
from custom_modules.benchmarks.time_to import follow_training
from custom_modules.benchmarks.training import Tell
from custom_modules.errors import InputError


def measure_help(rounds: int, tell: Tell) -> dict[str, list[float]]:
    """Seconds of ``--help`` by tool, a sample a round, and of the bare interpreter (``python``) beside them.

    Before the first round each is called once: what is read from the disk then is in the system's cache.
    """
    tools = sorted((ROOT / 'tools').glob('*.py'))
    commands = {'python': ['-c', ''], **{tool.stem: [str(tool), '--help'] for tool in tools}}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, arguments in commands.items():
            began = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            if done.returncode:
                raise InputError(f'{name} --help ended with {done.returncode}: {done.stderr.decode()[-200:]!r}')
            found[name] += [time.perf_counter() - began] if turn else []
    slowest = max(found, key=lambda name: min(found[name]))
    tell(f'--help: the slowest is {slowest} with {min(found[slowest]):.2f} s')
    return found


def measure_first_iteration(task: Mapping[str, Any], folder: Path, rounds: int, tell: Tell) -> list[float]:
    """Seconds from the start of ``tools/train.py`` to the log of its first iteration.

    Args:
        task: As for :func:`time_to.measure_time_to`.
        folder: Where the work dirs go.
        rounds: Samples.
        tell: Shows progress.
    """
    samples = []
    for number in range(rounds):
        options = [*task['options'], 'default_hooks.logger.interval=1']
        times: list[float] = []

        def take(record: dict, seconds: float, found: list = times) -> bool:
            found.append(seconds)
            return True

        run = follow_training({**task, 'options': options}, folder / f'start_{number}', [], take)
        if not times:
            raise InputError(f'{task["config"]}: ended before its first iteration; its output: {run["log"]}')
        samples += times
        tell(f'first iteration after {times[0]:.1f} s')
    return samples
