"""Trains a config: ``python tools/train.py configs/flower_mobilenetv2.py``; ``--demo`` needs no photos or weights."""

import argparse
import os
import shutil
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Upstream's flags, ``--data-root`` and ``--demo``."""
    parser = argparse.ArgumentParser(description='Train a flower classifier.')
    parser.add_argument('config', help='what to train, e.g. configs/flower_mobilenetv2.py')
    parser.add_argument('--demo', action='store_true', help='train a few minutes on drawn, synthetic flowers instead')
    parser.add_argument('--probe', action='store_true', help='solve the head only, in one pass: a first honest number')
    parser.add_argument('--data-root', metavar='DIR', help='the prepared dataset, for all loaders at once')
    parser.add_argument('--work-dir', metavar='DIR', help='where the run writes; default: work_dirs/<config name>')
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        metavar='SEED',
        help='one run per seed, each in a work dir of its own, and their mean',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest one in the work dir',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='check, show the effective settings, time ten steps; stop'
    )
    parser.add_argument(
        '--save-every-minutes',
        type=float,
        metavar='N',
        help='also save in the middle of an epoch (default: 10; 0: only when Ctrl-C or SIGTERM ends the run)',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (needs an accelerator)')
    parser.add_argument('--no-validate', action='store_true', help='train without validating')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the lr to the actual batch size')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override settings, e.g. train_cfg.max_epochs=5 train_dataloader.batch_size=16',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.demo and args.data_root:
        parser.error('--demo draws its own flowers: leave out --data-root')
    for flag in ('--demo', '--resume', '--no-validate', '--dry-run', '--save-every-minutes'):
        given = vars(args)[flag[2:].replace('-', '_')]
        if args.probe and given is not None and given is not False:  # 0 minutes are given, too
            parser.error(f'--probe: solves the head in one validated pass over your photos; leave out {flag}')
    if args.seeds and len(args.seeds) > 1 and args.launcher != 'none':
        parser.error('--seeds: under a launcher, start one seed at a time')
    if args.seeds and len(args.seeds) > 1 and (args.dry_run or args.no_validate):
        flag = '--dry-run' if args.dry_run else '--no-validate'
        parser.error(
            f'--seeds: several end with their mean score, which {flag} does not give; name one, or leave it out'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Checks, trains, and says where the result is; ``--dry-run`` only checks, and returns 1 if there are warnings."""
    args = parse_args(argv)

    from mmengine.dist import is_main_process

    from custom_modules.engine.resume import resume_command
    from custom_modules.engine.stop_signals import Stopped

    try:
        return train(args, argv)
    except Stopped as stop:
        if is_main_process():
            print(f'{stop}\ngo on with: {resume_command([__file__, *argv] if argv else sys.argv, args.launcher)}')
        return stop.exit_code


def train(args: argparse.Namespace, argv: list[str] | None) -> int:
    """What :func:`main` does, unless a signal stops it."""
    from mmengine.dist import barrier, is_main_process
    from mmengine.logging import print_log

    from custom_modules.datasets.demo_flowers import prepare_demo_flowers
    from custom_modules.engine.compute import half_precision
    from custom_modules.engine.hooks.preflight_hook import DryRunDone, PreflightHook
    from custom_modules.engine.preflight import check_run, check_workers
    from custom_modules.engine.resume import find_checkpoint, set_aside
    from custom_modules.engine.run_config import (
        default_work_dir,
        keep_train_only,
        overview,
        parse_options,
        read_config,
        save_every,
    )
    from custom_modules.engine.run_summary import run_summary
    from custom_modules.engine.runner import TerseRunner, has_accelerator, place
    from custom_modules.engine.seeds import seed_problems, train_seeds
    from custom_modules.engine.stop_signals import stop_signals_caught
    from custom_modules.evaluation.run_comparison import as_markdown
    from custom_modules.evaluation.runs import read_run
    from custom_modules.files import lock_folder, remove_leftovers
    from custom_modules.models.checkpoints import newest_checkpoint

    if problems := seed_problems(args.seeds or ()):
        raise InputError(*problems)
    options = parse_options(args.cfg_options)
    cfg = read_config(args.config, options, args.data_root, args.work_dir, args.demo, args.probe)
    work_dir = Path(cfg.work_dir)
    if args.seeds and len(args.seeds) > 1:
        folders = train_seeds([__file__, *(sys.argv[1:] if argv is None else argv)], work_dir, args.seeds)
        print(as_markdown([read_run(folder) for folder in folders], []), end='')
        return 0
    if args.seeds:
        cfg.merge_from_dict({'randomness.seed': args.seeds[0]})
    notes = []
    old = newest_checkpoint(work_dir)
    best = work_dir / 'best.pth'
    holds_run = old is not None or best.exists()
    # A demo run may be replaced by the next one, but only in the demo's own folder.
    replace_demo = args.demo and not args.resume and work_dir == default_work_dir(args.config, demo=True)
    found = find_checkpoint(work_dir, args.resume) if args.resume else None
    if args.resume:
        cfg.resume = found is not None
        cfg.load_from = str(found.path) if found else None
        holds_run = holds_run and found is not None and found.path.resolve().parent != work_dir.resolve()
        notes.append(f'resuming from {found.path}' if found else f'no checkpoint in {work_dir}: starting anew')
    if args.save_every_minutes is not None:
        save_every(cfg, args.save_every_minutes)
    if holds_run and not replace_demo and not args.dry_run:
        go_on = '' if args.probe else 'go on with it by --resume, or '
        raise InputError(f'{work_dir}: holds a run already; {go_on}name another --work-dir')
    if args.no_validate:
        keep_train_only(cfg)
        notes.append('--no-validate: no best.pth is kept, and early stopping is off')
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InputError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size; set it')
        cfg.auto_scale_lr.enable = True
    if args.amp and has_accelerator():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        cfg.optim_wrapper.setdefault('dtype', half_precision())
    elif args.amp:
        notes.append('--amp: no accelerator here, training in full precision')

    idle = check_workers(cfg)
    place(cfg, args.launcher)
    if args.demo and is_main_process() and not (data_root := Path(cfg.train_dataloader.dataset.data_root)).exists():
        print(f'drawing synthetic flowers into {data_root}')
        prepare_demo_flowers(data_root)
    barrier()
    findings, pretrained = check_run(cfg, ['train'] if args.no_validate else ['train', 'val'])
    findings.notes += idle
    cfg.pretrained = pretrained  # BestCheckpointHook hands it on, so that no result hides what it started from
    preflight = PreflightHook(findings, options, args.dry_run, from_scratch=args.demo)
    if args.dry_run:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # nothing is to be left of it
            cfg.work_dir = folder
            runner = TerseRunner.from_cfg(cfg)
            runner.register_hook(preflight)
            with suppress(DryRunDone):
                runner.train()
        return 1 if findings.warnings else 0
    if is_main_process():
        lock = lock_folder(work_dir)  # held until it is closed by going out of scope
        if replace_demo and holds_run:
            print(f'replacing the last demo run in {work_dir}')
            shutil.rmtree(work_dir)
            lock = lock_folder(work_dir)  # noqa: F841
        remove_leftovers(work_dir)
        renamed = found.set_others_aside() if found else []
        if args.resume and not found and best.exists():
            renamed.append(f'{best} is of a run that cannot be resumed: kept as {set_aside(best, "later").name}')
        for note in renamed:  # at once, for the run may still be refused
            print(note)
    barrier()

    runner = TerseRunner.from_cfg(cfg)
    for note in [*notes, overview(cfg)]:
        print_log(note, logger='current')
    runner.register_hook(preflight)
    with nullcontext() if args.probe else stop_signals_caught():  # a probe has nothing to save half-way
        runner.train()
    if is_main_process():
        print(run_summary(runner, args.demo))
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
