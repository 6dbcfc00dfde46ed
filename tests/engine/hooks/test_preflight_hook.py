"""What the built run shows, and that looking at it changes nothing."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from custom_modules.engine.hooks.preflight_hook import PreflightHook, kept_as_is, schedule_problems
from custom_modules.engine.run_config import read_config


def test_a_training_is_the_same_with_and_without_the_preflight(tiny_config, call, tmp_path, monkeypatch):
    config = tiny_config.with_name('once.py')
    read_config(str(tiny_config), {}, None, None).dump(config)
    states = []
    for name in ('with', 'without'):
        if name == 'without':
            monkeypatch.setattr(PreflightHook, 'before_train', lambda self, runner: None)
        options = ('--cfg-options', 'train_cfg.max_epochs=1', f'experiment_name=preflight_{name}')
        result = call('train', config, '--work-dir', tmp_path / name, *options)
        assert result.code == 0, result.err
        assert ('effective settings' in result.out) == (name == 'with')
        states.append(torch.load(tmp_path / name / 'epoch_1.pth', weights_only=False))
    with_, without = states
    assert with_['state_dict'].keys() == without['state_dict'].keys()
    for key, value in with_['state_dict'].items():
        assert torch.equal(value, without['state_dict'][key]), key


def test_a_training_shows_the_table(trained):
    assert 'effective settings\nmodel           MobileNetV2' in trained.result.out
    (log,) = trained.work_dir.glob('*/*.log')
    assert 'effective settings\nmodel           MobileNetV2' in log.read_text()
    assert max(map(len, trained.result.out.split('effective settings\n')[1].split('\n11/')[0].splitlines())) <= 119


@pytest.mark.parametrize(
    ('item', 'epochs', 'iters'),
    [
        ({'type': 'StepLR', 'step_size': 1, 'gamma': 0.98}, 20, 4560),
        ({'type': 'MultiStepLR', 'milestones': [30, 60, 90]}, 100, 5700),
        ({'type': 'CosineAnnealingLR', 'T_max': 95, 'begin': 5, 'end': 100}, 100, 5700),
        ({'type': 'LinearLR', 'by_epoch': False, 'begin': 0, 'end': 2500}, 100, 5700),
        ({'type': 'OneCycleLR', 'total_steps': 14, 'by_epoch': True, 'convert_to_iter_based': True}, 14, 420),
        ({'type': 'CosineAnnealingLR', 'T_max': 4560, 'by_epoch': False}, 20, 4560),
        ({'type': 'ReduceOnPlateauLR', 'monitor': 'nll/mean'}, 20, 4560),
    ],
)
def test_schedules_that_fit(item, epochs, iters):
    assert schedule_problems(item, 'param_scheduler', epochs, iters) == []


@pytest.mark.parametrize(
    ('item', 'epochs', 'iters', 'said'),
    [
        ({'type': 'MultiStepLR', 'milestones': [30, 60]}, 20, 4560, '30, 60 not before the end of 20 epochs'),
        ({'type': 'CosineAnnealingLR', 'T_max': 100}, 20, 4560, 'but it runs for 20 epochs: the lr stays high'),
        ({'type': 'CosineAnnealingLR', 'T_max': 20, 'begin': 5}, 20, 4560, 'set it to 15'),
        ({'type': 'StepLR', 'step_size': 30}, 20, 4560, 'step_size: 30, but it runs for 20 epochs'),
        ({'type': 'OneCycleLR', 'total_steps': 99}, 20, 4560, 'total_steps: 99'),
        ({'type': 'StepLR', 'step_size': 7, 'by_epoch': False}, 15, 855, 'step_size: 7 looks like epochs'),
        ({'type': 'CosineAnnealingLR', 'T_max': 4560}, 20, 4560, 'set it to 20'),
        ({'type': 'MultiStepLR', 'milestones': [2000, 4000]}, 20, 4560, '2000, 4000 not before'),
        ({'type': 'StepLR', 'step_size': 7}, None, 4560, 'it never steps; set by_epoch=False'),
        ({'type': 'LinearLR', 'begin': 30, 'end': 40}, 20, 4560, 'begin: 30, but the run has 20 epochs'),
    ],
)  # fmt: skip
def test_schedules_that_do_not_fit(item, epochs, iters, said):
    (problem,) = schedule_problems(item, 'param_scheduler.3', epochs, iters)
    assert problem.startswith('param_scheduler.3')
    assert said in problem


def test_a_trial_batch_leaves_everything_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3).eval())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    with kept_as_is(model):
        model.train()
        model(torch.randn(8, 3) * 9 + random.random() + np.random.rand())
        assert not torch.equal(model[0].running_mean, before['0.running_mean'])
        model.eval()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])
