"""Splits a folder of class folders into train/, val/, classes.txt, train.txt, val.txt and manifest.json.

The split is drawn per class from the seed: the same seed and photos give the same dataset on any machine.
OUT appears whole or not at all; a killed run leaves only a hidden .OUT.partial-... folder beside it, to be deleted.
Exit codes: 0 done, 1 done but files other than hidden ones were left out, 2 unusable input.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.datasets.splitting import MODES, Progress, split_dataset
from custom_modules.errors import run_tool


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Shows a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('photos')
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
    args = parser.parse_args(argv)
    with progress_bar() as progress:
        report = split_dataset(args.raw, args.out, args.ratio, args.seed, args.mode, progress)
    print(report)
    print(f'dataset {report.digest}')
    print(f'next: python tools/train.py configs/flower_mobilenetv2.py --data-root {args.out}')
    return int(report.has_problems)


if __name__ == '__main__':
    sys.exit(run_tool(main))
