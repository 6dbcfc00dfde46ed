"""The closing block of a training: best and last score, where the weights are, what to do next. It judges nothing."""

import math
import shlex
from pathlib import Path

from mmengine.runner import Runner

from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.metrics.predictions import Proportion
from custom_modules.models.checkpoints import newest_checkpoint


def run_summary(runner: Runner, demo: bool = False) -> str:
    """The lines that a finished training ends with; ``demo`` calls its data synthetic."""
    work_dir = Path(runner.cfg.work_dir)
    config = work_dir / Path(runner.cfg.filename).name
    best = next((hook for hook in runner.hooks if isinstance(hook, BestCheckpointHook)), None)
    if best is None or best.best_value is None:
        weights = newest_checkpoint(work_dir)
        reason = 'nothing was validated' if best is None else f'{best.metric} was never finite'
        lines = [f'no best.pth:   {reason}', f'last weights:  {weights}']
    else:
        weights = work_dir / best.filename
        photos = 'synthetic pictures' if demo else 'validation photos'
        n = len(runner.val_dataloader.dataset)
        label = f'{"top-1" if best.metric == "accuracy/top1" else best.metric} on {photos}:'
        lines = [f'{label} best {format_score(best.metric, best.best_value, n)}, epoch {best.best_epoch}']
        if best.last_value is not None:
            last = format_score(best.metric, best.last_value, n)
            lines.append(f'{"":{len(label)}} last {last}, epoch {runner.epoch}')
        lines.append(f'best weights:  {weights}')
    lines.append(f'test:          {shlex.join(["python", "tools/test.py", str(config), str(weights)])}')
    lines.append(f'watch:         tensorboard --logdir {shlex.quote(str(work_dir))}')
    if demo:
        lines.append('your photos:   python tools/split_dataset.py PHOTOS data/flowers')
    return '\n'.join(['', '-' * 80, *lines, '-' * 80])


def format_score(metric: str, value: float, n: int) -> str:
    """Top-1 accuracy, in percent of ``n`` photos, with its count and interval; any other value as it is."""
    if metric == 'accuracy/top1' and math.isfinite(value):
        return str(Proportion(round(value * n / 100), n))
    return f'{value:.4g}'
