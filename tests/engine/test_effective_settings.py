"""The course of the learning rate against a run that really takes all steps, and the table's width."""

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from custom_modules.engine.effective_settings import lr_course, table

SCHEDULES = [
    [],
    [{'type': 'StepLR', 'step_size': 2, 'gamma': 0.5}],
    [{'type': 'MultiStepLR', 'milestones': [1, 3], 'gamma': 0.1}],
    [{'type': 'ExponentialLR', 'gamma': 0.9, 'by_epoch': False}],
    [{'type': 'ReduceOnPlateauLR', 'monitor': 'accuracy/top1'}],
    [{'type': 'PolyLR', 'eta_min': 0.001, 'begin': 0, 'end': 4}],
    [{'type': 'OneCycleLR', 'eta_max': 2.0, 'total_steps': 4, 'by_epoch': True, 'convert_to_iter_based': True}],
    [
        {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': True, 'end': 1, 'convert_to_iter_based': True},
        {'type': 'CosineAnnealingLR', 'T_max': 3, 'eta_min': 0.01, 'begin': 1, 'end': 4},
    ],
]


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda s: '+'.join(item['type'] for item in s) or 'constant')
def test_the_course_is_the_real_one(schedule, tiny_run):
    class Record(Hook):
        rates: list[float] = []

        def before_train(self, runner: Runner) -> None:
            groups = [dict(group) for group in runner.optim_wrapper.param_groups]
            states = [dict(item.state_dict()) for item in runner.param_schedulers or []]
            self.course = lr_course(runner)
            assert [dict(group) for group in runner.optim_wrapper.param_groups] == groups
            assert [dict(item.state_dict()) for item in runner.param_schedulers or []] == states

        def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
            self.rates.append(max(group['lr'] for group in runner.optim_wrapper.param_groups))

    record = Record()
    record.rates = []
    slower_bias = {'custom_keys': {'fc.bias': {'lr_mult': 0.1}}}
    optimizer = {'optimizer': {'type': 'SGD', 'lr': 0.5}, 'paramwise_cfg': slower_bias}
    tiny_run([record], epochs=4, param_scheduler=schedule or None, optim_wrapper=optimizer).train()
    assert len(record.rates) == 12
    if 'ReduceOnPlateauLR' in str(schedule):  # validation decides
        assert record.course == record.rates[:1]
    else:
        assert record.course == pytest.approx(record.rates, rel=1e-9)


@pytest.mark.parametrize('width', [40, 60, 80, 200])
def test_the_table_keeps_to_the_terminal(width, monkeypatch):
    monkeypatch.setenv('COLUMNS', str(width))
    rows = {'model': 'short', 'train pipeline': ', '.join(['LoadImageFromFile'] * 12)}
    lines = table(rows).splitlines()
    assert max(map(len, lines)) <= max(width, 46)
    assert lines[0] == 'model           short'
    assert all(line.startswith(' ' * 16) for line in lines[2:])
