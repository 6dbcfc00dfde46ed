"""Exports a checkpoint to ONNX: ``python tools/export_onnx.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Which checkpoint, where to write, and the images to check the model on."""
    parser = argparse.ArgumentParser(description='Export a trained checkpoint to ONNX, and check it against torch.')
    parser.add_argument('checkpoint', type=Path, help='e.g. work_dirs/flower_mobilenetv2/best.pth')
    parser.add_argument('--out', type=Path, metavar='FILE', help='the model, .onnx; default: beside the checkpoint')
    parser.add_argument(
        '--data-root', type=Path, metavar='DIR', help='the prepared dataset; scores are compared on its val images'
    )
    parser.add_argument(
        '--int8', action='store_true', help='also write FILE_int8.onnx, calibrated on training images of --data-root'
    )
    parser.add_argument('--config', help='the config it was trained with; default: the one in the checkpoint')
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    parser.add_argument(
        '--force', action='store_true', help='write FILE_int8.onnx also if 8 bits lose over 1 point of top-1'
    )
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != '.onnx':
        parser.error(f'--out {args.out}: the name must end in .onnx')
    if args.int8 and not args.data_root:
        parser.error('--int8: needs --data-root, for the images to calibrate on')
    return args


def main(argv: list[str] | None = None) -> int:
    """Exports, compares with torch, and writes the model if both agree."""
    args = parse_args(argv)

    from custom_modules.inference.export import export_checkpoint

    return export_checkpoint(**vars(args))


if __name__ == '__main__':
    sys.exit(run_tool(main))
