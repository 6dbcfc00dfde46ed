"""tools/train.py: one real run, killing and resuming it, and what it refuses before anything is written."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from custom_modules.files import lock_folder
from custom_modules.models.checkpoints import load_checkpoint

ROOT = Path(__file__).parents[2]
MOBILENET = ROOT / 'configs' / 'flower_mobilenetv2.py'
SCALARS = {f'epoch/{name}' for name in ('lr', 'loss_train', 'loss_val', 'accuracy_train', 'accuracy_val', 'seconds')}


def files(folder: Path) -> dict[str, int]:
    """Each file under ``folder`` with the time it was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}


@pytest.fixture
def run_copy(trained, tmp_path) -> Path:
    """A copy of the finished tiny run, to be resumed or broken."""
    return Path(shutil.copytree(trained.work_dir, tmp_path / 'run'))


def test_the_work_dir_of_a_run(trained):
    names = {path.name for path in trained.work_dir.iterdir()}
    assert {'best.pth', 'epoch_1.pth', 'epoch_2.pth', 'curves.png', 'tiny.py'} <= names
    assert not [name for name in names if name.endswith('.tmp')]
    assert (trained.work_dir / 'curves.png').read_bytes()[:4] == b'\x89PNG'

    best = torch.load(trained.work_dir / 'best.pth', weights_only=True)
    assert set(best) == {'state_dict', 'meta'}
    assert best['meta']['classes'] == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    assert best['meta']['epoch'] in (1, 2)
    assert best['meta']['dataset_digest']


def test_what_a_run_prints(trained):
    out = trained.result.out
    form = r'epoch (\d)/2  lr [\d.e-]+  train loss [\d.]+ acc [\d.]+ %  val loss [\d.]+ acc [\d.]+ % \(\d+/15\)'
    assert re.findall(form, out) == ['1', '2']
    block = out[out.index('-' * 80) :]
    best, last = (re.search(rf'{word} ([\d.]+) % \((\d+)/15, 95 % interval', block) for word in ('best', 'last'))
    for found in (best, last):
        assert float(found[1]) == pytest.approx(100 * int(found[2]) / 15, abs=0.005)
    assert int(best[2]) >= int(last[2])
    assert f'python tools/test.py {trained.work_dir / "tiny.py"} {trained.work_dir / "best.pth"}' in block
    assert 'synthetic' not in out
    # What a newcomer reads is the training, not the compiler flags of torch or a warning about what nobody needs.
    assert len(out.splitlines()) < 60
    assert 'MultiScaleDeformableAttention' not in trained.result.err
    (log,) = trained.work_dir.glob('*/*.log')
    assert 'System environment:' in log.read_text()


def test_tensorboard(trained):
    (events,) = trained.work_dir.rglob('events.out.tfevents.*')
    board = EventAccumulator(str(events.parent)).Reload()
    assert set(board.Tags()['scalars']) >= SCALARS
    for tag in SCALARS:
        assert [event.step for event in board.Scalars(tag)] == [1, 2]
    assert [event.value for event in board.Scalars('epoch/lr')] == pytest.approx([0.02, 0.02 * 0.98])
    best = torch.load(trained.work_dir / 'best.pth', weights_only=True)['meta']
    accuracies = [event.value for event in board.Scalars('epoch/accuracy_val')]
    assert max(accuracies) == pytest.approx(best['value'])


@pytest.mark.parametrize(
    'argv',
    [
        ['--work-dir', '{0}'],
        ['--cfg-options', 'work_dir={0}'],
        ['--demo', '--work-dir', '{0}'],
        ['--demo', '--cfg-options', 'work_dir={0}'],
        ['--work-dir', '{0}', '--resume', '{1}'],
    ],
    ids=' '.join,
)
def test_a_used_work_dir_is_refused_and_left_alone(argv, trained, tiny_config, call, tmp_path):
    foreign = shutil.copy(trained.work_dir / 'epoch_1.pth', tmp_path)
    before = files(trained.work_dir)
    result = call('train', tiny_config, *(arg.format(trained.work_dir, foreign) for arg in argv))
    assert 'holds a run already' in result.error
    assert files(trained.work_dir) == before


