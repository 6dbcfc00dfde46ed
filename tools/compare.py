"""Compares trainings: ``python tools/compare.py work_dirs/flower_mobilenetv2 work_dirs/flower_resnet18``.

Or configs, by the table of tools/cross_validate.py.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import check_file

SUFFIXES = ('.md', '.html', '.json', '.png')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The runs or the table, and the files to write."""
    parser = argparse.ArgumentParser(description='Compare trainings: scores, paired tests, curves.')
    help_runs = 'work dirs of trainings, paired if tested with --report; or one .csv of tools/cross_validate.py'
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help=help_runs)
    parser.add_argument(
        '--out', nargs='+', type=Path, default=[], metavar='FILE', help=f'{", ".join(SUFFIXES)} (curves)'
    )
    args = parser.parse_args(argv)
    tables = [path for path in args.runs if path.suffix == '.csv' and not path.is_dir()]
    if tables and len(args.runs) > 1:
        parser.error(f'{tables[0]}: only one table can be compared. Make one of all configs.')
    for out in args.out:
        if out.suffix not in SUFFIXES:
            parser.error(f'--out {out}: the name must end in {", ".join(SUFFIXES)}')
        if tables and out.suffix == '.png':
            parser.error(f'--out {out}: a table has no curves. Use .md, .html or .json.')
    return args


def main(argv: list[str] | None = None) -> int:
    """Prints the comparison and writes it."""
    args = parse_args(argv)
    for out in args.out:
        check_file(out)

    from custom_modules.evaluation.run_comparison_page import compare

    print(compare(args.runs, args.out), end='')
    for out in args.out:
        print(f'written     {out}')
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
