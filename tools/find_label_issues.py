"""Finds photos whose label is doubtful: what a classifier that has not seen a photo takes for something else.

python tools/find_label_issues.py PHOTOS --out suspects.html

DATA is a folder of class folders or a prepared dataset, and is only read. Each photo is embedded once by the
pretrained backbone; the embeddings are kept by content, so a second run takes seconds. Formats of --out: .html is a
gallery to look through and mark, .csv and .json have one row a suspect.
Exit codes: 0 no suspects, 1 suspects or unreadable photos, 2 unusable input.
"""

import argparse
import shlex
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.progress import progress_bar
from custom_modules.report_file import check_out, write_out

EXTRAS = {'cleanlab': 'cleanlab', 'sklearn': 'scikit-learn'}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """DATA, and what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, metavar='DATA', help='class folders, or a prepared dataset (train and val)')
    parser.add_argument(
        '--weights',
        type=Path,
        metavar='FILE',
        default=Path('checkpoints/mobilenet_v2.pth'),
        help='what tools/fetch_weights.py wrote (default: %(default)s)',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write all suspects, as .html, .csv or .json')
    parser.add_argument(
        '--top', type=int, default=20, metavar='N', help='print the first N suspects (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='what the folds are drawn from (default: %(default)s)')
    parser.add_argument(
        '--cache',
        type=Path,
        metavar='DIR',
        default=Path('work_dirs/embeddings'),
        help='where embeddings are kept (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.top < 0:
        parser.error(f'--top {args.top}: a number from 0 on is needed')
    if not 0 <= args.seed < 2**32:
        parser.error(f'--seed {args.seed}: a number from 0 to {2**32 - 1} is needed')
    return args


def main(argv: list[str] | None = None) -> int:
    """Embeds, judges, prints and writes; returns the exit code."""
    args = parse_args(argv)
    if missing := [name for module, name in EXTRAS.items() if find_spec(module) is None]:
        raise InputError(f'{", ".join(missing)} not installed: pip install {" ".join(missing)}')
    if args.out:
        check_out(args.out, args.data)

    from custom_modules.evaluation.label_issues import find_suspects, format_suspects, read_labelled
    from custom_modules.files import printable

    data = read_labelled(args.data)

    from custom_modules.evaluation.embeddings import Embedder, embed_photos, read_embeddings

    paths = [data.root / photo.path for photo in data.photos]
    done = read_embeddings(paths, args.weights, args.cache)
    if done is None:
        embedder = Embedder(args.weights)
        with progress_bar() as bar:
            done = embed_photos(paths, embedder, args.cache, None if bar is None else partial(bar, 'embedding'))
    unreadable = [(data.photos[i].path, reason) for i, reason in sorted(done.unreadable.items())]
    for path, reason in data.left_out:
        print(f'left out: {path} ({reason})')
    for path, reason in unreadable:
        print(f'unreadable: {printable(path)} ({reason})')
    judged = [data.photos[i] for i in done.kept]
    suspects = find_suspects(judged, done.features, data.classes, args.seed)
    if args.out:
        if args.out.suffix.lower() == '.html':
            from custom_modules.evaluation.label_issues_page import render_page

            text = render_page(data.root, len(judged), suspects, unreadable)
        else:
            text = format_suspects(suspects, data.classes, unreadable, args.out.suffix)
        write_out(args.out, text)

    for suspect in suspects[: args.top]:
        print(suspect)
    if len(suspects) > args.top:
        print(f'and {len(suspects) - args.top} more: --top, or --out FILE')
    print(f'{len(suspects)} of {len(judged)} labels doubtful, {len(unreadable)} photos unreadable')
    print(f'embedded    {done.computed} photos now; {done.cache} keeps them')
    if args.out:
        print(f'written     {args.out}')
    elif suspects:
        print(f'next: python tools/find_label_issues.py {shlex.quote(str(args.data))} --out suspects.html')
    return int(bool(suspects or unreadable))


if __name__ == '__main__':
    sys.exit(run_tool(main))