def test_a_finished_run_trains_longer(run_copy, tiny_config, call):
    before = torch.load(run_copy / 'best.pth', weights_only=True)['meta']
    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=3']
    result = call('train', tiny_config, '--work-dir', run_copy, *options)
    assert result.code == 0, result.err
    assert f'resuming from {run_copy / "epoch_2.pth"}' in result.out
    assert re.findall(r'Epoch\(train\) +\[(\d+)\]', result.out) == ['3']
    after = torch.load(run_copy / 'best.pth', weights_only=True)['meta']
    assert (after['value'], after['epoch']) == (before['value'], before['epoch']) or after['value'] > before['value']
    history = load_checkpoint(run_copy / 'epoch_3.pth')['CurvesHook']['history']
    assert [record['epoch'] for record in history] == [1, 2, 3]


def test_resume_where_nothing_was_begun(tiny_config, call, tmp_path):
    result = call('train', tiny_config, '--work-dir', tmp_path / 'new', '--resume', '--amp', '--no-validate')
    assert result.code == 0
    assert f'no checkpoint in {tmp_path / "new"}: starting from scratch' in result.out
    assert '--amp: no accelerator here, training in full precision' in result.out
    assert '--no-validate: no best.pth is kept' in result.out
    assert 'epoch 2/2' in result.out
    assert 'no best.pth:   nothing was validated' in result.out
    assert (tmp_path / 'new' / 'epoch_2.pth').exists()
    assert not (tmp_path / 'new' / 'best.pth').exists()
    # What the block names as the next command works.
    config, checkpoint = re.search(r'python tools/test.py (\S+) (\S+)', result.out).groups()
    assert call('test', config, checkpoint).code == 0


def test_a_resume_reads_its_checkpoint_once_and_validates_its_epoch_again(run_copy, tiny_config, call, monkeypatch):
    (run_copy / 'best.pth').unlink()  # as if killed before the validation
    loaded = []
    load = torch.load
    monkeypatch.setattr(torch, 'load', lambda path, *args, **more: loaded.append(path) or load(path, *args, **more))
    result = call('train', tiny_config, '--work-dir', run_copy, '--resume')
    assert result.code == 0
    assert loaded == [run_copy / 'epoch_2.pth']
    assert 'Validating epoch 2 again' in result.out
    assert 'Epoch(train)' not in result.out
    assert load(run_copy / 'best.pth', weights_only=True)['meta']['epoch'] == 2


def test_what_cannot_be_resumed(run_copy, trained, tiny_config, call, tmp_path):
    (run_copy / 'epoch_3.pth').write_bytes((trained.work_dir / 'epoch_2.pth').read_bytes()[:-2000])
    before = files(run_copy)
    for checkpoint, option, said in (
        ('best.pth', '', 'best.pth: holds weights alone, no optimizer state'),
        ('best.pth', '', 'Give an epoch_N.pth'),
        ('epoch_2.pth', 'train_cfg.max_epochs=1', 'has trained for 2 epochs, but train_cfg.max_epochs is 1'),
        ('epoch_2.pth', 'model.backbone.widen_factor=0.5', 'Use the config that it was trained with'),
        ('epoch_9.pth', '', 'epoch_9.pth: no such file'),
        ('epoch_3.pth', '', 'epoch_3.pth: corrupt, or no checkpoint'),
    ):
        options = ['--cfg-options', option] if option else []
        result = call('train', tiny_config, '--work-dir', run_copy, '--resume', run_copy / checkpoint, *options)
        assert said in result.error
        assert files(run_copy) == before


