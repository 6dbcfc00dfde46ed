"""best.pth: its content, when it is written, and the best value after a resume."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook, plain_state_dict
from custom_modules.errors import InputError


def load(work_dir: Path) -> dict:
    return torch.load(work_dir / 'best.pth', weights_only=True)


class Weights(Hook):
    """Notes the weights that each validation sees."""

    def __init__(self):
        self.seen = []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.seen.append({key: value.clone() for key, value in runner.model.state_dict().items()})


def test_file_holds_plain_weights_and_meta(tiny_run, tmp_path):
    hook, weights = BestCheckpointHook(), Weights()
    tiny_run([hook, weights], epochs=3, accuracies=[50.0, 75.0, 62.5]).train()
    best = load(tmp_path)
    assert set(best) == {'state_dict', 'meta'}
    assert all(torch.equal(best['state_dict'][key], value) for key, value in weights.seen[1].items())
    meta = best['meta']
    expected = {'classes': ['dark', 'bright'], 'metric': 'accuracy/top1', 'value': 75.0, 'epoch': 2, 'iter': 6}
    assert {**meta, **expected, 'seed': 0, 'dataset_digest': None} == meta
    assert 'tiny' in meta['config']
    assert set(meta['versions']) == {'custom_modules', 'torch', 'mmengine', 'mmpretrain', 'mmcv'}
    assert (hook.best_value, hook.best_at, hook.last_value) == (75.0, 'epoch 2', 62.5)
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('update_buffers', [False, True])
def test_saves_the_ema_weights_that_were_validated(tiny_run, tmp_path, update_buffers):
    weights = Weights()
    weights.priority = 'LOW'  # sees the model after EMAHook's swap
    ema = {'type': 'EMAHook', 'momentum': 0.5, 'update_buffers': update_buffers}
    runner = tiny_run([BestCheckpointHook(), ema, weights], epochs=1)
    runner.train()
    saved = load(tmp_path)['state_dict']
    assert all(torch.equal(saved[key], value) for key, value in weights.seen[0].items())
    assert not torch.equal(saved['fc.weight'], runner.model.fc.weight)


def test_refuses_to_come_after_ema(tiny_run):
    runner = tiny_run([{'type': 'EMAHook'}, {'type': 'BestCheckpointHook', 'priority': 'LOW'}])
    with pytest.raises(InputError, match='higher priority'):
        runner.train()


@pytest.mark.parametrize(
    ('rule', 'accuracies', 'epoch'),
    [
        ('greater', [50.0, 75.0, 75.0], 2),  # a tie keeps the earlier
        ('greater', [math.nan, 25.0, math.inf], 2),  # values that are not finite never win
        ('less', [50.0, 25.0, 75.0], 2),
    ],
)
def test_which_epoch_wins(tiny_run, tmp_path, rule, accuracies, epoch):
    tiny_run([BestCheckpointHook(rule=rule)], epochs=3, accuracies=accuracies).train()
    assert load(tmp_path)['meta']['epoch'] == epoch


def test_a_misspelt_rule_is_refused():
    with pytest.raises(InputError, match='greater'):
        BestCheckpointHook(rule='max')


@pytest.mark.parametrize(
    ('before', 'best'),
    [
        ([75.0, 50.0], (75.0, 1)),
        ([50.0, 75.0], (75.0, 2)),  # newer than epoch_2.pth, which is saved before the validation
    ],
)
def test_best_survives_a_resume(before, best, tiny_run, tmp_path):
    tiny_run([BestCheckpointHook()], epochs=2, accuracies=before).train()
    hook = BestCheckpointHook()
    tiny_run([hook], epochs=3, accuracies=[62.5], resume=True).train()
    assert (hook.best_value, hook.best_at, hook.last_value) == (best[0], f'epoch {best[1]}', 62.5)
    assert (load(tmp_path)['meta']['value'], load(tmp_path)['meta']['epoch']) == best


def test_best_of_another_run_in_the_work_dir_is_not_counted(tiny_run, tmp_path):
    other = tmp_path / 'other'
    tiny_run([BestCheckpointHook()], epochs=1, accuracies=[100.0]).train()
    tiny_run([BestCheckpointHook()], epochs=1, accuracies=[90.0], work_dir=other).train()
    hook = BestCheckpointHook()
    tiny_run([hook], accuracies=[50.0], resume=True, load_from=str(other / 'epoch_1.pth')).train()
    assert (hook.best_value, hook.best_at, load(tmp_path)['meta']['value']) == (50.0, 'epoch 2', 50.0)


def test_keys_of_wrapped_models_are_plain():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    whole = plain_state_dict(torch.compile(model))
    part = plain_state_dict(torch.nn.Sequential(torch.compile(model[0])))
    assert set(whole) == set(part) == {'0.weight', '0.bias'}


def test_a_run_of_iterations_names_the_iteration(tiny_run, tmp_path):
    loop = {'type': 'ResumableIterTrainLoop', 'max_iters': 4, 'val_interval': 2}
    checkpoints = {'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 4}}
    for resume in (False, True):
        hook = BestCheckpointHook()
        tiny_run([hook], accuracies=[75.0, 50.0], train_cfg=loop, default_hooks=checkpoints, resume=resume).train()
        assert (hook.best_value, hook.best_at) == (75.0, 'iteration 2')
    meta = load(tmp_path)['meta']
    assert meta['iter'] == 2
    assert 'epoch' not in meta
