"""The same training with several seeds, one after the other, each in a process and a work dir of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from custom_modules.engine.stop_signals import Stopped, stop_signal, stop_signals_caught
from custom_modules.errors import InputError


def seed_problems(seeds: Sequence[int]) -> list[str]:
    """A line for each thing that is wrong with the seeds of several runs: what NumPy does not take, and copies."""
    problems = [f'--seeds {seed}: must be 0 to {2**32 - 1}' for seed in seeds if not 0 <= seed < 2**32]
    if len(set(seeds)) < len(seeds):
        problems.append(f'--seeds {" ".join(map(str, seeds))}: one of them stands there twice')
    return problems


def train_seeds(command: Sequence[str], work_dir: Path, seeds: Sequence[int]) -> list[Path]:
    """Runs a training for each seed.

    Args:
        command: tools/train.py and its arguments; ``--seeds`` and ``--work-dir`` are added, and the last ones count.
        work_dir: Where ``seed_<seed>`` is made for each.
        seeds: The seeds.

    Returns:
        The work dir of each run.

    Raises:
        InputError: A run failed; those after it were not started.
        Stopped: A signal asked for it, and was handed on to the run.
    """
    folders = [work_dir / f'seed_{seed}' for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        print(f'seed {seed}: {folder}', flush=True)
        code = run_to_its_end([sys.executable, *command, '--seeds', str(seed), '--work-dir', str(folder)])
        if stop_signal():
            raise Stopped(stop_signal(), f'in the run of seed {seed}')
        if code:
            again = 'correct that' if code == 2 else 'go on with the same command and --resume'
            raise InputError(f'seed {seed} ended with exit code {code}; {again}')
    return folders


def run_to_its_end(command: Sequence[str]) -> int:
    """Runs a command, which gets the signals to stop too, and the time to save; returns its exit code."""
    with stop_signals_caught(), subprocess.Popen(command) as process:
        told = False
        while True:
            try:
                return process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if stop_signal() and not told:
                    process.send_signal(stop_signal())
                    told = True
