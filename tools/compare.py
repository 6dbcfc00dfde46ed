"""Compares trainings: ``python tools/compare.py work_dirs/flower_mobilenetv2 work_dirs/flower_resnet18``.

Or recipes: the one table that tools/cross_validate.py has written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool

SUFFIXES = ('.md', '.html', '.json', '.png')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The runs, and what to write."""
    parser = argparse.ArgumentParser(description='Compare trainings: scores, paired tests, curves.')
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='work dirs of trainings; tested ones can be paired. Or one .csv of tools/cross_validate.py',
    )
    parser.add_argument('--out', nargs='+', default=[], metavar='FILE', help=f'{", ".join(SUFFIXES)} (curves)')
    args = parser.parse_args(argv)
    for name in args.out:
        if Path(name).suffix not in SUFFIXES:
            parser.error(f'--out {name}: the name must end in {", ".join(SUFFIXES)}')
    tables = [name for name in args.runs if Path(name).suffix == '.csv' and not Path(name).is_dir()]
    if tables and len(args.runs) > 1:
        parser.error(f'{tables[0]}: a table stands alone; make one of all recipes with tools/cross_validate.py')
    for name in args.out:
        if tables and Path(name).suffix == '.png':
            parser.error(f'--out {name}: a table has no curves; use .md, .html or .json')
    args.table = tables[0] if tables else None
    return args


def main(argv: list[str] | None = None) -> int:
    """Reads the runs, prints the table and writes it."""
    args = parse_args(argv)

    from custom_modules.files import check_folder

    for out in map(Path, args.out):
        check_folder(out.parent)
        if out.is_dir():
            raise InputError(f'--out {out}: is a folder; name a file')

    if args.table:
        compare_recipes(Path(args.table), args.out)
        return 0

    from custom_modules.evaluation.run_comparison import as_markdown, compare_pairs
    from custom_modules.evaluation.run_comparison_page import write_comparison
    from custom_modules.evaluation.runs import read_run

    folders = {Path(name).resolve(): Path(name) for name in args.runs}  # each once, however it is spelled
    runs = [read_run(folder) for folder in folders.values()]
    pairs = compare_pairs(runs)
    print(as_markdown(runs, pairs), end='')
    for name in args.out:
        write_comparison(Path(name), runs, pairs)
        print(f'written     {name}')
    return 0


def compare_recipes(table: Path, outs: list[str]) -> None:
    """Reads the table of all answers, prints what it comes to and writes that."""
    from custom_modules.evaluation.cross_validation import as_markdown, differences, read_table

    recipes = read_table(table)
    found = differences(recipes)
    print(as_markdown(recipes, found), end='')
    for name in outs:
        from custom_modules.evaluation.run_comparison_page import write_cross_validation

        write_cross_validation(Path(name), recipes, found)
        print(f'written     {name}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
