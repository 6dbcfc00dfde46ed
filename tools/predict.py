"""Classifies photos: ``python tools/predict.py PHOTOS --checkpoint work_dirs/flower_mobilenetv2/best.pth``.

With a model of tools/export_onnx.py as the checkpoint, ONNX Runtime, Pillow and NumPy are all that it needs.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.inference.open_predictor import is_exported, open_predictor
from custom_modules.inference.sorting import MODES, UNSURE
from custom_modules.metrics.predictions import SUFFIXES

if TYPE_CHECKING:
    from custom_modules.inference.journal import Process


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to classify, by what, and where the result goes."""
    parser = argparse.ArgumentParser(description='Classify photos with a trained checkpoint.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help="files, folders, patterns; '-' for a list on stdin")
    parser.add_argument('--checkpoint', required=True, help='e.g. work_dirs/flower_mobilenetv2/best.pth, or an .onnx')
    parser.add_argument('--config', help='the config it was trained with; default: the one in the checkpoint')
    parser.add_argument('--out', metavar='FILE', help=f'write one row a photo: {", ".join(SUFFIXES)}')
    parser.add_argument('--top-k', type=int, default=3, metavar='K', help='classes shown a photo; default: 3')
    parser.add_argument('--sort-into', metavar='DIR', help='put the photos into a folder per predicted class')
    parser.add_argument('--mode', choices=MODES, default='copy', help='how --sort-into puts them; default: copy')
    parser.add_argument(
        '--min-score',
        type=float,
        default=0.0,
        metavar='S',
        help=f'what scores lower, without scaling, is {UNSURE}: 0 to 1; default: 0',
    )
    parser.add_argument('--batch-size', type=int, default=32, metavar='N', help='photos at a time; default: 32')
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes that read photos; default: 2, or 0 for few'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.out and Path(args.out).suffix not in SUFFIXES:
        parser.error(f'--out {args.out}: the name must end in {", ".join(SUFFIXES)}')
    if not args.out and args.launcher != 'none':
        parser.error('--launcher: several processes need --out to gather their results')
    if is_exported(args.checkpoint):
        for flag in ('config', 'launcher'):
            if getattr(args, flag) not in (None, 'none'):
                parser.error(f'--{flag}: means nothing to an .onnx model, which one process computes by itself')
    if not 0 <= args.min_score <= 1:
        parser.error(f'--min-score {args.min_score}: must lie in 0 to 1')
    for name in ('top_k', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: must be 1 or more')
    if args.workers is not None and args.workers < 0:
        parser.error(f'--workers {args.workers}: must be 0 or more')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Classifies, prints or writes the labels, and lists what could not be read."""
    args = parse_args(argv)

    from custom_modules.files import check_folder
    from custom_modules.inference.sorting import check_names, check_target
    from custom_modules.photos.listing import list_photos

    out = Path(args.out) if args.out else None
    if out:
        check_folder(out.parent)
        if os.path.lexists(out):
            raise InputError(f'--out {out}: exists already; name another file, or delete it')
    if args.sort_into:
        check_target(Path(args.sort_into))
        if out and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(args.sort_into)):
            raise InputError(
                f'--out {out}: lies in --sort-into {args.sort_into}, which is made whole; name it elsewhere'
            )
    stdin = (os.fsdecode(line) for line in sys.stdin.buffer) if '-' in args.inputs else ()
    paths = list_photos(args.inputs, stdin)

    from custom_modules.files import printable, write_atomically
    from custom_modules.inference.journal import ALONE, predict_resumably
    from custom_modules.inference.outcomes import Summary, check_unsure, format_line
    from custom_modules.inference.sorting import sort_into
    from custom_modules.metrics.predictions import columns, row, write_rows
    from custom_modules.progress import progress_bar

    process = ALONE if is_exported(args.checkpoint) else join(args.launcher)
    predictor = open_predictor(args.checkpoint, args.config)
    check_unsure(predictor.classes, args.min_score)
    if args.sort_into:
        check_names(predictor.classes)

    summary = Summary(predictor.classes, args.min_score)
    named = []
    if out is None:
        for prediction in summary.watch(predictor.predict(paths, args.batch_size, args.workers)):
            print(format_line(prediction, predictor.classes, args.top_k))
            if args.sort_into:
                named.append(summary.name(prediction))
    else:
        with progress_bar() as bar:
            journal = predict_resumably(out, predictor, paths, args.batch_size, args.workers, bar, process)
        if process.rank:
            return 0
    if args.sort_into:
        sort_into(Path(args.sort_into), named if out is None else map(summary.name, journal.predictions()), args.mode)
    if out:  # last: where it is, nothing is left to go on with
        table = (row(prediction, predictor.classes) for prediction in summary.watch(journal))
        fields = columns(predictor.classes, with_truth=False)
        write_atomically(out, lambda file: write_rows(file, table, fields, out.suffix))
        journal.remove()
    told = sys.stdout if out else sys.stderr
    print(summary, file=told)
    if args.out:
        print(f'written     {args.out}', file=told)
    if args.sort_into:
        print(f'sorted into {args.sort_into}', file=told)
    for photo in summary.unreadable:
        print(f'error: {printable(photo.path)}: {photo.problem}', file=sys.stderr)
    return 1 if summary.unreadable else 0


def join(launcher: str) -> 'Process':
    """Which of the launcher's processes this is; it computes where they do from now on."""
    from mmengine.config import Config
    from mmengine.dist import barrier, get_dist_info

    from custom_modules.engine.runner import place
    from custom_modules.inference.journal import Process

    patience = {'backend': 'nccl', 'timeout': 86400}  # waits for the slowest process
    place(Config({'env_cfg': {'mp_cfg': {}, 'dist_cfg': patience}}), launcher)
    rank, processes = get_dist_info()
    return Process(rank, processes, barrier)


if __name__ == '__main__':
    sys.exit(run_tool(main))
