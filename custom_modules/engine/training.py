"""Training a config: checks, work dir, resume, the run itself and its closing summary."""

import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, is_main_process
from mmengine.runner import Runner

from custom_modules.datasets.class_counts import innermost
from custom_modules.datasets.demo_flowers import draw_demo_flowers
from custom_modules.datasets.splitting import split_dataset
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.hooks.preflight_hook import DryRunDone, PreflightHook
from custom_modules.engine.loops import progress_text
from custom_modules.engine.performance import half_precision
from custom_modules.engine.resume import FoundCheckpoint, find_checkpoint, resume_command, set_others_aside
from custom_modules.engine.run import Run, prepare_run
from custom_modules.engine.run_config import (
    default_work_dir,
    keep_train_only,
    parse_options,
    read_config,
    save_every,
)
from custom_modules.engine.runner import PreparedRunner, has_accelerator, set_up_device
from custom_modules.engine.stop_signals import Stopped, stop_signals_caught
from custom_modules.errors import InputError, refuse
from custom_modules.files import command_line, lock_folder, remove_leftovers
from custom_modules.metrics.predictions import Proportion
from custom_modules.models.checkpoints import newest_checkpoint


def train(
    config: str,
    *,
    data_root: str | None = None,
    work_dir: str | None = None,
    seed: int | None = None,
    resume: str | None = None,
    demo: bool = False,
    probe: bool = False,
    dry_run: bool = False,
    save_every_minutes: float | None = None,
    amp: bool = False,
    no_validate: bool = False,
    auto_scale_lr: bool = False,
    class_weights: str | None = None,
    cfg_options: list[str] | None = None,
    launcher: str = 'none',
    command: Sequence[str] = (),
) -> int:
    """Trains, and prints where the result is.

    The arguments are the flags of ``tools/train.py``; None keeps the config's value. ``resume`` is a checkpoint, or
    ``'auto'`` for the newest one in the work dir; ``command`` is the command line that a stopped run is resumed with.

    Returns:
        The exit code: 0; 1 for a dry run with warnings; 128 + the number of the signal that stopped the run.

    Raises:
        InputError: The config, the dataset, the weights or the work dir cannot be used.
    """
    options = parse_options(cfg_options)
    cfg = read_config(config, options, data_root, work_dir, demo, probe)
    folder = Path(cfg.work_dir)
    found = find_checkpoint(folder, resume) if resume else None
    # A demo run may be replaced by the next one, but only in the demo's own folder.
    replace = demo and not resume and folder == default_work_dir(config, demo=True)
    continued = resume and (not found or found.path.resolve().parent == folder.resolve())
    if _holds_run(folder) and not (dry_run or replace or continued):
        hint = '' if probe else ', or continue it by --resume'
        raise InputError(f'{folder}: holds a run already. Name another --work-dir{hint}.')
    if resume:
        cfg.resume, cfg.load_from = found is not None, str(found.path) if found else None
    set_up_device(cfg, launcher)
    if class_weights:
        cfg.model.head.setdefault('loss', ConfigDict(type='CrossEntropyLoss')).class_weight = class_weights
    _apply_flags(cfg, seed, save_every_minutes, amp, no_validate, auto_scale_lr)
    if demo:
        _draw_demo_flowers(Path(innermost(cfg.train_dataloader.dataset).data_root))
    loaders = ['train'] if no_validate else ['train', 'val']
    run = prepare_run(cfg, loaders, found.checkpoint if found else None, needs_pretrained=not demo)
    if dry_run:
        return _dry_run(run)
    with _claim_work_dir(folder, replace) or nullcontext():
        if resume:
            _begin_resume(folder, found)
        try:
            runner = _run(run, probe)
        except Stopped as stop:
            _print(f'{stop}\ngo on with: {resume_command(command, launcher)}')
            return stop.exit_code
    _print(run_summary(runner, demo))
    return 0


def _holds_run(folder: Path) -> bool:
    return newest_checkpoint(folder) is not None or (folder / 'best.pth').exists()


def _apply_flags(
    cfg: Config, seed: int | None, minutes: float | None, amp: bool, no_validate: bool, auto_scale_lr: bool
) -> None:
    """Applies the flags to the config, and prints a line on each that has side effects."""
    if seed is not None:
        refuse(seed_problems([seed]))
        cfg.merge_from_dict({'randomness.seed': seed})
    if minutes is not None:
        save_every(cfg, minutes)
    if no_validate:
        keep_train_only(cfg)
        _print('--no-validate: no best.pth is kept, and early stopping is off')
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InputError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size. Set it.')
        cfg.auto_scale_lr.enable = True
    if amp and has_accelerator():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        cfg.optim_wrapper.setdefault('dtype', half_precision())
    elif amp:
        _print('--amp: no accelerator here, training in full precision')


