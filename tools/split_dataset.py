"""Splits a folder of class folders into train/, val/, classes.txt, train.txt, val.txt and manifest.json.

The split is drawn per class from the seed: the same seed and photos give the same dataset on any machine. Photos that
cannot be read are left out. So is repeated content: all of it if it is in two classes, all but the first by name if it
is in one. Near-duplicates (resized, recompressed, brightened, slightly cropped) stay in one subset.
OUT appears whole or not at all; a killed run leaves only a hidden folder .OUT.NUMBER.tmp next to it, to be deleted.
Exit codes: 0 done, 1 done but something other than hidden files was left out or looks wrong, 2 unusable input.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import command_line
from custom_modules.progress import progress_bar, speed


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, splits and prints the counts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('raw', type=Path, help='folder whose subfolders are the classes; only read')
    parser.add_argument('out', type=Path, help='folder to make; must not exist, or be empty')
    parser.add_argument('--ratio', type=float, default=0.8, help='share of train in each class (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='what the split is drawn from (default: %(default)s)')
    parser.add_argument(
        '--mode', choices=('copy', 'hardlink', 'symlink'), default='copy', help='how to place photos (default: copy)'
    )
    parser.add_argument(
        '--rename', nargs='+', default=[], metavar='FOLDER=CLASS', help='classes with another name than their folder'
    )
    parser.add_argument('--folds', type=int, default=0, metavar='K', help='also list K folds of train, in fold0/ ...')
    parser.add_argument(
        '--keep-all', action='store_true', help='keep every photo, unopened: no search for corrupt files or duplicates'
    )
    parser.add_argument('--workers', type=int, metavar='N', help='threads that compare photos (default: one per core)')
    args = parser.parse_args(argv)

    from custom_modules.datasets.splitting import parse_rename, split_dataset

    start = time.monotonic()
    with progress_bar() as progress:
        report = split_dataset(
            args.raw,
            args.out,
            args.ratio,
            args.seed,
            args.mode,
            progress,
            keep_all=args.keep_all,
            folds=args.folds,
            rename=parse_rename(args.rename),
            workers=args.workers,
        )
    print(report)
    print(speed(report.photos, time.monotonic() - start))
    print(f'dataset {report.digest}')
    rest = 'configs/flower_mobilenetv2_fast.py', '--data-root', args.out
    print(f'next: {command_line("tools/train.py", *rest)}')
    if args.folds:
        print(f'on the folds: {command_line("tools/cross_validate.py", *rest)}')
    return int(report.has_problems)


if __name__ == '__main__':
    sys.exit(run_tool(main))
