"""Trains a config with several seeds and averages their scores."""

import sys
from collections.abc import Sequence
from pathlib import Path

from custom_modules.engine.resume import resume_command
from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.engine.stop_signals import run_process, stop_signal
from custom_modules.engine.training import seed_problems
from custom_modules.errors import InputError, refuse
from custom_modules.evaluation.run_comparison import compare_runs
from custom_modules.evaluation.trained_runs import read_trained_run


def train_seeds(
    command: Sequence[str],
    seeds: Sequence[int],
    config: str,
    work_dir: str | None,
    cfg_options: list[str] | None,
    demo: bool = False,
) -> int:
    """Trains once for each seed, in a process and the work dir ``<work_dir>/seed_<seed>``, and prints their table.

    ``command`` is tools/train.py and its arguments, without ``--seeds`` and ``--work-dir``.

    Returns:
        The exit code: 0, or 128 + the number of the signal that stopped a run.

    Raises:
        InputError: The seeds or the config cannot be used, or a run failed; those after it were not started.
    """
    refuse(seed_problems(seeds))
    folder = Path(read_config(config, parse_options(cfg_options), None, work_dir, demo, quiet=True).work_dir)
    folders = [folder / f'seed_{seed}' for seed in seeds]
    for seed, run in zip(seeds, folders, strict=True):
        print(f'seed {seed}: {run}', flush=True)
        code = run_process([sys.executable, *command, '--seeds', str(seed), '--work-dir', str(run)])
        if stop_signal():
            print(f'stopped in the run of seed {seed}\ngo on with: {resume_command(command, "none")}')
            return 128 + stop_signal()
        if code:
            again = 'Correct that' if code == 2 else 'Go on with the same command and --resume'
            raise InputError(f'seed {seed} ended with exit code {code}. {again}.')
    print(compare_runs([read_trained_run(run) for run in folders]).markdown, end='')
    return 0
