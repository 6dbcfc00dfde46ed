"""Provides pretrained weights under checkpoints/: fetched from the model zoo or torchvision, or from a local file."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.engine.pretrained_weights import WEIGHTS, import_weights
from custom_modules.errors import run_tool


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', choices=WEIGHTS, help='model')
    parser.add_argument('--from', dest='file', type=Path, metavar='FILE', help='local file')
    parser.add_argument('--out', type=Path, default=Path('checkpoints'), metavar='DIR', help='default: %(default)s')
    args = parser.parse_args(argv)
    print(import_weights(args.name, args.file, args.out))
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
