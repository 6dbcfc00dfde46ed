"""Compares configs by cross-validation: ``python tools/cross_validate.py configs/a.py configs/b.py``.

Trains each config on each fold and seed, one run after another. The weights of the last epoch predict the photos of
the fold, which that run did not train on. All predictions are in one table, for tools/compare.py.
After a stop, the same command continues; finished runs are not repeated.
Exit codes: 0 done, 1 some runs failed, 2 unusable input or arguments.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import command_line


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The configs, the dataset, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='+', metavar='CONFIG', help='the configs; the first is the baseline of the comparison')
    add('--data-root', metavar='DIR', help='a dataset prepared with --folds')
    add('--folds', nargs='+', type=int, metavar='K', help='some of its folds (default: all)')
    add('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='default: 0')
    folder = Path('work_dirs/cross_validation')
    add('--work-dir', type=Path, default=folder, metavar='DIR', help='folder of the runs (default: %(default)s)')
    add('--out', type=Path, metavar='FILE.csv', help='the table (default: predictions.csv in the folder of the runs)')
    add('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE', help='settings for all runs')
    args = parser.parse_args(argv)
    args.out = args.out or args.work_dir / 'predictions.csv'
    if args.out.suffix != '.csv':
        parser.error(f'--out {args.out}: the name must end in .csv')
    set_here = ('randomness.seed', *(f'{subset}_dataloader.dataset.ann_file' for subset in ('train', 'val', 'test')))
    if named := [option for option in args.cfg_options if option.partition('=')[0] in set_here]:
        parser.error(f'--cfg-options {named[0]}: set for each run by --seeds and --folds')
    return args


def main(argv: list[str] | None = None) -> int:
    """Makes the runs that are not finished; the table is complete after each."""
    args = parse_args(argv)

    from custom_modules.engine.stop_signals import Stopped
    from custom_modules.evaluation.fold_runs import cross_validate

    try:
        failed = cross_validate(
            args.configs, args.out, args.work_dir, args.folds, args.seeds, args.data_root, args.cfg_options
        )
    except Stopped as stop:
        print(f'{stop}\ncontinue with the same command')
        return stop.exit_code
    if failed:
        print(f'{len(failed)} failed: {", ".join(map(str, failed))}. The same command tries them again.')
    if args.out.exists():
        print(f'written     {args.out}\nnext: {command_line("tools/compare.py", args.out)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
