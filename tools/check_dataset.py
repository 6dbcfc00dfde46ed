"""Checks raw photos (class folders) or a prepared dataset; changes nothing.

Finds corrupt, empty and misnamed files; annotation errors; copies and near-duplicates, across train and val and across
classes; dark, overexposed, blurred, tiny, odd, CMYK, grey, transparent, 16-bit, palette, animated and EXIF-rotated
images; class imbalance, with the class weights to paste. Needs CleanVision.
Exit codes: 0 nothing but notes, 1 errors or warnings, each with advice, 2 unusable input.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.pages import check_out, write_out
from custom_modules.progress import progress_bar, speed


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, checks and prints the summary; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, help='folder of class folders, or prepared dataset; only read')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='write all findings, as .html (with thumbnails), .csv or .json'
    )
    parser.add_argument(
        '--crop', type=int, default=224, help='edge of the square that training cuts out (default: %(default)s)'
    )
    parser.add_argument('--workers', type=int, metavar='N', help='threads that read images (default: one per core)')
    args = parser.parse_args(argv)
    if args.crop < 1:
        parser.error('--crop must be 1 or more')
    if args.out:
        check_out(args.out, args.data)

    from custom_modules.datasets.check_report import format_report, format_text
    from custom_modules.datasets.dataset_checks import check_dataset

    start = time.monotonic()
    with progress_bar() as progress:
        report = check_dataset(args.data, args.crop, args.workers, progress)
    if args.out:
        write_out(args.out, format_report(report, args.out.suffix))
    print(format_text(report))
    print(speed(report.photos, time.monotonic() - start))
    if args.out:
        print(f'written: {args.out}')
    elif report.findings:
        print('next: --out report.html shows the images, --out findings.csv lists all findings')
    return int(report.has_problems)


if __name__ == '__main__':
    sys.exit(run_tool(main))
