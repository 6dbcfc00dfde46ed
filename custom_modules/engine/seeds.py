"""The same training with several seeds, one after the other, each in a process and a work dir of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from custom_modules.errors import InputError


def train_seeds(command: Sequence[str], work_dir: Path, seeds: Sequence[int]) -> list[Path]:
    """Runs a training for each seed.

    Args:
        command: tools/train.py and its arguments; ``--seeds`` and ``--work-dir`` are added, and the last ones count.
        work_dir: Where ``seed_<seed>`` is made for each.
        seeds: The seeds.

    Returns:
        The work dir of each run.

    Raises:
        InputError: A seed is given twice, or a run failed; those after it were not started.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError(f'--seeds {" ".join(map(str, seeds))}: one of them stands there twice')
    folders = [work_dir / f'seed_{seed}' for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        print(f'seed {seed}: {folder}', flush=True)
        code = subprocess.run(
            [sys.executable, *command, '--seeds', str(seed), '--work-dir', str(folder)], check=False
        ).returncode
        if code:
            raise InputError(f'seed {seed} ended with exit code {code}; go on with the same command and --resume')
    return folders
