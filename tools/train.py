"""Trains a config: ``python tools/train.py configs/flower_mobilenetv2.py``; ``--demo`` needs no photos or weights."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Upstream's flags and this project's own."""
    parser = argparse.ArgumentParser(description='Train a flower classifier.')
    add = parser.add_argument
    add('config', help='what to train, e.g. configs/flower_mobilenetv2.py')
    add('--demo', action='store_true', help='train a few minutes on drawn, synthetic flowers instead')
    add('--probe', action='store_true', help='fit a linear probe: only the head, in one pass over the photos')
    add('--data-root', metavar='DIR', help='the prepared dataset, for all loaders at once')
    add('--work-dir', metavar='DIR', help='where the run writes; default: work_dirs/<config name>')
    add('--seeds', nargs='+', type=int, metavar='SEED', help='one run per seed in its own work dir, and their mean')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or from the newest one in the work dir',
    )
    add('--dry-run', action='store_true', help='check, show the effective settings, time ten steps; stop')
    add(
        '--save-every-minutes',
        type=float,
        metavar='N',
        help='also save in the middle of an epoch (default: 10; 0: only when Ctrl-C or SIGTERM ends the run)',
    )
    add('--amp', action='store_true', help='automatic mixed precision (needs an accelerator)')
    add('--no-validate', action='store_true', help='train without validating')
    add('--class-weights', choices=['balanced'], help='weight the loss by the training photos of each class')
    add('--auto-scale-lr', action='store_true', help='scale the lr to the actual batch size')
    add(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='override settings, e.g. train_cfg.max_epochs=5',
    )
    add('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    add('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.demo and args.data_root:
        parser.error('--demo draws its own flowers: leave out --data-root')
    for flag in ('--demo', '--resume', '--no-validate', '--dry-run', '--save-every-minutes', '--class-weights'):
        given = vars(args)[flag[2:].replace('-', '_')]
        if args.probe and given is not None and given is not False:  # 0 minutes are given, too
            parser.error(f'--probe: fits the head in one validated pass over your photos; leave out {flag}')
    if args.seeds and len(args.seeds) > 1:
        for given, flag in ((args.dry_run, '--dry-run'), (args.no_validate, '--no-validate')):
            if given:
                parser.error(
                    f'--seeds: averages the scores, which {flag} does not give; name one seed, or leave it out'
                )
        if args.launcher != 'none':
            parser.error('--seeds: under a launcher, start one seed at a time')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit code, which for ``--dry-run`` is 1 if there are warnings."""
    args = vars(parse_args(argv))
    command = [__file__, *(sys.argv[1:] if argv is None else argv)]
    del args['local_rank']
    seeds = args.pop('seeds') or [None]
    if len(seeds) > 1:
        from custom_modules.evaluation.seed_runs import train_seeds

        return train_seeds(command, seeds, args['config'], args['work_dir'], args['cfg_options'], args['demo'])

    from custom_modules.engine.training import train

    return train(**args, seed=seeds[0], command=command)


if __name__ == '__main__':
    sys.exit(run_tool(main))
