"""What a training says last."""

import math

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.training import run_summary
from custom_modules.metrics.nll_metric import MeanNLL


@pytest.fixture
def train(tiny_run, tmp_path):
    """A function that trains two epochs and returns the runner: ``train(hook, accuracies=[75.0, 50.0], …)``."""
    config = tmp_path / 'tiny.py'
    config.write_text(f'work_dir = {str(tmp_path)!r}')

    def train(*hooks, **more) -> Runner:
        runner = tiny_run(list(hooks), cfg=Config.fromfile(config), **more)
        runner.train()
        return runner

    return train


def test_commands_can_be_pasted_where_a_folder_has_a_space(train):
    runner = train(BestCheckpointHook(), accuracies=[75.0, 50.0])
    runner.cfg.work_dir = 'my runs'
    text = run_summary(runner, demo=True)
    assert 'top-1 on synthetic pictures: best 75.00 % (6/8, 95 % interval ' in text
    assert "python tools/test.py 'my runs/tiny.py' 'my runs/best.pth'\n" in text
    assert "tensorboard --logdir 'my runs'\n" in text


def test_nothing_to_keep(train, tmp_path):
    never_finite = run_summary(train(BestCheckpointHook(), accuracies=[math.nan, math.nan]))
    assert 'no best.pth:   accuracy/top1 was never finite\n' in never_finite
    assert f'last weights:  {tmp_path / "epoch_2.pth"}\n' in never_finite
    assert 'no best.pth:   nothing was validated\n' in run_summary(train(validate=False))
    assert 'no best.pth:   the config has no BestCheckpointHook\n' in run_summary(train())
    assert ' last nan, epoch 2\n' in run_summary(train(BestCheckpointHook(), accuracies=[75.0, math.nan]))


def test_another_metric_is_not_called_top1(train):
    text = run_summary(train(BestCheckpointHook('nll/mean', rule='less'), metrics=[MeanNLL()]))
    assert 'nll/mean on validation photos: best ' in text
    assert '%' not in text
