"""Sums up each epoch: a line of text, the training curves as a picture, and scalars for TensorBoard."""

import math
import time
from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.metrics.curves import draw_curves, save_figure


@HOOKS.register_module()
class CurvesHook(Hook):
    """Sums up every epoch: prints a line, redraws the curves, adds scalars to the visualizer.

    The scalars are ``epoch/lr``, ``epoch/loss_train``, ``epoch/loss_val``, ``epoch/accuracy_train``,
    ``epoch/accuracy_val`` and ``epoch/seconds`` with the epoch as step. Losses and accuracies of training are means
    over the epoch's photos on all ranks, measured during the epoch and with augmentation. The history is saved in the
    checkpoints, so that the curves of a resumed run begin at epoch 1.

    Train accuracy comes from a head with ``cal_acc=True``, validation loss from the metric ``MeanNLL``; values that a
    config does not compute are left out.

    Args:
        filename: Name of the picture in the work dir. Defaults to 'curves.png'.
        accuracy: Key of the validation accuracy, in percent. Defaults to 'accuracy/top1'.
        loss: Key of the validation loss. Defaults to 'nll/mean'.

    Attributes:
        history: One record per epoch: ``epoch`` (from 1), ``lr`` (at its start), ``train_loss``,
            ``train_accuracy``, ``val_loss``, ``val_accuracy`` (percent; None where not known), ``seconds``.
    """

    # After LoggerHook, whose line of the validation comes first; before CheckpointHook, which saves the history.
    priority = 'LOW'

    def __init__(self, filename: str = 'curves.png', accuracy: str = 'accuracy/top1', loss: str = 'nll/mean') -> None:
        self.filename = filename
        self.accuracy = accuracy
        self.loss = loss
        self.history: list[dict] = []
        self._reported = True
        self._sums: list[torch.Tensor] = []
        self._resumed: dict | None = None
        self._began: float | None = None

    def before_train_epoch(self, runner: Runner) -> None:
        self._report(runner)
        if self._resumed is not None:  # in the middle of this epoch
            self._began = time.monotonic() - self._resumed['seconds']
            self._lr, self._sums = self._resumed['lr'], list(self._resumed['sums'])
            self._resumed = None
            return
        self._began = time.monotonic()
        rates = runner.optim_wrapper.get_lr()
        self._lr = float(rates.get('base_lr', rates['lr'])[0])  # base_lr is there with paramwise_cfg
        self._sums = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        assert data_batch is not None
        assert outputs is not None
        loss = outputs['loss'].detach().float()
        accuracy = outputs.get('accuracy_top-1')
        accuracy = torch.full_like(loss, math.nan) if accuracy is None else accuracy.detach().float()
        # Kept on its device: reading the numbers would make the GPU wait at every iteration.
        self._sums.append(torch.stack([loss, accuracy, torch.ones_like(loss)]) * len(data_batch['inputs']))

    def after_train_epoch(self, runner: Runner) -> None:
        total = torch.stack(self._sums).sum(dim=0)
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
                'seconds': self._seconds(),
            }
        )
        self._reported = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self.history:
            return
        record = self.history[-1]
        record['val_loss'] = (metrics or {}).get(self.loss)
        record['val_accuracy'] = (metrics or {}).get(self.accuracy)
        record['seconds'] = self._seconds() or record['seconds']
        self._reported = False
        self._report(runner)

    def after_train(self, runner: Runner) -> None:
        self._report(runner)

    def _seconds(self) -> float | None:
        """Since the epoch began; None for one that began before a resume."""
        return None if self._began is None else time.monotonic() - self._began

    def _report(self, runner: Runner) -> None:
        """Reports the last epoch once: after its validation, or without one when the next epoch begins."""
        reported, self._reported = self._reported, True
        if reported or not is_main_process():
            return
        record = self.history[-1]
        photos = len(runner.val_dataloader.dataset) if runner.val_loop is not None else 0
        runner.logger.info(epoch_line(record, runner.max_epochs, photos))
        # 'train_loss' is 'epoch/loss_train', so that TensorBoard shows both losses side by side
        known = {key: value for key, value in record.items() if value is not None and key != 'epoch'}
        tags = {key: '_'.join(reversed(key.split('_'))) for key in known}
        runner.visualizer.add_scalars({f'epoch/{tags[key]}': known[key] for key in known}, step=record['epoch'])
        save_figure(draw_curves(self.history), Path(runner.work_dir) / self.filename)

    def rank_state(self) -> dict:
        """What this rank gathered in the epoch so far; see MidEpochCheckpointHook."""
        return {'lr': self._lr, 'sums': torch.stack(self._sums).cpu(), 'seconds': self._seconds() or 0.0}

    def resume_rank_state(self, runner: Runner, state: dict) -> None:
        """Restores it."""
        device = next(runner.model.parameters()).device
        self._resumed = {**state, 'sums': state['sums'].to(device)}
        self._reported = True  # the epoch before

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['CurvesHook'] = {'history': [dict(record) for record in self.history]}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and 'CurvesHook' in checkpoint:
            self.history = [dict(record) for record in checkpoint['CurvesHook']['history']]
            self._reported = False  # the checkpoint was saved before the report


def epoch_line(record: dict, epochs: int, photos: int) -> str:
    """One line on an epoch: ``epoch 3/20  lr 0.001  train loss 0.41 acc 85.2 %  val loss …  62 s``.

    Args:
        record: A record of :attr:`CurvesHook.history`.
        epochs: How many epochs the run is to have.
        photos: How many photos were validated.
    """
    parts = [f'epoch {record["epoch"]}/{epochs}', f'lr {record["lr"]:.4g}']
    for subset in ('train', 'val'):
        loss, accuracy = record[f'{subset}_loss'], record[f'{subset}_accuracy']
        words = [] if loss is None else [f'loss {loss:.4f}']
        if accuracy is not None:
            words.append(f'acc {accuracy:.2f} %')
            if subset == 'val' and math.isfinite(accuracy):
                words.append(f'({round(accuracy / 100 * photos)}/{photos})')
        if words:
            parts.append(' '.join([subset, *words]))
    if record['seconds'] is not None:
        parts.append(f'{record["seconds"]:.0f} s' if record['seconds'] >= 10 else f'{record["seconds"]:.1f} s')
    return '  '.join(parts)
