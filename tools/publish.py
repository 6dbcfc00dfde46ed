"""Makes a checkpoint fit to be handed on: ``python tools/publish.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import shlex
import sys
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to publish, and where to."""
    parser = argparse.ArgumentParser(
        description='Write the weights of a checkpoint, without what only a training needs, under a name that ends '
        "in the file's hash, and a model card beside it."
    )
    parser.add_argument('checkpoint', type=Path, help='e.g. work_dirs/flower_mobilenetv2/best.pth')
    parser.add_argument('--out', type=Path, metavar='DIR', help="default: the checkpoint's folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Strips, verifies, writes."""
    args = parse_args(argv)

    from custom_modules.evaluation.model_card import PublishedFile, card_of, card_path
    from custom_modules.evaluation.results import found_in, know
    from custom_modules.files import check_folder, write_atomically
    from custom_modules.models.checkpoints import load_checkpoint, weights_digest
    from custom_modules.models.publishing import describe, plain_weights, publish

    folder = args.out or args.checkpoint.parent
    check_folder(folder)
    checkpoint = load_checkpoint(args.checkpoint)
    meta, state = describe(checkpoint, str(args.checkpoint)), plain_weights(checkpoint, str(args.checkpoint))
    known = know(args.checkpoint, weights_digest(state), meta)
    meta.pop('temperature', None)
    if known.temperature is not None:
        meta['temperature'] = known.temperature
    content, name = publish(state, meta, args.checkpoint.name)
    out = folder / name
    with found_in(known.file):
        card = card_of(
            name,
            {'state_dict': state, 'meta': meta},
            known.results,
            files=[PublishedFile(name, len(content), sha256(content).hexdigest(), 'weights and what describes them')],
        )
    for path in (out, card_path(out)):
        if path.exists():
            raise InputError(f'{path}: exists already; name another --out, or delete it')
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))
    write_atomically(card_path(out), lambda file: file.write(card.encode(errors='backslashreplace')))
    dropped = sorted(checkpoint.keys() - {'state_dict', 'meta'})
    print(f'left out    {", ".join(dropped) or "nothing"}')
    print(f'temperature {known.source}')
    print(f'verified    {len(state)} tensors, read back under weights_only=True, are those of {args.checkpoint}')
    print(f'written     {out} ({len(content) / 1e6:.1f} MB of {args.checkpoint.stat().st_size / 1e6:.1f})')
    print(f'written     {card_path(out)}')
    print(f'next        {shlex.join(["python", "tools/predict.py", "PHOTOS", "--checkpoint", str(out)])}')
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
