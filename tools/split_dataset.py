"""Splits a folder of class folders into train/, val/, classes.txt, train.txt, val.txt and manifest.json.

The split is drawn per class from the seed: the same seed and photos give the same dataset on any machine. Photos that
cannot be read are left out. So is content that repeats: all of it where it stands in two classes, all but the first by
name within one. Near-duplicates (resized, recompressed, brightened, slightly cropped) stay on one side.
OUT appears whole or not at all; a killed run leaves only a hidden .OUT.partial-... folder beside it, to be deleted.
Exit codes: 0 done, 1 done but something other than hidden files was left out or looks wrong, 2 unusable input.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.datasets.splitting import MODES, split_dataset
from custom_modules.errors import InputError, run_tool
from custom_modules.photos.parallel import MAX_WORKERS
from custom_modules.progress import progress_bar, speed


def parse_rename(pairs: list[str]) -> dict[str, str]:
    """Returns the class of each folder that ``--rename`` names.

    Raises:
        InputError: For what is no ``FOLDER=CLASS``, and for a folder named twice.
    """
    rename: dict[str, str] = {}
    problems = []
    for pair in pairs:
        folder, equals, name = pair.rpartition('=')
        if not (folder and equals and name):
            problems.append(f'--rename {pair}: FOLDER=CLASS is expected, as in roses=rose')
        elif rename.setdefault(folder, name) != name:
            problems.append(f'--rename {pair}: {folder} becomes {rename[folder]} already')
    if problems:
        raise InputError(*problems)
    return rename


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, splits and prints the counts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('raw', type=Path, help='folder whose subfolders are the classes; only read')
    parser.add_argument('out', type=Path, help='folder to make; must not exist, or be empty')
    parser.add_argument(
        '--ratio', type=float, default=0.8, help='share of each class for train (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='what the split is drawn from (default: %(default)s)')
    parser.add_argument('--mode', choices=MODES, default='copy', help='how photos get there (default: %(default)s)')
    parser.add_argument(
        '--rename',
        nargs='+',
        default=[],
        metavar='FOLDER=CLASS',
        help='classes that are not called like their folders',
    )
    parser.add_argument('--folds', type=int, default=0, metavar='K', help='also list K folds of train, in fold0/ ...')
    parser.add_argument(
        '--keep-all', action='store_true', help='keep every photo, unopened: look for no broken ones and no duplicates'
    )
    parser.add_argument('--workers', type=int, metavar='N', help='processes that compare photos (default: one a core)')
    args = parser.parse_args(argv)
    if args.workers is not None and not 1 <= args.workers <= MAX_WORKERS:
        parser.error(f'--workers must be 1 to {MAX_WORKERS}')
    rename = parse_rename(args.rename)
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
            rename=rename,
            workers=args.workers,
        )
    print(report)
    print(speed(report.photos, time.monotonic() - start))
    print(f'dataset {report.digest}')
    rest = f'configs/flower_mobilenetv2_fast.py --data-root {shlex.quote(str(args.out))}'
    print(f'next: python tools/train.py {rest}')
    if args.folds:
        print(f'on the folds: python tools/cross_validate.py {rest}')
    return int(report.has_problems)


if __name__ == '__main__':
    sys.exit(run_tool(main))
