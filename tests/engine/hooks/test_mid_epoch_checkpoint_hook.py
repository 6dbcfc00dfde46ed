"""Checkpoints in the middle of an epoch: when they are saved and removed, signals, and exact resume."""

import signal

import pytest
import torch
from mmengine.hooks import Hook

from custom_modules.engine.hooks import curves_hook
from custom_modules.engine.hooks.curves_hook import CurvesHook
from custom_modules.engine.hooks.mid_epoch_checkpoint_hook import MidEpochCheckpointHook
from custom_modules.engine.hooks.seed_hook import SeedHook
from custom_modules.engine.hooks.validate_on_resume_hook import ValidateOnResumeHook
from custom_modules.engine.runner import PreparedRunner
from custom_modules.engine.stop_signals import Stopped, stop_signals_caught
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import load_checkpoint

LOOP = {'type': 'ResumableTrainLoop', 'max_epochs': 2}  # of three batches each
EVERY = 1e-9  # minutes


class Seen(Hook):
    """Notes the number and the photos of every batch, and which checkpoints there are after it."""

    priority = 'LOWEST'

    def __init__(self, work_dir) -> None:
        self.work_dir = work_dir
        self.batches = []
        self.files = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append((runner.epoch, batch_idx, [int(photo[0, 0, 0]) for photo in data_batch['inputs']]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.note()

    def after_val_epoch(self, runner, metrics=None):
        self.note()

    def note(self):
        self.files.append(sorted(path.stem for path in self.work_dir.glob('epoch_*.pth')))


class Signals(Hook):
    """Sends this process a signal at a moment, by the name of the hook's method and the iteration."""

    def __init__(self, moment: str, iteration: int, number: int = signal.SIGTERM) -> None:
        def send(runner, **kwargs):
            if runner.iter == iteration:
                signal.raise_signal(number)

        setattr(self, moment, send)

    def get_triggered_stages(self):
        return [name for name in vars(self) if name in self.stages]


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    """A function that trains with the hooks under test and returns what was seen; ``Stopped`` is raised."""
    monkeypatch.setattr(curves_hook, 'save_figure', lambda figure, path: None)  # longer than the training

    def train(*hooks, minutes=0.0, **settings):
        seen = Seen(tmp_path)
        ours = [SeedHook(), CurvesHook(), MidEpochCheckpointHook(minutes), ValidateOnResumeHook()]
        runner = tiny_run([*hooks, *ours, seen], **{'train_cfg': LOOP, **settings})
        with stop_signals_caught():
            runner.train()
        return seen

    return train


def resume(run, tmp_path, name, *hooks, **settings):
    return run(*hooks, resume=True, load_from=str(tmp_path / f'{name}.pth'), **settings)


def assert_same_end(tmp_path):
    """The resumed run in ``tmp_path`` ends like the unbroken one in ``straight``."""
    one, other = (load_checkpoint(folder / 'epoch_2.pth') for folder in (tmp_path, tmp_path / 'straight'))
    assert all(torch.equal(one['state_dict'][key], other['state_dict'][key]) for key in other['state_dict'])
    assert one['param_schedulers'] == other['param_schedulers']
    histories = [[{**row, 'seconds': 0} for row in last['CurvesHook']['history']] for last in (one, other)]
    assert histories[0] == histories[1]


def test_one_file_at_a_time_which_the_epochs_checkpoint_replaces(run):
    seen = run(minutes=EVERY)
    assert seen.files == [
        ['epoch_0_iter_1'],
        ['epoch_0_iter_2'],
        ['epoch_0_iter_3'],
        ['epoch_1'],
        ['epoch_1', 'epoch_1_iter_4'],
        ['epoch_1', 'epoch_1_iter_5'],
        ['epoch_1', 'epoch_1_iter_6'],
        ['epoch_1', 'epoch_2'],
    ]


@pytest.mark.parametrize('iteration', [2, 4])
def test_a_signal_stops_after_the_iteration_and_resume_goes_on_with_the_next(iteration, run, tmp_path):
    straight = run(work_dir=tmp_path / 'straight')
    with pytest.raises(Stopped, match=rf'by SIGTERM after iteration {iteration + 1}; its state is in .*\.pth'):
        run(Signals('before_train_iter', iteration))
    name = f'epoch_{iteration // 3}_iter_{iteration + 1}'
    resumed = resume(run, tmp_path, name)
    assert resumed.batches == straight.batches[iteration + 1 :]
    assert not [name for names in straight.files for name in names if 'iter' in name]
    assert_same_end(tmp_path)


def test_during_validation_the_run_ends_at_once_where_the_epoch_is_saved(run, tmp_path):
    with pytest.raises(Stopped, match='by SIGINT while validating epoch 1, whose checkpoint exists'):
        run(Signals('before_val_epoch', 3, signal.SIGINT))
    straight = run(work_dir=tmp_path / 'straight')
    assert resume(run, tmp_path, 'epoch_1').batches == straight.batches[3:]


def test_during_a_validation_whose_epoch_is_not_saved_it_continues_until_it_can_save(run, tmp_path):
    with pytest.raises(Stopped, match='after iteration 4'):
        run(Signals('before_val_epoch', 3), default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 5}})
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1_iter_4.pth']


