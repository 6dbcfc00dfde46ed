"""Validation before a resumed training: which runs have one."""

import pytest
from mmengine.hooks import Hook

from custom_modules.engine.hooks.validate_on_resume_hook import ValidateOnResumeHook


class Validations(Hook):
    """Notes after how many epochs validation ran."""

    def __init__(self):
        self.epochs = []

    def after_val_epoch(self, runner, metrics=None):
        self.epochs.append(runner.epoch)


@pytest.mark.parametrize(
    ('train_cfg', 'expected'),
    [
        ({}, [2, 3]),
        ({'val_interval': 3}, [3]),  # nothing was due after epoch 2
        ({'val_interval': 2}, [2, 3]),
        ({'val_begin': 3}, [3]),
        ({'max_epochs': 2}, [2]),  # nothing left to train
    ],
)
def test_resumed_run(tiny_run, train_cfg, expected):
    tiny_run([], epochs=2).train()
    seen = Validations()
    cfg = {'by_epoch': True, 'max_epochs': 3, **train_cfg}
    tiny_run([ValidateOnResumeHook(), seen], accuracies=[50.0] * 3, resume=True, train_cfg=cfg).train()
    assert seen.epochs == expected


@pytest.mark.parametrize('resume', [False, True])  # True: asked to resume where there is nothing to resume from
def test_fresh_run_does_not_validate_first(tiny_run, resume):
    seen = Validations()
    tiny_run([ValidateOnResumeHook(), seen], epochs=2, resume=resume).train()
    assert seen.epochs == [1, 2]
