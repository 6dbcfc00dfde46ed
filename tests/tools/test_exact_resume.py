"""A run that was stopped anywhere and resumed ends with the same bits as an unbroken one, whoever loads the photos."""

import json
import os
import random
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from processes import ROOT, ToolProcess

from custom_modules.models.checkpoints import load_checkpoint

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')

# All that draws random numbers or keeps a state: augmentations by each library's generator, batch augmentations,
# dropout, drop path, moving averages, momentum, schedules by iteration and by epoch, early stopping; and a wrapper.
EXACT_CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports={imports!r})

model = dict(
    head=dict(
        _delete_=True, type='StackedLinearClsHead', num_classes=5, in_channels=1280, mid_channels=[16],
        dropout_rate=0.5, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'), topk=(1,),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
train_pipeline = [
    dict(type='LoadRandomResizedCrop', scale=32, flip_prob=0.5),
    dict(type='RandomRotateTranslate'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(
        type='RandomErasing', erase_prob=0.5, mode='rand', fill_color=(1, 2, 3), fill_std=(9, 9, 9)
    ),
    dict(type='PackPhoto'),
]
flowers = dict(type='FlowerDataset', data_root={data!r}, pipeline=train_pipeline)
train_dataloader = dict(dataset=dict(_delete_=True, type='ClassBalancedDataset', oversample_thr=0.1, dataset=flowers))
optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=7),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, T_max=3),
]
train_cfg = dict(max_epochs=3)
default_hooks = dict(
    logger=dict(interval=1),
    ema=dict(type='EMAHook', momentum=0.1),
    early_stopping=dict(type='ResumableEarlyStoppingHook', patience=9),
    kill=dict(type='KillHook'),
)
"""

# Written into the config's folder: kills the process at the n-th of the moments that it counts.
KILL_HOOK = """
import os
import signal

from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS

from custom_modules.engine.hooks import curves_hook

curves_hook.save_figure = lambda figure, path: None  # drawing takes longer than the training


