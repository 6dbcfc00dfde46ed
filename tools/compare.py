"""Compares trainings: ``python tools/compare.py work_dirs/flower_mobilenetv2 work_dirs/flower_resnet18``."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool

SUFFIXES = ('.md', '.html', '.json', '.png')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The runs, and what to write."""
    parser = argparse.ArgumentParser(description='Compare trainings: scores, paired tests, curves.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work dirs of trainings; tested ones can be paired')
    parser.add_argument('--out', nargs='+', default=[], metavar='FILE', help=f'{", ".join(SUFFIXES)} (curves)')
    args = parser.parse_args(argv)
    for name in args.out:
        if Path(name).suffix not in SUFFIXES:
            parser.error(f'--out {name}: the name must end in {", ".join(SUFFIXES)}')
    return args


def main(argv: list[str] | None = None) -> int:
    """Reads the runs, prints the table and writes it."""
    args = parse_args(argv)

    from custom_modules.files import check_folder

    for out in map(Path, args.out):
        check_folder(out.parent)
        if out.is_dir():
            raise InputError(f'--out {out}: is a folder; name a file')

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


if __name__ == '__main__':
    sys.exit(run_tool(main))
