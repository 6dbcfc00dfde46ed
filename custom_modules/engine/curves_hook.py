"""Tells how training goes, epoch by epoch: a line of text, a point on each curve, scalars for TensorBoard."""

import math
import os
import time
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

TRAIN, VAL, LR = '#0072B2', '#D55E00', '#000000'  # blue, vermillion, black of Okabe and Ito's colour-blind-safe set


@HOOKS.register_module()
class CurvesHook(Hook):
    """Sums up every epoch: prints a line, redraws the curves, adds scalars to the visualizer.

    The scalars are ``epoch/lr``, ``epoch/loss_train``, ``epoch/loss_val``, ``epoch/accuracy_train`` and
    ``epoch/accuracy_val`` with the epoch as step. Losses and accuracies of training are means over the epoch's photos
    on all ranks, as they were while it went on: with augmentation, and before the epoch's end. The history goes into
    the checkpoints, so that the curves of a resumed run begin at epoch 1.

    Train accuracy comes from a head with ``cal_acc=True``, validation loss from the metric ``MeanNLL``; what a config
    does not compute is left out.

    Args:
        filename (str): Name of the picture in the work dir. Defaults to 'curves.png'.
        accuracy (str): Key of the validation accuracy, in percent. Defaults to 'accuracy/top1'.
        loss (str): Key of the validation loss. Defaults to 'loss/nll'.

    Attributes:
        history (list[dict]): One record an epoch: ``epoch`` (from 1), ``lr`` (at its start), ``train_loss``,
            ``train_accuracy``, ``val_loss``, ``val_accuracy`` (percent; None where not known), ``seconds``.
    """

    # Behind LoggerHook, whose line of the validation comes first; before CheckpointHook, which saves the history.
    priority = 'LOW'

    def __init__(self, filename: str = 'curves.png', accuracy: str = 'accuracy/top1', loss: str = 'loss/nll') -> None:
        self.filename = filename
        self.accuracy = accuracy
        self.loss = loss
        self.history: list[dict] = []
        self._told = True
        self._training = False

    def before_train(self, runner: Runner) -> None:
        self._training = True
        self._began: float | None = None

    def before_train_epoch(self, runner: Runner) -> None:
        self._tell(runner)
        self._began = time.monotonic()
        rates = runner.optim_wrapper.get_lr()
        self._lr = float(rates.get('base_lr', rates['lr'])[0])  # base_lr is there with paramwise_cfg
        self._sums: list[torch.Tensor] = []

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
        self._told = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self._training or not self.history:
            return
        record = self.history[-1]
        record['val_loss'] = (metrics or {}).get(self.loss)
        record['val_accuracy'] = (metrics or {}).get(self.accuracy)
        record['seconds'] = self._seconds() or record['seconds']
        self._told = False
        self._tell(runner)

    def after_train(self, runner: Runner) -> None:
        self._tell(runner)

    def _seconds(self) -> float | None:
        """Since the epoch began; None for one that began before a resume."""
        return None if self._began is None else time.monotonic() - self._began

    def _tell(self, runner: Runner) -> None:
        """Tells of the last epoch, once: after its validation, or where it has none, when the next one begins."""
        if self._told:
            return
        self._told = True
        if not is_main_process():
            return
        record = self.history[-1]
        photos = len(runner.val_dataloader.dataset) if runner.val_loop is not None else 0
        runner.logger.info(epoch_line(record, runner.max_epochs, photos))
        scalars = {
            'epoch/lr': record['lr'],
            'epoch/loss_train': record['train_loss'],
            'epoch/loss_val': record['val_loss'],
            'epoch/accuracy_train': record['train_accuracy'],
            'epoch/accuracy_val': record['val_accuracy'],
        }
        known = {tag: value for tag, value in scalars.items() if value is not None}
        runner.visualizer.add_scalars(known, step=record['epoch'])
        save_figure(draw_curves(self.history), Path(runner.work_dir) / self.filename)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['CurvesHook'] = {'history': [dict(record) for record in self.history]}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and 'CurvesHook' in checkpoint:
            self.history = [dict(record) for record in checkpoint['CurvesHook']['history']]


