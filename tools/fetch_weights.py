"""Provides pretrained weights for the configs: fetched, or converted from a local file.

python tools/fetch_weights.py mobilenet_v2
python tools/fetch_weights.py resnet18 --from resnet18-f37072fd.pth
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.models.weights_catalogue import WEIGHTS


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The model, where its weights come from and where they go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', nargs='?', choices=WEIGHTS, metavar='NAME', help=', '.join(WEIGHTS))
    parser.add_argument(
        '--from',
        dest='file',
        type=Path,
        metavar='FILE',
        help='a checkpoint with MMPretrain, torchvision or timm keys, instead of fetching one',
    )
    parser.add_argument('--out', type=Path, default=Path('checkpoints'), metavar='DIR', help='default: %(default)s')
    parser.add_argument('--list', action='store_true', help='list models, files and sources, and exit')
    args = parser.parse_args(argv)
    if args.name is None and not args.list:
        parser.error('NAME is required: one of ' + ', '.join(WEIGHTS))
    return args


def main(argv: list[str] | None = None) -> int:
    """Lists the weights, or writes one model's and prints the proof."""
    args = parse_args(argv)
    if args.list:
        for name, weights in WEIGHTS.items():
            path = args.out / f'{name}.pth'
            print(f'{name}: {path} ({"there" if path.exists() else "not there"})')
            for publisher, url in weights.sources.items():
                print(f'    {publisher}: {url}')
        return 0

    from custom_modules.models.pretrained_weights import provide_weights

    for line in provide_weights(args.name, args.out, args.file, progress=sys.stderr.isatty()):
        print(line)
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
