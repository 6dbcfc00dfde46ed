"""Tests a checkpoint: ``python tools/test.py configs/flower_mobilenetv2.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import printable
from custom_modules.metrics.predictions import SUFFIXES
from custom_modules.models.model_file import is_exported


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Upstream's flags, and this project's."""
    parser = argparse.ArgumentParser(description='Test a flower classifier: top-1 accuracy and error, per class.')
    parser.add_argument('config', help='the config it was trained with')
    parser.add_argument('checkpoint', help='its weights, e.g. work_dirs/flower_mobilenetv2/best.pth, or an .onnx')
    parser.add_argument('--data-root', metavar='DIR', help='the prepared dataset; its val.txt is tested')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], help='test this subset; default: that of the config'
    )
    parser.add_argument(
        '--work-dir', metavar='DIR', help='the folder of metrics.json and report/; default: that of the checkpoint'
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write one row per image, as .csv, .json or .jsonl')
    parser.add_argument(
        '--report',
        action='store_true',
        help='also write report/: figures, a model card and a page with every misclassified image',
    )
    parser.add_argument('--robustness', action='store_true', help='also test the images darker, blurred, rotated, …')
    parser.add_argument('--ood', metavar='DIR', help='also score out-of-distribution images, at any depth in DIR')
    parser.add_argument('--tta', action='store_true', help='average the scores of each image and its mirror image')
    parser.add_argument('--amp', action='store_true', help='half precision (needs an accelerator)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.out and args.out.suffix not in SUFFIXES:
        parser.error(f'--out {args.out}: the name must end in {", ".join(SUFFIXES)}')
    if is_exported(args.checkpoint) and (args.amp or args.launcher != 'none'):
        parser.error('--amp and --launcher do not apply to an .onnx model, which one process computes as exported')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    del args.local_rank
    return args


def main(argv: list[str] | None = None) -> int:
    """Tests, prints the figures and writes them; 1 if there is something to warn of."""
    args = parse_args(argv)

    from custom_modules.evaluation.testing import evaluate_model, format_test, write_test

    test = evaluate_model(**vars(args))
    if test is None:  # the main process prints and writes
        return 0
    print(f'\n{format_test(test)}\n')
    for line in write_test(test, args.out, args.report):
        print(line)
    for warning in test.warnings:
        print(f'warning: {warning}')
    for image in test.unreadable:
        print(f'error: {printable(image.path)}: {image.problem}', file=sys.stderr)
    return 1 if test.warnings or test.unreadable else 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
