"""Averages the weights of several seeds: ``python tools/soup.py work_dirs/flower_mobilenetv2_fast/seed_*``."""

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The runs, and what to write."""
    parser = argparse.ArgumentParser(description='Average the weights of trainings that differ in their seed alone.')
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work dirs of finished trainings')
    parser.add_argument('--out', type=Path, metavar='FILE', help="default: soup.pth beside the first run's work dir")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != '.pth':
        parser.error(f'--out {args.out}: the name must end in .pth')
    return args


def main(argv: list[str] | None = None) -> int:
    """Averages, writes, and says how to test it."""
    args = parse_args(argv)
    out = args.out or args.runs[0].resolve().parent / 'soup.pth'
    if out.exists():
        raise InputError(f'{out}: exists already; name another --out')

    from custom_modules.engine.checkpoints import save_atomically
    from custom_modules.engine.soup import average_runs
    from custom_modules.files import check_folder

    check_folder(out.parent)
    soup = average_runs(args.runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_atomically(soup, out)
    print(f'averaged    the last weights of seeds {", ".join(map(str, soup["meta"]["seeds"]))}')
    print(f'written     {out}')
    print(f'next        {shlex.join(["python", "tools/test.py", "CONFIG", str(out)])}')
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