def test_a_corrupt_newest_checkpoint_is_set_aside_and_the_one_before_is_used(run_copy, tiny_config, call, tmp_path):
    """The config saved in the one before is not run."""
    checkpoint = torch.load(run_copy / 'epoch_1.pth', weights_only=True)
    checkpoint['meta']['config'] = f'__import__("os").mkdir({str(tmp_path / "fired")!r})'
    torch.save(checkpoint, run_copy / 'epoch_1.pth')
    content = bytearray((run_copy / 'epoch_2.pth').read_bytes())
    content[len(content) // 2] ^= 1
    (run_copy / 'epoch_2.pth').write_bytes(content)
    (run_copy / '.epoch_3.pth.123.tmp').touch()  # left by a kill
    result = call('train', tiny_config, '--work-dir', run_copy, '--resume')
    assert result.code == 0
    assert result.out.count('epoch_2.pth is corrupt: kept as epoch_2.pth.corrupt') == 1
    assert f'resuming from {run_copy / "epoch_1.pth"}' in result.out
    assert (run_copy / 'epoch_2.pth.corrupt').read_bytes() == content
    assert (run_copy / 'epoch_2.pth').is_file()
    assert not list(run_copy.glob('*.tmp'))
    assert not (tmp_path / 'fired').exists()


def test_a_full_disk_ends_a_run_and_leaves_the_last_checkpoint(run_copy, tiny_config, call, monkeypatch):
    def full(descriptor) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=3']
    assert (
        'No space left on device. Free some space'
        in call('train', tiny_config, '--work-dir', run_copy, *options).error
    )
    load_checkpoint(run_copy / 'epoch_2.pth')
    assert not (run_copy / 'epoch_3.pth').exists()
    assert not list(run_copy.glob('.*.tmp'))


class Bomb:
    """Pickles into a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code(tiny_config, data, call, tmp_path):
    bomb, fired = tmp_path / 'epoch_1.pth', tmp_path / 'fired'
    torch.save({'state_dict': Bomb(fired)}, bomb)
    init = ['--data-root', data, '--cfg-options', f'model.backbone.init_cfg.checkpoint={bomb}']
    for argv in (
        ['train', tiny_config, '--resume', bomb],
        ['train', tiny_config, '--cfg-options', f'load_from={bomb}'],
        ['train', MOBILENET, *init],
        ['test', tiny_config, bomb],
    ):
        result = call(*argv)
        assert 'would run code' in result.error
        assert 'mkdir' in result.error
        assert not fired.exists()
        assert sorted(tmp_path.iterdir()) == [bomb]


@pytest.mark.parametrize(
    ('argv', 'said'),
    [
        (['configs/flower_mobilenet.py'], 'configs/flower_mobilenet.py: no such config'),
        (['{tiny}', '--data-root', 'nowhere'], 'nowhere: no such folder. Prepare it with: python tools/split_dataset'),
        (['{tiny}', '--data-root', '{raw}'], 'python tools/split_dataset.py {raw} data/flowers'),
        (['{tiny}', '--launcher', 'pytorch'], '--launcher pytorch: this process was not started by torchrun'),
        (['{tiny}', '--work-dir', '{tiny}/run'], 'is a file, not a folder'),
        (
            ['{tiny}', '--save-every-minutes', '5', '--cfg-options', 'default_hooks.mid_epoch_checkpoint=None'],
            'no MidEpochCheckpointHook',
        ),
        (['{tiny}', '--cfg-options', 'train_cfg.max_epochs'], 'not of the form KEY=VALUE'),
        (['{tiny}', '--cfg-options', 'optim_wrapper.optimizer.lrr=1'], 'Did you mean optim_wrapper.optimizer.lr?'),
        (['{tiny}', '--cfg-options', 'model.head.num_classes=3'], 'num_classes: is 3, but the dataset has 5'),
        (['{mobilenet}', '--data-root', '{data}'], 'Get it with: python tools/fetch_weights.py mobilenet_v2'),
    ],
)
def test_unusable_input_is_one_line_and_nothing_is_written(argv, said, tiny_config, raw, data, call, tmp_path):
    names = {'tiny': tiny_config, 'raw': raw, 'data': data, 'mobilenet': MOBILENET}
    result = call('train', *(arg.format(**names) for arg in argv))
    assert said.format(**names) in result.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('train_dataloader.batch_size=0', 'train_dataloader: ValueError: batch_size should be a positive integer'),
        ('train_cfg.max_epochs=0', 'train_cfg.max_epochs: is 0. Give 1 or more'),
        ('param_scheduler.end=0', 'param_scheduler: ValueError: end should be larger than begin'),
        ('randomness.seed=-1', 'config: ValueError: Seed must be between 0 and'),
        ('model.backbone.out_indices=(9,)', 'model: ValueError'),
    ],
)
def test_values_that_nothing_can_be_built_from(option, said, tiny_config, call, tmp_path):
    name = re.sub(r'\W', '_', option)  # MMEngine warns of two runs with one name, given in the same second
    result = call('train', tiny_config, '--cfg-options', option, f'experiment_name={name}')
    assert said in result.error
    assert not list(tmp_path.rglob('*.pth'))


def test_two_runs_at_once_in_one_work_dir(tiny_config, run_process, tmp_path):
    """In a process of its own, an error is one line and no traceback, too."""
    lock = lock_folder(tmp_path / 'run')
    result = run_process('train', tiny_config, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    lock.close()
    assert 'another run is writing there' in result.error
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['.lock']
