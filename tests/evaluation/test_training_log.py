"""The log of a training: one curve over all resumes, and settings without running the config."""

import json

import pytest

from custom_modules.evaluation.training_log import read_history, settings_table
from custom_modules.models.saved_config import parse_config

CONFIG = """
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained'), type='MobileNetV2', widen_factor=1.0),
    head=dict(loss=dict(loss_weight=1.0, type='CrossEntropyLoss'), num_classes=5, type='LinearClsHead'),
    neck=dict(type='GlobalAveragePooling'))
optim_wrapper = dict(optimizer=dict(_scope_='mmpretrain', lr=0.001, type='SGD', weight_decay=4e-05))
param_scheduler = [dict(type='LinearLR', end=3), dict(type='StepLR', by_epoch=True, gamma=0.98)]
randomness = dict(seed=0)
train_cfg = dict(max_epochs=20)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='Crop', n=2)]))
launcher = 'none'
"""


def epoch(number, loss):
    return {'epoch/lr': 0.1, 'epoch/loss_train': loss, 'epoch/accuracy_val': 90.0, 'step': number}


def write_log(work_dir, time, records):
    folder = work_dir / time / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(record) for record in records) + '\n{"epoch/l')


def test_a_resumed_run_is_one_curve(tmp_path):
    assert read_history(tmp_path) == []
    iteration = {'loss': 1.0, 'lr': 0.1, 'epoch': 1, 'step': 20}
    write_log(tmp_path, '20260101_000000', [iteration, epoch(1, 3.0), epoch(2, 2.0), epoch(3, 9.0), epoch(4, 9.0)])
    write_log(tmp_path, '20260102_000000', [epoch(3, 1.0)])
    history = read_history(tmp_path)
    assert [(record['epoch'], record['train_loss']) for record in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_the_history_is_what_the_tiny_run_logged(trained):
    from custom_modules.models.checkpoints import load_checkpoint

    logged = load_checkpoint(trained.work_dir / 'epoch_2.pth')['CurvesHook']['history']
    # A checkpoint is saved before its epoch is validated.
    assert read_history(trained.work_dir)[0] == logged[0]
    assert [record['epoch'] for record in read_history(trained.work_dir)] == [1, 2]


def test_settings_are_read_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_config(CONFIG + "danger = __import__('os').system('touch danger')") == {}
    assert not list(tmp_path.iterdir())
    assert dict(settings_table(parse_config(CONFIG))) == {
        'Backbone': 'MobileNetV2(widen_factor=1.0)',
        'Neck, head': 'GlobalAveragePooling, LinearClsHead(num_classes=5)',
        'Loss': 'CrossEntropyLoss',
        'Optimizer': 'SGD(lr=0.001, weight_decay=4e-05)',
        'Schedule': 'LinearLR(end=3) → StepLR(gamma=0.98)',
        'Epochs, at most': '20',
        'Batch size': '8',
        'Seed': '0',
        'Training transforms': 'LoadImageFromFile → Crop(n=2)',
    }


@pytest.mark.parametrize('hooks', ["custom_hooks = [{'type': 'A'}, {}]", "default_hooks = {'a': {}, 'b': None}"])
def test_averaged_weights_are_found_in_both_kinds_of_hooks(hooks):
    averaging = hooks.replace('{}', "{'type': 'EMAHook', 'momentum': 0.02}")
    assert settings_table(parse_config(averaging)) == [('EMA weights', 'EMAHook(momentum=0.02)')]
    assert settings_table(parse_config(hooks)) == []


def test_what_is_no_finite_number_is_none(tmp_path):
    log = tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_bytes(
        b'\xff{"step": 1}\nnull\n{"step": 1, "epoch/lr": NaN, "epoch/loss_val": Infinity, "epoch/seconds": "x"}\n'
    )
    (record,) = read_history(tmp_path)
    assert [record[name] for name in ('epoch', 'lr', 'val_loss', 'seconds')] == [1, None, None, None]