@HOOKS.register_module()
class KillHook(Hook):
    priority = 'LOW'

    def before_run(self, runner):
        self.left = int(os.environ.get('KILL_AT', '0'))
        # While a checkpoint is written, and once it has its name. Only a power cut needs the wait for the disk.
        os.fsync = self.then_moment(lambda descriptor: None)
        os.replace = self.then_moment(os.replace)

    def then_moment(self, function):
        def called(*args):
            result = function(*args)
            self.moment()
            return result
        return called

    def moment(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    before_train_iter = after_train_iter = after_train_epoch = after_val_iter = after_val_epoch = moment
"""


@pytest.fixture(scope='module')
def exact_config(tiny_config, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('exact')
    (folder / 'kill_hook.py').write_text(KILL_HOOK)
    imports = Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py').custom_imports.imports
    config = folder / 'exact.py'
    config.write_text(EXACT_CONFIG.format(base=str(tiny_config), data=str(data), imports=[*imports, 'kill_hook']))
    return config


@pytest.fixture(scope='module')
def train(exact_config) -> Callable[..., tuple[int, str]]:
    """A function that trains in a process of its own; returns its exit code and what it printed.

    SIGKILL ends it at the moment ``kill_at``; ``send`` goes to its process group in the second of five iterations.
    """

    def run(work_dir: Path, *options: object, command: list = (), kill_at: int = 0, send: int = 0) -> tuple[int, str]:
        log = work_dir.with_suffix('.log')
        log.unlink(missing_ok=True)
        command = command or [exact_config, '--work-dir', work_dir, *options]
        process = ToolProcess('train', command, log, exact_config.parent, {'KILL_AT': str(kill_at)})
        if send:
            process.send_at('Epoch(train) [1][2/5]', send)
        return process.wait(), log.read_text()

    return run


def loaders(workers: int) -> list[str]:
    return [
        '--cfg-options',
        *(f'{side}_dataloader.num_workers={workers}' for side in ('train', 'val')),
        *(f'{side}_dataloader.persistent_workers={workers > 0}' for side in ('train', 'val')),
    ]


@pytest.fixture(scope='module')
def straight(train, tmp_path_factory) -> dict:
    """What the unbroken run, without workers, ends with."""
    work_dir = tmp_path_factory.mktemp('straight') / 'run'
    code, out = train(work_dir)
    assert code == 0, out
    return outcome(work_dir)


def outcome(work_dir: Path) -> dict:
    """All that has to be the same: weights, states and logs, without times and paths."""
    last = load_checkpoint(work_dir / 'epoch_3.pth')
    hub = last['message_hub']['log_scalars']
    best = load_checkpoint(work_dir / 'best.pth')
    return {
        'weights': last['state_dict'],
        'moving averages': last['ema_state_dict'],
        'optimizer': last['optimizer'],
        'schedules': last['param_schedulers'],
        'early stopping': last['ResumableEarlyStoppingHook'],
        'curves': [{**record, 'seconds': 0} for record in last['CurvesHook']['history']],
        'scalars': {key: value.data[0].tolist() for key, value in hub.items() if not key.endswith('time')},
        'best': best['state_dict'],
        'best of all': [best['meta'][key] for key in ('value', 'epoch', 'iter', 'seed')],
        'log': log(work_dir),
    }


def log(work_dir: Path) -> dict:
    """What was logged of each iteration, validation and epoch; what was logged twice has to be the same twice."""
    entries: dict[tuple, dict] = {}
    for file in work_dir.glob('*/vis_data/*.json'):
        for line in file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short by the kill
                continue
            values = {key: value for key, value in entry.items() if not key.endswith(('time', 'seconds', 'step'))}
            place = entry['step'], tuple(sorted(values))
            assert entries.setdefault(place, values) == values, place
    return entries


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_same(work_dir: Path, straight: dict) -> None:
    found = outcome(work_dir)
    found['log'] = {place: found['log'].get(place) for place in straight['log']}
    assert [part for part in straight if not same(straight[part], found[part])] == []


@pytest.mark.parametrize('workers', [4, pytest.param(1, marks=pytest.mark.slow)])
def test_the_number_of_workers_changes_nothing(workers, train, straight, tmp_path):
    code, out = train(tmp_path / 'run', *loaders(workers))
    assert code == 0, out
    assert_same(tmp_path / 'run', straight)


@pytest.mark.parametrize(
    ('workers', 'minutes', 'kills'),
    [(0, 1e-9, 3), *(pytest.param(n, often, 10, marks=pytest.mark.slow) for n in (0, 1, 2, 4) for often in (1e-9, 0))],
)
def test_killed_at_random_moments(workers, minutes, kills, train, straight, tmp_path):
    """Saving after each iteration, or (0 minutes) after each epoch."""
    chance = random.Random(workers)
    options = ['--resume', '--save-every-minutes', minutes, *loaders(workers)]
    while kills:
        code, out = train(tmp_path / 'run', *options, kill_at=chance.randrange(8, 30))
        if code == 0:  # it came to its end first: the same once more from the start
            assert_same(tmp_path / 'run', straight)
            shutil.rmtree(tmp_path / 'run')
            continue
        assert code == -signal.SIGKILL, out
        kills -= 1
    code, out = train(tmp_path / 'run', *options)
    assert code == 0, out
    assert_same(tmp_path / 'run', straight)
    assert not list((tmp_path / 'run').glob('.*.tmp')), 'what the kills left of files is removed'
    assert not list((tmp_path / 'run').glob('epoch_*_iter_*')), 'the last epoch makes them superfluous'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signalled_then_killed_and_resumed_by_the_printed_command(number, train, straight, tmp_path):
    code, out = train(tmp_path / 'run', *loaders(2), send=number)
    assert code == 128 + number, out
    assert 'Traceback' not in out
    saved = re.search(rf'stopped by {number.name} after iteration (\d+); its state is in (\S+)', out)
    assert Path(saved[2]).is_file()
    assert Path(saved[2]).name == f'epoch_0_iter_{saved[1]}.pth'
    python, _, *argv = shlex.split(re.search(r'^go on with: (.*)$', out, re.MULTILINE)[1])
    assert python == 'python'
    if number == signal.SIGINT:
        code, _ = train(tmp_path / 'run', command=argv, kill_at=20)
        assert code == -signal.SIGKILL
    code, out = train(tmp_path / 'run', command=argv)
    assert code == 0, out
    assert_same(tmp_path / 'run', straight)
