"""Publishes a checkpoint: ``python tools/publish.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The checkpoint and the folder to write to."""
    parser = argparse.ArgumentParser(
        description='Write the weights of a checkpoint without its training state, under a name that ends in the '
        "file's hash, with a model card."
    )
    parser.add_argument('checkpoint', type=Path, help='e.g. work_dirs/flower_mobilenetv2/best.pth')
    parser.add_argument('--out', type=Path, metavar='DIR', help="default: the checkpoint's folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Publishes, and prints what was done."""
    args = parse_args(argv)

    from custom_modules.evaluation.publishing import publish_checkpoint

    for line in publish_checkpoint(args.checkpoint, args.out or args.checkpoint.parent):
        print(line)
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
