"""Trains a config: ``python tools/train.py configs/flower_mobilenetv2.py``; ``--demo`` needs no photos or weights."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from custom_modules.errors import InputError, run_tool  # noqa: E402

if TYPE_CHECKING:
    from mmengine.runner import Runner


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Upstream's flags, ``--data-root`` and ``--demo``."""
    parser = argparse.ArgumentParser(description='Train a flower classifier.')
    parser.add_argument('config', help='what to train, e.g. configs/flower_mobilenetv2.py')
    parser.add_argument('--demo', action='store_true', help='train for two minutes on drawn, synthetic flowers instead')
    parser.add_argument('--data-root', metavar='DIR', help='the prepared dataset, for all loaders at once')
    parser.add_argument('--work-dir', metavar='DIR', help='where the run writes; default: work_dirs/<config name>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (needs an accelerator)')
    parser.add_argument('--no-validate', action='store_true', help='train without validating')
    parser.add_argument('--auto-scale-lr', action='store_true', help="scale the lr to the batch size, from the config's")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override settings, e.g. train_cfg.max_epochs=5 train_dataloader.batch_size=16',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def prepare_demo(data_root: Path, work_dir: Path) -> None:
    """Draws the synthetic flowers, splits them like any photos, and makes room for the run."""
    from custom_modules.datasets.demo_flowers import draw_demo_flowers
    from custom_modules.datasets.splitting import split_dataset

    if not data_root.exists():
        print(f'drawing synthetic flowers into {data_root}')
        data_root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_root.parent) as raw:
            draw_demo_flowers(Path(raw))
            split_dataset(Path(raw), data_root)
    if work_dir.exists():
        print(f'replacing the last demo run in {work_dir}')
        shutil.rmtree(work_dir)


def summary(runner: 'Runner', demo: bool) -> str:
    """The closing block: best and last score, where the weights are, what to do next."""
    from custom_modules.engine.best_checkpoint_hook import BestCheckpointHook
    from custom_modules.evaluation.predictions import Proportion

    config = next(Path(runner.work_dir).glob('*.py'), Path('CONFIG'))
    lines = []
    best = next((hook for hook in runner.hooks if isinstance(hook, BestCheckpointHook)), None)
    if best is None or best.best_value is None:
        lines.append(f'no best.pth: nothing was validated; weights: {runner.work_dir}')
    else:
        n = len(runner.val_dataloader.dataset)
        photos = 'synthetic pictures' if demo else 'validation photos'
        best_top1, last_top1 = (Proportion(round(value * n / 100), n) for value in (best.best_value, best.last_value))
        lines += [
            f'top-1 on {photos}: best {best_top1}, epoch {best.best_epoch}',
            f'{"":19}last {last_top1}, epoch {runner.epoch}',
            f'best weights:  {best.path}',
            f'test:          python tools/test.py {config} {best.path}',
        ]
    lines.append(f'watch:         tensorboard --logdir {runner.work_dir}')
    if demo:
        lines.append('your photos:   python tools/split_dataset.py PHOTOS data/flowers')
    return '\n'.join(['', '-' * 80, *lines, '-' * 80])


def main(argv: list[str] | None = None) -> int:
    """Checks, trains, and says where the result is."""
    args = parse_args(argv)

    from mmengine.dist import barrier, is_main_process
    from mmengine.logging import print_log
    from mmengine.runner import Runner

    from custom_modules.engine.checkpoints import newest_checkpoint
    from custom_modules.engine.launch import has_accelerator, place
    from custom_modules.engine.preflight import check_dataset, check_pretrained
    from custom_modules.engine.run_config import parse_options, read_config

    cfg = read_config(args.config, parse_options(args.cfg_options), args.data_root, args.work_dir, args.demo)
    work_dir = Path(cfg.work_dir)
    notes = []
    if args.resume:
        cfg.resume = True
        checkpoint = newest_checkpoint(work_dir) if args.resume == 'auto' else Path(args.resume)
        cfg.load_from = str(checkpoint) if checkpoint else None
        notes.append(f'resuming from {checkpoint}' if checkpoint else f'no checkpoint in {work_dir} yet: starting anew')
    elif not args.demo and (newest_checkpoint(work_dir) or (work_dir / 'best.pth').exists()):
        raise InputError(f'{work_dir}: holds a run already; go on with it by --resume, or name another --work-dir')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        cfg.auto_scale_lr.enable = True
    if args.amp and has_accelerator():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif args.amp:
        notes.append('--amp: no accelerator here, training in full precision')

    place(cfg, args.launcher)
    if args.demo and is_main_process():
        prepare_demo(Path(cfg.train_dataloader.dataset.data_root), work_dir)
    barrier()
    check_dataset(cfg, ['train'] if args.no_validate else ['train', 'val'])
    if weights := check_pretrained(cfg.model):
        cfg.pretrained = weights  # BestCheckpointHook hands it on, so that no result hides what it started from
        notes.append(f'pretrained weights: {weights}')

    runner = Runner.from_cfg(cfg)
    for note in notes:
        print_log(note, logger='current')
    runner.train()
    if is_main_process():
        print(summary(runner, args.demo))
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
