"""Finds photos with doubtful labels: a classifier that has not seen a photo predicts another class.

python tools/find_label_issues.py PHOTOS --out suspects.html

DATA is a folder of class folders or a prepared dataset, and is only read. Each photo is embedded once by a pretrained
backbone; the embeddings are cached by content, so that a second run takes seconds. With --out, .html is a gallery to
look through and mark, .csv and .json have one row per suspect.
Exit codes: 0 no suspects, 1 suspects or unreadable photos, 2 unusable input.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import require_packages, run_tool
from custom_modules.files import command_line, printable
from custom_modules.pages import check_out, write_out
from custom_modules.progress import progress_bar


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The photos, the weights, and what to print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    weights, cache = Path('checkpoints/mobilenet_v2.pth'), Path('work_dirs/embeddings')
    add('data', type=Path, metavar='DATA', help='class folders, or a prepared dataset (train and val)')
    add('--weights', type=Path, metavar='FILE', default=weights, help='pretrained weights (default: %(default)s)')
    add('--out', type=Path, metavar='FILE', help='write all suspects, as .html, .csv or .json')
    add('--top', type=int, default=20, metavar='N', help='print the first N suspects (default: %(default)s)')
    add('--seed', type=int, default=0, help='seed of the folds (default: %(default)s)')
    add('--cache', type=Path, metavar='DIR', default=cache, help='folder of the embeddings (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.top < 0:
        parser.error(f'--top {args.top}: must be 0 or more')
    if not 0 <= args.seed < 2**32:
        parser.error(f'--seed {args.seed}: must be 0 to {2**32 - 1}')
    return args


def main(argv: list[str] | None = None) -> int:
    """Finds the suspects, prints the first and writes all."""
    args = parse_args(argv)
    require_packages({'cleanlab': 'cleanlab', 'sklearn': 'scikit-learn'}, 'find_label_issues')
    if args.out:
        check_out(args.out, args.data)

    from custom_modules.evaluation.label_issues import find_label_issues, format_issues

    with progress_bar() as progress:
        issues = find_label_issues(args.data, args.weights, args.cache, args.seed, progress)
    for path, reason in issues.left_out:
        print(f'left out: {path} ({reason})')
    for item in issues.unreadable:
        print(printable('unreadable: {path} ({reason})'.format(**item)))
    if args.out:
        write_out(args.out, format_issues(issues, args.out.suffix.lower()))
    suspects = issues.suspects
    for row in suspects[: args.top]:
        print(printable('labelled {label}, looks like {suggested} ({score:.2f})  {path}'.format(**row)))
    if len(suspects) > args.top:
        print(f'and {len(suspects) - args.top} more: --top, or --out FILE')
    print(f'{len(suspects)} of {issues.readable} labels doubtful, {len(issues.unreadable)} photos unreadable')
    print(f'embedded    {issues.computed} photos; the embeddings are in {issues.cache}')
    if args.out:
        print(f'written     {args.out}')
    elif suspects:
        print(f'next: {command_line("tools/find_label_issues.py", args.data, "--out", "suspects.html")}')
    return int(bool(suspects or issues.unreadable))


if __name__ == '__main__':
    sys.exit(run_tool(main))
