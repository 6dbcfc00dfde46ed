"""Alarms during training: a loss that is not finite ends the run, an implausible validation is warned of."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.errors import LocalError
from custom_modules.models.checkpoints import newest_checkpoint

PHOTOS_NAMED = 32


@HOOKS.register_module()
class AlarmsHook(Hook):
    """Reports a training that goes wrong.

    - A loss that is not finite ends the run and names the batch's photos. Weights that are not finite are never
      saved, so the newest checkpoint stays the last good state.
    - Warnings, when met twice in a row or in the last epoch: all validation photos get the same prediction, as from a
      folder read as if ``train`` and ``val`` were its classes; or the training accuracy is ``learned`` or more and the
      validation accuracy at most ``margin`` above chance, as from labels in another order. A learning rate that is too
      large can look alike, so neither ends the run.

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
        self._train_accuracies: list[float] = []
        self._predicted: set[int] = set()
        self._suspected: set[str] = set()

    def before_train_epoch(self, runner: Runner) -> None:
        self._train_accuracies = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        outputs = outputs or {}
        if 'accuracy_top-1' in outputs:
            self._train_accuracies.append(float(outputs['accuracy_top-1']))
        loss = outputs['loss'].item() if 'loss' in outputs else 0.0
        if not math.isfinite(loss):
            lr = max(group['lr'] for group in runner.optim_wrapper.param_groups)
            raise LocalError(
                f'loss is {loss} in iteration {runner.iter + 1} (epoch {runner.epoch + 1}, lr {lr:.4g}) on '
                f'{photos(data_batch)}; lower the learning rate, or look at these photos; the last good state is '
                f'{kept(runner)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        broken = [key for key, value in checkpoint['state_dict'].items() if not torch.isfinite(value).all()]
        if broken:
            raise LocalError(
                f'{len(broken)} weights are not finite after iteration {runner.iter + 1} (the first: {broken[0]}): '
                f'not saved; lower the learning rate; the last good state is {kept(runner)}'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        self._predicted = set()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        self._predicted.update(int(sample.pred_score.argmax()) for sample in outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        classes = runner.val_dataloader.dataset.metainfo.get('classes') or ()
        score = (metrics or {}).get(self.accuracy)
        if len(classes) < 2 or score is None or get_rank() != 0:  # each rank sees a regular sample of the photos
            return
        found = {}
        if len(self._predicted) == 1:
            name = classes[next(iter(self._predicted))]
            found['one class'] = (
                f'all validation photos are predicted as {name!r} ({score:.4g} % is its share): if train and val are '
                'folders, not classes, point at the prepared dataset; else lower the learning rate'
            )
        trained = sum(self._train_accuracies) / max(len(self._train_accuracies), 1)
        if trained >= self.learned and score <= 100 / len(classes) + self.margin:
            found['at chance'] = (
                f'training accuracy is {trained:.4g} %, validation {score:.4g} %, about chance: the labels of val may '
                'follow another order than those of train; compare both lists with classes.txt '
                '(tools/generate_metadata.py writes them again), or lower the learning rate'
            )
        for kind, message in found.items():
            if kind in self._suspected or runner.epoch >= runner.max_epochs:
                runner.logger.warning(f'after epoch {runner.epoch}: {message}')
        self._suspected = set(found)


def photos(data_batch: Any) -> str:
    """The photos of a batch, in one line."""
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    paths = [str(sample.get('img_path')) for sample in samples]
    rest = len(paths) - PHOTOS_NAMED
    return (', '.join(paths[:PHOTOS_NAMED]) or 'an unknown batch') + (f' and {rest} more' if rest > 0 else '')


def kept(runner: Runner) -> str:
    """The newest checkpoint that a run can be resumed from."""
    return str(newest_checkpoint(Path(runner.work_dir)) or 'the start')
