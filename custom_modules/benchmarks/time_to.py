"""Time to a validation score: ``tools/train.py`` as a user starts it, its log followed from outside by one clock."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.sides import ROOT, MemoryWatch, end, environment_of
from custom_modules.benchmarks.summaries import reached
from custom_modules.benchmarks.training import Tell

POLL = 0.1  # seconds between two looks at the log: the resolution of every time
SCORES = ('accuracy/top1', 'val/accuracy/top1')


def measure_time_to(
    task: Mapping[str, Any], folder: Path, seeds: Sequence[int], levels: Sequence[float], to_end: bool, tell: Tell
) -> list[dict[str, Any]]:
    """Trains with each seed until the highest level is reached, or to the end.

    Args:
        task: ``config``, ``options``, ``data_root``, ``device``, ``threads``.
        folder: Where the work dirs go.
        seeds: The seeds.
        levels: Validation top-1, in percent.
        to_end: Whether a run goes on after the highest level.
        tell: Shows progress.

    Returns:
        Of each seed ``validations`` (``seconds`` since the command's start, ``top1`` in percent), ``seconds`` in all,
        ``peak_bytes`` of all its processes, and ``ended``: ``'reached'``, or the exit code.
    """
    runs = []
    highest = max(levels)
    for seed in seeds:
        validations: list[dict[str, float]] = []

        def take(record: dict, seconds: float, seed: int = seed, found: list = validations) -> bool:
            score = next((record[key] for key in SCORES if key in record), None)
            if score is None:
                return False
            found.append({'seconds': seconds, 'top1': score})
            tell(f'seed {seed}: {score:.2f} % after {seconds:.0f} s')
            return score >= highest and not to_end

        run = follow_training(task, folder / f'seed_{seed}', ['--seeds', str(seed)], take)
        runs.append({'seed': seed, 'validations': validations, **run})
        if run['ended'] not in ('reached', 0):
            tell(f'seed {seed}: failed, exit code {run["ended"]}; its output: {run["log"]}')
        got = ', '.join(
            f'{level:g} % {f"after {when:.0f} s" if when is not None else "not reached"}'
            for level, when in reached(validations, levels).items()
        )
        tell(f'seed {seed}: {got}')
    return runs


def follow_training(
    task: Mapping[str, Any], folder: Path, arguments: Sequence[str], take: Callable[[dict, float], bool]
) -> dict[str, Any]:
    """Runs ``tools/train.py`` into ``folder / 'run'`` and hands each record of its log on, with the time it came.

    Args:
        task: As for :func:`measure_time_to`.
        folder: Is made.
        arguments: More of the command.
        take: Gets a record and the seconds since the start; true ends the training.

    Returns:
        ``seconds``, ``peak_bytes``, ``ended``, ``log``.
    """
    folder.mkdir(parents=True)
    work_dir, log = folder / 'run', folder / 'log.txt'
    # fmt: off
    command = [
        sys.executable, str(ROOT / 'tools' / 'train.py'), task['config'], '--work-dir', str(work_dir),
        *(['--data-root', task['data_root']] if task['data_root'] else []), *arguments,
        *(['--cfg-options', *task['options']] if task['options'] else []),
    ]
    # fmt: on
    environment = {**os.environ, **environment_of(task['device'], task['threads'])}
    began = time.perf_counter()
    with log.open('wb') as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    watch = MemoryWatch(process.pid)
    try:
        for record in follow_scalars(work_dir, process):
            if take(record, time.perf_counter() - began):
                ended: str | int = 'reached'
                break
        else:
            ended = process.wait()
        seconds = time.perf_counter() - began
    finally:
        watch.stop()
        end(process)
    return {'seconds': seconds, 'peak_bytes': watch.peak or None, 'ended': ended, 'log': str(log)}


def follow_scalars(work_dir: Path, process: subprocess.Popen) -> Iterator[dict]:
    """The records that a run writes into its scalars file, each when it is there, until the process has ended."""
    read = 0
    while True:
        over = process.poll() is not None  # asked before the last look
        for file in work_dir.glob('*/vis_data/scalars.json'):
            content = file.read_bytes()
            whole = content.rfind(b'\n') + 1
            lines, read = content[read:whole].splitlines(), max(read, whole)
            for line in lines:
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record
        if over:
            return
        time.sleep(POLL)
