"""Checks of the built run, and that they change nothing in it."""

import pytest
import torch

from custom_modules.engine.hooks.preflight_hook import PreflightHook, schedule_problems
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


@pytest.mark.parametrize(
    ('item', 'epochs', 'iters', 'said'),
    [
        ({'type': 'MultiStepLR', 'milestones': [30, 60, 90]}, 100, 5700, ''),
        ({'type': 'CosineAnnealingLR', 'T_max': 95, 'begin': 5, 'end': 100}, 100, 5700, ''),
        ({'type': 'LinearLR', 'by_epoch': False, 'begin': 0, 'end': 2500}, 100, 5700, ''),
        ({'type': 'OneCycleLR', 'total_steps': 14, 'by_epoch': True, 'convert_to_iter_based': True}, 14, 420, ''),
        ({'type': 'CosineAnnealingLR', 'T_max': 4560, 'by_epoch': False}, 20, 4560, ''),
        ({'type': 'ReduceOnPlateauLR', 'monitor': 'nll/mean'}, 20, 4560, ''),
        ({'type': 'MultiStepLR', 'milestones': [10, 30, 60]}, 20, 4560, '[30, 60] are not before the end of 20 epo'),
        ({'type': 'CosineAnnealingLR', 'T_max': 100}, 20, 4560, '.T_max is 100, but it runs for 20 epochs. Set it to'),
        ({'type': 'CosineAnnealingLR', 'T_max': 20, 'begin': 5}, 20, 4560, 'Set it to 15'),
        ({'type': 'StepLR', 'step_size': 30}, 20, 4560, '.step_size is 30, but it runs for 20 epochs'),
        ({'type': 'OneCycleLR', 'total_steps': 99}, 20, 4560, '.total_steps is 99'),
        ({'type': 'StepLR', 'step_size': 7, 'by_epoch': False}, 15, 855, '.step_size 7 looks like epochs'),
        ({'type': 'StepLR', 'step_size': 7}, None, 4560, 'it never steps. Set by_epoch=False'),
        ({'type': 'LinearLR', 'begin': 30, 'end': 40}, 20, 4560, '.begin is 30, but the run has 20 epochs'),
    ],
)
def test_schedules_that_do_or_do_not_fit(item, epochs, iters, said):
    problems = list(schedule_problems(item, epochs, iters))
    assert len(problems) == bool(said)
    assert said in ''.join(problems)
