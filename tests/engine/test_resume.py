"""Which checkpoint a resume takes, and that it loses none."""

import os
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from custom_modules.engine.resume import find_checkpoint, resume_command, set_others_aside
from custom_modules.engine.runner import PreparedRunner
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import save_atomically


@pytest.fixture
def work_dir(tmp_path) -> Path:
    for name in ('epoch_1.pth', 'epoch_2.pth', 'epoch_2_iter_5.pth', 'best.pth'):
        save_atomically({'meta': {'name': name}}, tmp_path / name)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_corrupt_ones_are_set_aside_each_with_one_line(work_dir):
    before = names(work_dir)
    for name in ('epoch_2_iter_5.pth', 'epoch_2.pth'):
        truncate(work_dir / name)
    found = find_checkpoint(work_dir, 'auto')
    assert found.path.name == 'epoch_1.pth'
    assert names(work_dir) == before, 'looking changes nothing'
    lines = set_others_aside(work_dir, found)
    assert [line.split(': kept as ')[0] for line in lines] == [
        f'{work_dir / name} is corrupt' for name in ('epoch_2_iter_5.pth', 'epoch_2.pth')
    ]
    assert names(work_dir) == {'epoch_1.pth', 'epoch_2.pth.corrupt', 'epoch_2_iter_5.pth.corrupt', 'best.pth'}


def test_an_older_one_makes_the_later_ones_step_aside(work_dir):
    (work_dir / 'epoch_2.pth.later').touch()
    found = find_checkpoint(work_dir, str(work_dir / 'epoch_1.pth'))
    assert len(set_others_aside(work_dir, found)) == 2
    assert find_checkpoint(work_dir, 'auto').path.name == 'epoch_1.pth'
    assert {'epoch_2.pth.later', 'epoch_2.pth.later2', 'epoch_2_iter_5.pth.later', 'best.pth'} <= names(work_dir)


def test_one_from_elsewhere_moves_nothing(work_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('elsewhere') / 'epoch_1.pth'
    save_atomically({}, elsewhere)
    assert find_checkpoint(work_dir, str(elsewhere)).others == {}


def test_all_corrupt_or_none_at_all(work_dir, tmp_path):
    assert find_checkpoint(tmp_path / 'new', 'auto') is None
    for path in work_dir.glob('epoch_*'):
        truncate(path)
    with pytest.raises(InputError, match=r'no checkpoint in it is whole .*Start again in another --work-dir'):
        find_checkpoint(work_dir, 'auto')


def test_a_malicious_newest_is_not_passed_over(work_dir):
    (work_dir / 'epoch_3.pth').write_bytes(b'\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.')
    with pytest.raises(InputError, match=r'epoch_3\.pth: not loaded'):
        find_checkpoint(work_dir, 'auto')


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (['c.py'], 'c.py --resume'),
        (['c.py', '--resume'], 'c.py --resume'),
        (['c.py', '--resume', '--amp'], 'c.py --amp --resume'),
        (['c.py', '--resume', 'w/epoch_1.pth', '--work-dir', 'w x'], "c.py --work-dir 'w x' --resume"),
        (['c.py', '--resume=w/epoch_1.pth', '--amp'], 'c.py --amp --resume'),
        (['c.py', '--cfg-options', 'a=1', 'b="x"'], 'c.py --cfg-options a=1 \'b="x"\' --resume'),
        (['--seeds', '1', '2', '--', 'c.py'], '--seeds 1 2 --resume=auto -- c.py'),
    ],
)
def test_the_command_that_goes_on(given, expected, monkeypatch):
    monkeypatch.setenv('SLURM_PROCID', '0')  # as sbatch sets it for a script that calls no srun
    assert resume_command(['tools/train.py', *given], 'none') == f'python tools/train.py {expected}'


