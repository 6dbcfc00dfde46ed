"""Sums up each epoch: a line of text, the training curves as a picture, and scalars for TensorBoard."""

import math
import time
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.engine.loops import validation_due
from custom_modules.metrics.curves import draw_curves, save_figure


@HOOKS.register_module()
class CurvesHook(Hook):
    """Sums up every epoch: prints a line, redraws the curves, adds scalars to the visualizer.

    The scalars are ``epoch/lr``, ``epoch/loss_train``, ``epoch/loss_val``, ``epoch/accuracy_train``,
    ``epoch/accuracy_val`` and ``epoch/seconds``. Losses and accuracies of training are means over the epoch's images
    on all ranks, with augmentation. Checkpoints hold the history, so a resumed run's curves begin at epoch 1.

    Train accuracy comes from a head with ``cal_acc=True``, validation loss from the metric ``MeanNLL``.

    Args:
        filename: Name of the picture in the work dir. Defaults to 'curves.png'.
        accuracy: Key of the validation accuracy, in percent. Defaults to 'accuracy/top1'.
        loss: Key of the validation loss. Defaults to 'nll/mean'.

    Attributes:
        history: One record per epoch: ``epoch`` (from 1), ``lr`` (at its start), ``train_loss``,
            ``train_accuracy``, ``val_loss``, ``val_accuracy`` (percent; None where not known), ``seconds``.
        sums: (3,) float32, this rank's sums over the epoch so far: loss, accuracy and count of the images.
    """

    # After LoggerHook, whose line of the validation comes first; before CheckpointHook, which saves the history.
    priority = 'LOW'

    def __init__(self, filename: str = 'curves.png', accuracy: str = 'accuracy/top1', loss: str = 'nll/mean') -> None:
        self.filename = filename
        self.accuracy = accuracy
        self.loss = loss
        self.history: list[dict] = []
        self._lr = math.nan
        self._elapsed = 0.0  # seconds of a resumed epoch before the resume
        self._began = 0.0

    def before_train(self, runner: Runner) -> None:
        self.sums = torch.zeros(3, device=next(runner.model.parameters()).device)

    def before_train_epoch(self, runner: Runner) -> None:
        if not getattr(runner.train_loop, 'first_batch', 0):  # otherwise resumed in the middle of this epoch
            self.sums.zero_()
            self._elapsed = 0.0
            rates = runner.optim_wrapper.get_lr()
            self._lr = float(rates.get('base_lr', rates['lr'])[0])  # base_lr is there with paramwise_cfg
        self._began = time.monotonic() - self._elapsed

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        assert data_batch is not None
        assert outputs is not None
        loss = outputs['loss'].detach().float()
        accuracy = outputs.get('accuracy_top-1', torch.full_like(loss, math.nan)).detach().float()
        # Kept on its device: reading the numbers would make the GPU wait at every iteration.
        self.sums += torch.stack([loss, accuracy, torch.ones_like(loss)]) * len(data_batch['inputs'])

    def after_train_epoch(self, runner: Runner) -> None:
        total = self.sums.clone()
        all_reduce(total)
        loss, accuracy, count = total.tolist()
        self.history.append(
            {
                'epoch': runner.epoch + 1,
                'lr': self._lr,
                'train_loss': loss / count,
                'train_accuracy': None if math.isnan(accuracy) else accuracy / count,
                'val_loss': None,
                'val_accuracy': None,
                'seconds': time.monotonic() - self._began,
            }
        )
        if not validation_due(runner, runner.epoch + 1):
            self._report(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self.history:
            return
        found = metrics or {}
        self.history[-1].update(val_loss=found.get(self.loss), val_accuracy=found.get(self.accuracy))
        if self._began:  # otherwise the epoch was trained before a resume, and its time is known
            self.history[-1]['seconds'] = time.monotonic() - self._began
        self._report(runner)

    @master_only
    def _report(self, runner: Runner) -> None:
        """Reports the last epoch: after its validation, if it has one."""
        record = self.history[-1]
        images = len(runner.val_dataloader.dataset) if runner.val_loop is not None else 0
        runner.logger.info(epoch_line(record, runner.max_epochs, images))
        # 'train_loss' is 'epoch/loss_train', so that TensorBoard shows both losses side by side
        known = {key: value for key, value in record.items() if value is not None and key != 'epoch'}
        scalars = {'epoch/' + '_'.join(reversed(key.split('_'))): value for key, value in known.items()}
        runner.visualizer.add_scalars(scalars, step=record['epoch'])
        save_figure(draw_curves(self.history), Path(runner.work_dir) / self.filename)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['CurvesHook'] = {
            'history': deepcopy(self.history),
            'lr': self._lr,
            'seconds': time.monotonic() - self._began,
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and (state := checkpoint.get('CurvesHook')):
            self.history = deepcopy(state['history'])
            self._lr, self._elapsed = state.get('lr', math.nan), state.get('seconds', 0.0)


def epoch_line(record: dict, epochs: int, images: int) -> str:
    """One line on an epoch of ``epochs``: ``epoch 3/20  lr 0.001  train loss 0.41 acc 85.2 %  val loss …  62 s``."""
    parts = [f'epoch {record["epoch"]}/{epochs}  lr {record["lr"]:.4g}']
    for subset in ('train', 'val'):
        loss, accuracy = record[f'{subset}_loss'], record[f'{subset}_accuracy']
        known = [] if loss is None else [f'loss {loss:.4f}']
        if accuracy is not None:
            known.append(f'acc {accuracy:.2f} %')
            if subset == 'val' and math.isfinite(accuracy):
                known.append(f'({round(accuracy / 100 * images)}/{images})')
        if known:
            parts.append(' '.join([subset, *known]))
    seconds = record['seconds']
    parts.append(f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.1f} s')
    return '  '.join(parts)