def test_a_finished_run_is_not_stopped(run):
    run(Signals('after_train', 6))


@pytest.mark.parametrize('iteration', [0, 2])
def test_accumulated_gradients_are_not_lost(iteration, run, tmp_path):
    wrapper = {'optimizer': {'type': 'SGD', 'lr': 0.5}, 'accumulative_counts': 2}
    straight = run(work_dir=tmp_path / 'straight', optim_wrapper=wrapper)
    with pytest.raises(Stopped):
        run(Signals('before_train_iter', iteration), optim_wrapper=wrapper)
    # After the third an epoch ends, between two of a group: its checkpoint holds the gradients.
    name, done = {0: ('epoch_0_iter_2', 2), 2: ('epoch_1', 3)}[iteration]
    resumed = resume(run, tmp_path, name, optim_wrapper=wrapper)
    assert resumed.batches == straight.batches[done:]
    assert_same_end(tmp_path)


@pytest.mark.parametrize(
    'schedule',
    [
        {'type': 'OneCycleLR', 'eta_max': 0.5, 'total_steps': 6, 'by_epoch': False},
        {'type': 'ReduceOnPlateauLR', 'monitor': 'accuracy/top1', 'rule': 'greater', 'patience': 0},
    ],
    ids=lambda schedule: schedule['type'],
)
def test_schedules_go_on(schedule, run, tmp_path):
    given = {'param_scheduler': schedule, 'accuracies': [50.0] * 3}
    run(work_dir=tmp_path / 'straight', **given)
    with pytest.raises(Stopped):
        run(Signals('before_train_iter', 4), **given)
    resume(run, tmp_path, 'epoch_1_iter_5', **given)
    assert_same_end(tmp_path)


def test_other_batches_are_refused_and_mmengines_loop_repeats_the_epoch(run, tmp_path):
    with pytest.raises(Stopped):
        run(Signals('before_train_iter', 4))
    loader = {'dataset': torch.utils.data.Subset(range(8), range(8)), 'batch_size': 4}
    with pytest.raises(InputError, match=r'3 batches of 3, .* this run has .* 2 batches of 4, .* last epoch_N\.pth'):
        resume(run, tmp_path, 'epoch_1_iter_5', train_dataloader={**loader, 'sampler': {'type': 'DefaultSampler'}})
    resumed = resume(run, tmp_path, 'epoch_1_iter_5', train_cfg={'by_epoch': True, 'max_epochs': 2})
    assert [batch[:2] for batch in resumed.batches] == [(1, 0), (1, 1), (1, 2)]


def test_checkpoints_that_mmengine_saves_by_iteration_can_be_resumed_too(run, tmp_path):
    hooks = {'checkpoint': {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False}}
    straight = run(default_hooks=hooks)
    assert resume(run, tmp_path, 'iter_4', default_hooks=hooks).batches == straight.batches[4:]


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_of_iterations_continues_with_the_next(sampler, workers, run, tmp_path):
    settings = {
        'kind': PreparedRunner,
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 9, 'val_interval': 4},
        'sampler': sampler,
        'workers': workers,
        'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 4}},
        'randomness': {'seed': None},
        'accuracies': [50.0] * 3,
    }
    straight = run(**settings)
    assert len({tuple(images) for *_, images in straight.batches}) == 9
    resumed = resume(run, tmp_path, 'iter_4', **settings)
    assert resumed.batches == straight.batches[4:]
    with pytest.raises(Stopped, match=r'iteration 7; its state is in .*epoch_0_iter_7\.pth'):
        resume(run, tmp_path, 'iter_4', Signals('before_train_iter', 6), **settings)
    assert resume(run, tmp_path, 'epoch_0_iter_7', **settings).batches == straight.batches[7:]
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_4.pth', 'iter_8.pth', 'iter_9.pth']
