"""Measures the time from starting a training command to each validation, with its top-1 accuracy.

    python benchmarks/accuracy_over_time.py configs/flower_mobilenetv2_fast.py --seeds 0 1 2

Everything counts: imports, checks, loading weights, training, validation. Runs follow one another.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.files import check_folder, write_atomically

ROOT = Path(__file__).resolve().parents[1]
SCORE = 'val/accuracy/top1'  # the TensorBoard tag of configs/_base_/default_runtime.py


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to train, and where the results go."""
    parser = argparse.ArgumentParser(description='Measure the time from the command to each validation.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='e.g. configs/flower_mobilenetv2_fast.py')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='one run each (default: 0)')
    parser.add_argument('--data-root', metavar='DIR', help="the prepared dataset (default: each config's)")
    parser.add_argument('--work-dir', default='work_dirs/accuracy_over_time', metavar='DIR', help='a new folder')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write all validations as CSV')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Trains each config with each seed; prints mean, least and greatest value of each validation over the seeds."""
    args = parse_args(argv)
    if Path(args.work_dir).exists():
        raise InputError(f'{args.work_dir}: exists already. Name another --work-dir.')
    if args.out:
        check_folder(args.out.parent)
    rows: list[dict[str, Any]] = []
    for config in args.configs:
        for seed in args.seeds:
            work_dir = Path(args.work_dir) / Path(config).stem / f'seed_{seed}'
            rows += train(config, seed, work_dir, args.data_root)
    table = pd.DataFrame(rows)
    found = table.groupby(['config', 'step'], sort=False)[['seconds', 'top1']].agg(['count', 'mean', 'min', 'max'])
    print(found.to_string(float_format='{:.2f}'.format))
    if args.out:
        write_atomically(args.out, lambda file: table.to_csv(file, index=False))
        print(f'written     {args.out}')
    return 0


def train(config: str, seed: int, work_dir: Path, data_root: str | None) -> list[dict[str, Any]]:
    """Runs ``tools/train.py`` as a user does, with its output in a ``.log`` beside the work dir.

    Returns:
        One row per validation: ``config``, ``seed``, ``step`` (as logged), ``seconds`` since the command was started,
        ``top1`` in percent.
    """
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), config, '--work-dir', str(work_dir)]
    command += ['--seeds', str(seed), *(['--data-root', data_root] if data_root else [])]
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    log = work_dir.with_suffix('.log')
    with log.open('wb') as output:
        started = time.time()
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        raise InputError(f'{config}, seed {seed}: training ended with exit code {code}. Its output: {log}')
    rows = []
    for event in validations(work_dir):
        seconds = event.wall_time - started
        run = {'config': Path(config).stem, 'seed': seed}
        rows.append({**run, 'step': event.step, 'seconds': seconds, 'top1': event.value})
        print(f'{config}, seed {seed}: {event.value:.2f} % after {seconds:.0f} s', file=sys.stderr)
    return rows


def validations(work_dir: Path) -> list[Any]:
    """The validation scores of a run as TensorBoard's events, which carry the time when they were logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = []
    for folder in sorted({file.parent for file in work_dir.rglob('events.out.tfevents.*')}):
        events = EventAccumulator(str(folder)).Reload()
        if SCORE in events.Tags()['scalars']:
            found += events.Scalars(SCORE)
    if not found:
        raise InputError(f'{work_dir}: no {SCORE} was logged. Use a config that validates and logs to TensorBoard.')
    return found


if __name__ == '__main__':
    sys.exit(run_tool(main))