@pytest.mark.parametrize(
    ('launcher', 'environment', 'expected'),
    [
        ('pytorch', {'LOCAL_WORLD_SIZE': '4'}, 'torchrun --nproc_per_node 4'),
        (
            'pytorch',
            {'LOCAL_WORLD_SIZE': '2', 'GROUP_WORLD_SIZE': '3', 'MASTER_ADDR': 'node7', 'MASTER_PORT': '29511'},
            'torchrun --nproc_per_node 2 --nnodes 3 --node_rank 0 --master_addr node7 --master_port 29511',
        ),
        ('slurm', {'SLURM_NTASKS': '8'}, 'srun --ntasks 8 python'),
        ('mpi', {'OMPI_COMM_WORLD_SIZE': '2'}, 'mpirun -n 2 python'),
    ],
)
def test_the_command_starts_as_many_processes(launcher, environment, expected, monkeypatch):
    monkeypatch.setattr(os, 'environ', environment)
    said = resume_command(['tools/train.py', 'c.py', '--launcher', launcher], launcher)
    assert said == f'{expected} tools/train.py c.py --launcher {launcher} --resume'


class Rates(Hook):
    """Notes the learning rate of each iteration."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append([group['lr'] for group in runner.optim_wrapper.param_groups])


BY_ITERATION = {'by_epoch': True, 'convert_to_iter_based': True}
WARM_UP = {'type': 'LinearLR', 'start_factor': 0.1, 'end': 1, **BY_ITERATION}
PLATEAU = {'type': 'ReduceOnPlateauLR', 'monitor': 'accuracy/top1', 'rule': 'greater', 'patience': 0}
OTHER_SO_FAR = 'as in a run of 4 epochs from the start; in the checkpoint it is '


@pytest.mark.parametrize(
    ('schedule', 'said'),
    [
        ([], None),
        ([{'type': 'StepLR', 'step_size': 1, 'gamma': 0.5}], None),
        ([{'type': 'MultiStepLR', 'milestones': [1, 2, 3]}], None),
        ([WARM_UP, {'type': 'ExponentialLR', 'gamma': 0.9, 'by_epoch': False}], None),
        ([WARM_UP, PLATEAU], None),
        ([{'type': 'ConstantLR', 'factor': 0.5}], OTHER_SO_FAR),
        ([WARM_UP, {'type': 'CosineAnnealingLR', 'begin': 1, **BY_ITERATION}], OTHER_SO_FAR),
        ([{'type': 'OneCycleLR', 'eta_max': 0.5, **BY_ITERATION}], OTHER_SO_FAR),
        ([{'type': 'PolyLR'}, PLATEAU], 'because one schedule follows a metric'),
    ],
    ids=lambda value: '+'.join(item['type'] for item in value) if isinstance(value, list) else '',
)
@pytest.mark.parametrize('checkpoint', ['epoch_2', 'iter_5'])
def test_a_resume_to_more_epochs_continues_as_a_run_planned_so_long(schedule, said, checkpoint, tiny_run, tmp_path):
    rates = {}
    bias = {'custom_keys': {'fc.bias': {'lr_mult': 0.1}}}
    for name, epochs, more in (
        ('straight', 4, {}),
        ('short', 2, {}),
        ('same', 2, {'resume': True, 'load_from': str(tmp_path / 'short' / f'{checkpoint}.pth')}),
        ('longer', 4, {'resume': True, 'load_from': str(tmp_path / 'short' / f'{checkpoint}.pth')}),
    ):
        hook = Rates()
        settings = {
            'kind': PreparedRunner,
            'param_scheduler': schedule,
            'default_hooks': {
                'checkpoint': {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': 'epoch' in checkpoint}
            },
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.5}, 'paramwise_cfg': bias},
        }
        hooks = [hook, {'type': 'MidEpochCheckpointHook'}, {'type': 'ValidateOnResumeHook'}]
        tiny_run(hooks, epochs, work_dir=tmp_path / name, accuracies=[50.0] * 4, **settings, **more).train()
        rates[name] = hook.seen
    done = 12 - len(rates['longer'])
    assert rates['same'] == rates['short'][done:]
    if said in (None, OTHER_SO_FAR):
        assert rates['longer'] == rates['straight'][done:]
    (log,) = (tmp_path / 'longer').glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'param_scheduler: differs' in line]
    assert [said in line for line in lines] == ([True] if said else [])
