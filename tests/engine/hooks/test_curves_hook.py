"""The figures of each epoch in the log, TensorBoard, checkpoints and curves.png."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.hooks import Hook
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from custom_modules.engine.hooks.curves_hook import CurvesHook, epoch_line
from custom_modules.metrics.curves import draw_curves, save_figure
from custom_modules.metrics.nll_metric import MeanNLL


class Batches(Hook):
    """Notes loss, accuracy and size of every training batch."""

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rows.append(
            (float(outputs['loss'].detach()), float(outputs['accuracy_top-1']), len(data_batch['inputs']))
        )


def log_text(work_dir: Path) -> str:
    return ''.join(file.read_text() for file in work_dir.rglob('*.log'))


def record(epoch: int = 1, **changes: float | None) -> dict:
    losses, accuracies = {'train_loss': 0.5, 'val_loss': 0.4}, {'train_accuracy': 80.0, 'val_accuracy': 87.5}
    return {'epoch': epoch, 'lr': 0.01, 'seconds': 62.0, **losses, **accuracies, **changes}


def test_history_is_the_mean_over_images_in_log_and_tensorboard(tiny_run, tmp_path):
    hook, batches = CurvesHook(), Batches()
    visualizer = {'type': 'UniversalVisualizer', 'vis_backends': [{'type': 'TensorboardVisBackend'}]}
    tiny_run([hook, batches], accuracies=[50.0, 75.0], metrics=[MeanNLL()], visualizer=visualizer).train()
    rows = np.array(batches.rows[3:])
    assert rows[:, 2].tolist() == [3, 3, 2]
    first, second = hook.history
    assert second['train_loss'] == pytest.approx(np.average(rows[:, 0], weights=rows[:, 2]))
    assert second['train_accuracy'] == pytest.approx(np.average(rows[:, 1], weights=rows[:, 2]))
    assert (first['epoch'], second['epoch']) == (1, 2)
    assert (first['lr'], second['lr']) == pytest.approx((0.5, 0.05))
    assert second['val_loss'] < first['val_loss'] < math.log(2) + 0.1
    text = log_text(tmp_path)
    assert text.count('epoch 1/2  lr 0.5  train loss') == 1
    assert f'val loss {second["val_loss"]:.4f} acc 75.00 % (6/8)' in text
    events = EventAccumulator(str(next(tmp_path.glob('*/vis_data'))))
    events.Reload()
    assert [(row.step, row.value) for row in events.Scalars('epoch/accuracy_val')] == [(1, 50.0), (2, 75.0)]
    tags = {f'epoch/{name}' for name in ('lr', 'loss_train', 'loss_val', 'accuracy_train', 'accuracy_val')}
    assert tags <= set(events.Tags()['scalars'])


def test_without_validation_and_accuracy(tiny_run, tmp_path):
    class NoAccuracy(Hook):
        priority = 'VERY_HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            del outputs['accuracy_top-1']

    tiny_run([NoAccuracy(), CurvesHook()], validate=False).train()
    text = log_text(tmp_path)
    assert 'epoch 2/2  lr 0.05  train loss' in text
    assert ' acc ' not in text
    assert (tmp_path / 'curves.png').is_file()


def test_line():
    assert epoch_line(record(epoch=3), epochs=20, images=456) == (
        'epoch 3/20  lr 0.01  train loss 0.5000 acc 80.00 %  val loss 0.4000 acc 87.50 % (399/456)  62 s'
    )
    bare = record(train_accuracy=None, val_loss=None, val_accuracy=None, seconds=1.23)
    assert epoch_line(bare, epochs=1, images=0) == 'epoch 1/1  lr 0.01  train loss 0.5000  1.2 s'
    assert 'acc nan %' in epoch_line(record(val_accuracy=math.nan), epochs=1, images=8)


HISTORIES = {
    'one epoch': [record()],
    'twenty': [record(epoch, lr=0.1 / epoch, val_accuracy=60 + epoch) for epoch in range(1, 21)],
    'diverged': [record(1), record(2, val_loss=1e6), record(3, val_loss=math.inf, val_accuracy=math.nan)],
    'nothing but losses': [record(1, train_accuracy=None, val_loss=None, val_accuracy=None)],
    'nothing finite': [record(1, train_loss=math.nan, val_loss=math.nan, val_accuracy=math.nan)],
    'validated every other epoch': [record(1, val_loss=None, val_accuracy=None), record(2)],
    'no learning rate': [record(1, lr=0.0)],
}


@pytest.mark.parametrize('history', HISTORIES.values(), ids=HISTORIES.keys())
def test_picture_opens(history, tmp_path):
    save_figure(draw_curves(history), tmp_path / 'curves.png')
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape == (1020, 960, 3)
    assert not list(tmp_path.glob('.*'))
