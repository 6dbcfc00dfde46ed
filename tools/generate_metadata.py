"""Writes classes.txt, train.txt and val.txt for a folder that has train/<class>/ and val/<class>/.

If it is called valid/ or validation/, val becomes a link to it. Class folders in test/ get a test.txt, for
tools/test.py --split test. The order of an existing classes.txt is kept. Nothing is removed; the lists are replaced.
Exit codes: 0 done, 1 done but files other than hidden ones were left out or manifest.json no longer fits, 2 unusable
input.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import command_line


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, writes the lists and prints the counts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, help='folder with train/ and val/ (or valid/)')
    args = parser.parse_args(argv)

    from custom_modules.datasets.generate_metadata import generate_metadata

    report = generate_metadata(args.data)
    print(report)
    command = command_line('tools/train.py', 'configs/flower_mobilenetv2_fast.py', '--data-root', args.data)
    print(f'next: {command}')
    return int(report.has_problems)


if __name__ == '__main__':
    sys.exit(run_tool(main))
