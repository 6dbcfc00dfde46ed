"""Alarms during training: a loss that is not finite is an error, an implausible validation a warning."""

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.engine.loops import counts_epochs, progress_text, steps_done
from custom_modules.errors import LocalError
from custom_modules.models.checkpoints import newest_checkpoint

IMAGES_NAMED = 32


@HOOKS.register_module()
class AlarmsHook(Hook):
    """Reports a training that goes wrong.

    - A loss that is not finite ends the run and names the batch's images. Weights that are not finite are not saved.
    - Two warnings, if found twice in a row or in the last epoch: all validation images get the same prediction (often
      ``train`` and ``val`` were read as classes), or the validation accuracy is near chance although the training
      accuracy is ``learned`` (often labels in another order). Too large a learning rate can have the same effects.

    Args:
        learned: Training accuracy, in percent, from which a validation near chance is suspicious. Defaults to 80.0.
        margin: How far above chance, in points, still counts as chance. Defaults to 10.0.
        accuracy: Key of the validation accuracy, in percent. Defaults to 'accuracy/top1'.

    Raises:
        LocalError: The loss or the weights are not finite.
    """

    priority = 'ABOVE_NORMAL'  # before anything is logged or saved

    def __init__(self, learned: float = 80.0, margin: float = 10.0, accuracy: str = 'accuracy/top1') -> None:
        self.learned = learned
        self.margin = margin
        self.accuracy = accuracy
        self._suspected: set[str] = set()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        loss = outputs['loss'].item() if outputs and 'loss' in outputs else 0.0
        if not math.isfinite(loss):
            lr = max(group['lr'] for group in runner.optim_wrapper.param_groups)
            paths = [str(sample.get('img_path')) for sample in data_batch['data_samples'][:IMAGES_NAMED]]
            raise LocalError(
                f'loss is {loss} in iteration {runner.iter + 1} (epoch {runner.epoch + 1}, lr {lr:.4g}) on '
                f'{", ".join(paths)}. Lower the learning rate, or check these images; the last good state is '
                f'{last_good_state(runner)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        broken = [key for key, value in checkpoint['state_dict'].items() if not torch.isfinite(value).all()]
        if broken:
            raise LocalError(
                f'{len(broken)} weights are not finite after iteration {runner.iter + 1} (the first: {broken[0]}). '
                f'Lower the learning rate; the last good state is {last_good_state(runner)}'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        self._predicted: set[int] = set()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._predicted.update(int(sample.pred_score.argmax()) for sample in outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        classes = runner.val_dataloader.dataset.metainfo.get('classes') or ()
        score = (metrics or {}).get(self.accuracy)
        if len(classes) < 2 or score is None or get_rank() != 0:  # each rank has a regular sample of the images
            return
        found = {}
        if len(self._predicted) == 1:
            name = classes[self._predicted.pop()]
            found['one class'] = (
                f'all validation images are predicted as {name!r} ({score:.4g} % is its share). If train and val are '
                'folders, not classes, point at the prepared dataset; else lower the learning rate'
            )
        logged = runner.message_hub.log_scalars.get('train/accuracy_top-1')
        trained = logged.mean(len(runner.train_dataloader)) if logged else 0.0
        if trained >= self.learned and score <= 100 / len(classes) + self.margin:
            found['at chance'] = (
                f'training accuracy is {trained:.4g} %, validation {score:.4g} %, about chance: val labels may have '
                'another order. Compare train.txt and val.txt with classes.txt (tools/generate_metadata.py writes '
                'them again), or lower the learning rate'
            )
        for kind, message in found.items():
            ended = steps_done(runner) >= (runner.max_epochs if counts_epochs(runner) else runner.max_iters)
            if kind in self._suspected or ended:
                runner.logger.warning(f'after {progress_text(runner)}: {message}')
        self._suspected = set(found)


def last_good_state(runner: Runner) -> str:
    """The newest checkpoint that a run can be resumed from."""
    return str(newest_checkpoint(Path(runner.work_dir)) or 'the start')