def _draw_demo_flowers(folder: Path) -> None:
    """Draws the demo's photos and splits them as any others, once and in the main process."""
    if is_main_process() and not folder.exists():
        print(f'drawing synthetic flowers into {folder}')
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as raw:
            draw_demo_flowers(Path(raw))
            split_dataset(Path(raw), folder)
    barrier()


def _claim_work_dir(folder: Path, replace: bool) -> BinaryIO | None:
    """Locks the work dir for the main process and removes leftovers, or the run in it; returns the open lock."""
    lock = None
    if is_main_process():
        lock = lock_folder(folder)
        if replace and _holds_run(folder):
            print(f'replacing the last demo run in {folder}')
            shutil.rmtree(folder)
            lock = lock_folder(folder)
        remove_leftovers(folder)
    barrier()
    return lock


def _begin_resume(folder: Path, found: FoundCheckpoint | None) -> None:
    """Renames what no later resume must take, and says where this one begins."""
    if is_main_process():
        for line in set_others_aside(folder, found):
            print(line)
    _print(f'resuming from {found.path}' if found else f'no checkpoint in {folder}: starting from scratch')
    barrier()


def _print(line: str) -> None:
    if is_main_process():
        print(line)


def _dry_run(run: Run) -> int:
    """Checks the built run in a temporary work dir."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, suppress(DryRunDone):
        run.cfg.work_dir = folder
        runner = PreparedRunner.from_run(run)
        runner.register_hook(PreflightHook(run, dry_run=True))
        runner.train()
    return 1 if run.warnings else 0


def _run(run: Run, probe: bool) -> Runner:
    """Builds the runner and trains; returns it."""
    runner = PreparedRunner.from_run(run)
    runner.register_hook(PreflightHook(run))
    with nullcontext() if probe else stop_signals_caught():  # a probe has no state to save in its middle
        runner.train()
    return runner


def seed_problems(seeds: Sequence[int]) -> list[str]:
    """A line for each problem with the seeds of several runs: values that NumPy does not take, and duplicates."""
    problems = [f'--seeds {seed}: must be 0 to {2**32 - 1}' for seed in seeds if not 0 <= seed < 2**32]
    if len(set(seeds)) < len(seeds):
        problems.append(f'--seeds {" ".join(map(str, seeds))}: one of them is given twice')
    return problems


def run_summary(runner: Runner, demo: bool = False) -> str:
    """The closing block of a finished training: best and last score, the best weights, the next commands."""
    work_dir = Path(runner.cfg.work_dir)
    config = work_dir / Path(runner.cfg.filename).name
    best = next((hook for hook in runner.hooks if isinstance(hook, BestCheckpointHook)), None)
    if best is None or best.best_value is None:
        weights = newest_checkpoint(work_dir)
        reason = f'{best.metric} was never finite' if best else 'the config has no BestCheckpointHook'
        reason = 'nothing was validated' if runner.val_loop is None else reason
        lines = [f'no best.pth:   {reason}', f'last weights:  {weights}']
    else:
        weights, n = work_dir / best.filename, len(runner.val_dataloader.dataset)
        metric = 'top-1' if best.metric == 'accuracy/top1' else best.metric
        label = f'{metric} on {"synthetic pictures" if demo else "validation photos"}:'
        lines = [f'{label} best {format_score(best.metric, best.best_value, n)}, {best.best_at}']
        if best.last_value is not None:
            last = format_score(best.metric, best.last_value, n)
            lines.append(f'{"":{len(label)}} last {last}, {progress_text(runner)}')
        lines.append(f'best weights:  {weights}')
    lines += [
        f'test:          {command_line("tools/test.py", config, weights or "CHECKPOINT")}',
        f'watch:         {command_line("tensorboard", "--logdir", work_dir)}',
    ]
    if demo:
        lines.append('your photos:   python tools/split_dataset.py PHOTOS data/flowers')
    return '\n'.join(['', '-' * 80, *lines, '-' * 80])


def format_score(metric: str, value: float, n: int) -> str:
    """Top-1 accuracy, in percent of ``n`` photos, with its count and interval; any other value as it is."""
    if metric == 'accuracy/top1' and math.isfinite(value):
        return str(Proportion(round(value * n / 100), n))
    return f'{value:.4g}'
