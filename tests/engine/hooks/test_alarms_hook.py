"""Alarms: losses and weights that are not finite, and suspicious validations."""

import math
import re

import pytest
import torch
from mmengine.hooks import Hook

from custom_modules.engine.hooks.alarms_hook import AlarmsHook
from custom_modules.errors import LocalError


class Spoil(Hook):
    """Makes a weight NaN before (or after) an iteration, counted from 0."""

    def __init__(self, iteration: int, after: bool = False):
        self.iteration, self.after = iteration, after

    def _spoil(self, runner, batch_idx, wanted):
        if runner.iter == self.iteration and wanted:
            with torch.no_grad():
                runner.model.fc.bias[0] = math.nan

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._spoil(runner, batch_idx, not self.after)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._spoil(runner, batch_idx, self.after)


def warnings_of(work_dir):
    """The warnings in the one log of a run."""
    (log,) = work_dir.glob('*/*.log')
    return re.findall(r'WARNING - (after epoch .*)', log.read_text())


def test_a_loss_that_is_not_finite_names_its_photos_and_keeps_the_last_good_state(tiny_run, tmp_path):
    with pytest.raises(LocalError) as caught:
        tiny_run([AlarmsHook(), Spoil(4)], epochs=3).train()
    message = str(caught.value)
    assert 'loss is nan in iteration 5 (epoch 2, lr 0.05)' in message
    assert len(re.findall(r'\d\.jpg', message)) == 3
    assert message.endswith(f'the last good state is {tmp_path / "epoch_1.pth"}')
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']


def test_weights_that_are_not_finite_are_not_saved(tiny_run, tmp_path):
    with pytest.raises(LocalError, match=r'1 weights are not finite .*fc.bias.*last good state is .*epoch_1.pth'):
        tiny_run([AlarmsHook(), Spoil(5, after=True)], epochs=3).train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']


def test_one_class_for_all_photos_twice_in_a_row(tiny_run, tmp_path):
    frozen = {'optimizer': {'type': 'SGD', 'lr': 0.0}}
    tiny_run([AlarmsHook()], epochs=3, optim_wrapper=frozen).train()
    first, second = warnings_of(tmp_path)
    assert first.startswith('after epoch 2: all validation images are predicted as ')
    assert '(50 % is its share)' in first
    assert second.startswith('after epoch 3: ')


def test_learned_in_training_but_at_chance_in_validation(tiny_run, tmp_path):
    hook = AlarmsHook(learned=45.0)
    tiny_run([hook], epochs=4, accuracies=[55.0, 90.0, 55.0, 60.0]).train()
    warned = [text for text in warnings_of(tmp_path) if 'about chance' in text]
    assert len(warned) == 1  # the first time may be chance, and 90 % ended it
    assert re.match(r'after epoch 4: training accuracy is [\d.]+ %, validation 60 %, about chance', warned[0])


def test_a_sound_training_is_not_warned_of(tiny_run, tmp_path):
    steady = {'type': 'StepLR', 'step_size': 100}
    tiny_run([AlarmsHook()], epochs=8, accuracies=[50.0, 50.0, *[90.0] * 6], param_scheduler=steady).train()
    assert warnings_of(tmp_path) == []
