"""Classifies images: ``python tools/predict.py PHOTOS --checkpoint work_dirs/flower_mobilenetv2/best.pth``.

An exported model (``.onnx``) needs onnxruntime, opencv-python-headless, Pillow and NumPy only.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.metrics.predictions import SUFFIXES
from custom_modules.models.model_file import is_exported


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Which images, which model, and what to write."""
    parser = argparse.ArgumentParser(description='Classify images with a trained checkpoint.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help="files, folders, patterns; '-' for a list on stdin")
    parser.add_argument('--checkpoint', required=True, help='e.g. work_dirs/flower_mobilenetv2/best.pth, or an .onnx')
    parser.add_argument('--config', help='the config it was trained with; default: the one in the checkpoint')
    parser.add_argument('--out', type=Path, metavar='FILE', help=f'write a table: {", ".join(SUFFIXES)}')
    parser.add_argument('--top-k', type=int, default=3, metavar='K', help='classes per printed line; default: 3')
    parser.add_argument(
        '--sort-into', type=Path, metavar='DIR', help='put the images into a new folder, with a folder per class'
    )
    parser.add_argument(
        '--mode',
        choices=['copy', 'hardlink', 'symlink'],
        default='copy',
        help='how --sort-into does it; default: copy',
    )
    parser.add_argument(
        '--min-score',
        type=float,
        default=0.0,
        metavar='S',
        help='predictions with a lower score, without temperature scaling, are "unsure": 0 to 1; default: 0',
    )
    parser.add_argument('--batch-size', type=int, default=32, metavar='N', help='images per batch; default: 32')
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='threads that read images; default: 2')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.out and args.out.suffix not in SUFFIXES:
        parser.error(f'--out {args.out}: the name must end in {", ".join(SUFFIXES)}')
    if not args.out and args.launcher != 'none':
        parser.error('--launcher: several processes need --out to gather their results')
    if is_exported(args.checkpoint) and (args.config or args.launcher != 'none'):
        parser.error(f'--{"config" if args.config else "launcher"}: has no meaning for an .onnx model')
    if not 0 <= args.min_score <= 1:
        parser.error(f'--min-score {args.min_score}: must be between 0 and 1')
    for name, least in (('top_k', 1), ('batch_size', 1), ('workers', 0)):
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: must be {least} or more')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    del args.local_rank
    return args


def main(argv: list[str] | None = None) -> int:
    """Classifies images, and lists those that cannot be read."""
    args = parse_args(argv)

    from custom_modules.inference.predict import predict_files

    return predict_files(**vars(args))


if __name__ == '__main__':
    sys.exit(run_tool(main))