def epoch_line(record: dict, epochs: int, photos: int) -> str:
    """One line on an epoch: ``epoch 3/20  lr 0.001  train loss 0.41 acc 85.2 %  val loss …  62 s``.

    Args:
        record: A record of :attr:`CurvesHook.history`.
        epochs: How many epochs the run is to have.
        photos: How many photos were validated.
    """
    parts = [f'epoch {record["epoch"]}/{epochs}', f'lr {record["lr"]:.4g}']
    for side in ('train', 'val'):
        loss, accuracy = record[f'{side}_loss'], record[f'{side}_accuracy']
        words = [] if loss is None else [f'loss {loss:.4f}']
        if accuracy is not None:
            words.append(f'acc {accuracy:.2f} %')
            if side == 'val' and math.isfinite(accuracy):
                words.append(f'({round(accuracy / 100 * photos)}/{photos})')
        if words:
            parts.append(' '.join([side, *words]))
    if record['seconds'] is not None:
        parts.append(f'{record["seconds"]:.0f} s' if record['seconds'] >= 10 else f'{record["seconds"]:.1f} s')
    return '  '.join(parts)


def draw_curves(history: list[dict]) -> Figure:
    """Accuracy, loss and learning rate over the epochs, one above the other.

    Args:
        history: Records as in :attr:`CurvesHook.history`, at least one. What is None or not finite is left out.
    """
    figure = Figure(figsize=(8, 8.5), layout='constrained')
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.4])
    epochs = [record['epoch'] for record in history]

    val = finite(history, 'val_accuracy')
    draw_pair(top, epochs, finite(history, 'train_accuracy'), val, '{:.1f} %')
    top.set_title('Top-1 accuracy, %', loc='left', fontweight='bold')
    if not all(map(math.isnan, val)):
        best = max(range(len(val)), key=lambda i: -math.inf if math.isnan(val[i]) else val[i])  # the first of equals
        top.plot(epochs[best], val[best], 'o', markersize=11, markerfacecolor='none', color=VAL, markeredgewidth=1.8)
        top.set_title(f'○ best val {val[best]:.2f} %, epoch {epochs[best]}', loc='right', color=VAL, fontsize=11)

    losses = finite(history, 'train_loss'), finite(history, 'val_loss')
    draw_pair(middle, epochs, *losses, '{:.3g}')
    unit = scale_for([*losses[0], *losses[1]], span=100, axes=middle)
    middle.set_title(f'Loss (cross-entropy){unit}', loc='left', fontweight='bold')

    rates = finite(history, 'lr')
    bottom.plot(epochs, rates, color=LR, drawstyle='steps-mid', marker='o', markersize=3.5, linewidth=1.4)
    unit = scale_for(rates, span=10, axes=bottom)
    if not unit:
        bottom.set_ylim(bottom=0)
        bottom.ticklabel_format(axis='y', scilimits=(-4, 4))
    bottom.set_title(f'Learning rate{unit}', loc='left', fontweight='bold')
    bottom.set_xlabel('Epoch')

    for axes in (top, middle, bottom):
        axes.grid(axis='y', color='#DDDDDD', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    bottom.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    return figure


def finite(history: list[dict], key: str) -> list[float]:
    """A column of the history; NaN, which is not drawn, for what is None or not finite."""
    values = [record[key] for record in history]
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def scale_for(values: list[float], span: float, axes: Axes) -> str:
    """Makes the y axis logarithmic where the largest value is over ``span`` times the smallest; says so."""
    seen = [value for value in values if not math.isnan(value)]
    if not seen or min(seen) <= 0 or max(seen) <= span * min(seen):
        return ''
    axes.set_yscale('log')
    return ', log scale'


def draw_pair(axes: Axes, epochs: list[int], train: list[float], val: list[float], form: str) -> None:
    """Both curves, each with its name and last value at its right end."""
    ends = []
    for name, values, colour in (('train', train, TRAIN), ('val', val, VAL)):
        seen = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if not math.isnan(value)]
        if not seen:
            continue
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker='o', markersize=3.5)
        ends.append((seen[-1], f'{name} {form.format(seen[-1][1])}', colour))
    ends.sort(key=lambda end: end[0][1])
    for place, ((_, value), text, colour) in enumerate(ends):
        # The upper one's label grows upwards, the lower one's downwards: they cannot cover each other.
        align = 'center' if len(ends) == 1 else ('top', 'bottom')[place]
        axes.annotate(
            text,
            xy=(1, value),
            xycoords=('axes fraction', 'data'),
            xytext=(6, 0),
            textcoords='offset points',
            va=align,
            color=colour,
            fontsize=11,
            annotation_clip=False,
        )


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG beside ``path`` and moves it into place."""
    beside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        figure.savefig(beside, format='png', dpi=120)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
