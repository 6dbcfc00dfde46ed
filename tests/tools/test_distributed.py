"""Two processes on the CPU (gloo): they train in step, validate each photo once, and test as one process does."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from processes import ROOT, ToolProcess, free_port

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='forks processes and signals them')

# Written into the config's folder: records what each rank trains on and ends with. One rank may be killed in the
# second epoch, as by a machine's memory guard.
RECORDING_HOOK = """
import hashlib
import os
import signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS


def digest(value):
    return hashlib.sha256(value.numpy().tobytes()).hexdigest()


@HOOKS.register_module()
class RecordingHook(Hook):
    priority = 'VERY_LOW'  # before MidEpochCheckpointHook, which ends the run

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4 and get_rank() == int(os.environ.get('DYING_RANK', -1)):
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with Path(runner.work_dir, f'photos_rank_{get_rank()}').open('a') as file:
            for photo, sample in zip(data_batch['inputs'], data_batch['data_samples']):
                file.write(f'{runner.epoch} {sample.img_path} {digest(photo)}\\n')

    def after_val_epoch(self, runner, metrics=None):
        lines = [f'{key} {digest(value)}' for key, value in runner.model.state_dict().items()]
        Path(runner.work_dir, f'epoch_{runner.epoch}_rank_{get_rank()}').write_text('\\n'.join(lines))
"""


@pytest.fixture(scope='module')
def config(tiny_config, tmp_path_factory) -> Path:
    """The tiny config with the recording hook."""
    folder = tmp_path_factory.mktemp('two_processes')
    (folder / 'recording_hook.py').write_text(RECORDING_HOOK)
    imports = Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py').custom_imports.imports
    (folder / 'tiny.py').write_text(
        f'_base_ = {str(tiny_config)!r}\n'
        f'custom_imports = dict(imports={[*imports, "recording_hook"]!r})\n'
        "default_hooks = dict(recording=dict(type='RecordingHook'))\n"
        # As on GPUs: otherwise each forward pass begins with the first rank's batch-norm statistics.
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)\n"
    )
    return folder / 'tiny.py'


@pytest.fixture(scope='module')
def run_two(config, tmp_path_factory) -> Callable[..., tuple[list[int], list[str]]]:
    """A function that runs a tool in two processes without a launcher: ``run_two('train', config, …)``.

    It returns the exit code and the output of each. ``variables`` are added to the environment.
    """

    def run(name: str, *args: object, **variables: str) -> tuple[list[int], list[str]]:
        shared = {'WORLD_SIZE': '2', 'LOCAL_WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1'}
        shared['MASTER_PORT'] = str(free_port())
        folder = tmp_path_factory.mktemp('two')
        started = []
        for rank in ('0', '1'):
            environment = {**shared, **variables, 'RANK': rank, 'LOCAL_RANK': rank}
            argv = (*args, '--launcher', 'pytorch')
            started.append(ToolProcess(name, argv, folder / f'rank_{rank}.log', config.parent, environment))
        return [process.wait() for process in started], [process.log.read_text() for process in started]

    return run


@pytest.fixture
def start(config, tool_environment) -> Callable[..., subprocess.Popen]:
    """A function that starts a launcher, which finds this Python and the config's hook."""

    def run(*command: object, **variables: str) -> subprocess.Popen:
        path = f'{Path(sys.executable).parent}:{tool_environment["PATH"]}'
        return subprocess.Popen(
            list(map(str, command)),
            cwd=config.parent,
            env={**tool_environment, 'PATH': path, 'PYTHONPATH': str(config.parent), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture(scope='module')
def two(config, run_two) -> tuple[Path, str]:
    """The work dir of the tiny training in two processes, and what they printed."""
    codes, said = run_two('train', config, '--work-dir', config.parent / 'run')
    assert codes == [0, 0], said
    return config.parent / 'run', ''.join(said)


def photos_seen(work_dir: Path) -> dict[str, str]:
    """The digest of each photo as the model saw it, by epoch and path; twice the same where it was seen twice."""
    seen: dict[str, str] = {}
    for file in work_dir.glob('photos_rank_*'):
        for line in file.read_text().splitlines():
            photo, _, digest = line.rpartition(' ')
            assert seen.setdefault(photo, digest) == digest
    return seen


def test_the_photos_are_shared_and_augmented_as_in_one_process(two, config, call, monkeypatch, tmp_path):
    work_dir, _ = two
    for rank in (0, 1):
        assert len((work_dir / f'photos_rank_{rank}').read_text().splitlines()) == 2 * 20
    monkeypatch.syspath_prepend(config.parent)
    assert call('train', config, '--work-dir', tmp_path / 'one').code == 0
    seen = photos_seen(work_dir)
    assert len(seen) == 2 * 40
    assert seen == photos_seen(tmp_path / 'one')


def test_every_rank_has_the_same_weights_and_buffers(two):
    work_dir, _ = two
    for epoch in (1, 2):
        first, second = ((work_dir / f'epoch_{epoch}_rank_{rank}').read_text() for rank in (0, 1))
        assert 'running_mean' in first
        assert 'num_batches_tracked' in first
        assert first == second
    # The best checkpoint is what the ranks had when it was validated, without the wrapper's prefix.
    best = torch.load(work_dir / 'best.pth', weights_only=True)
    digests = [
        f'module.{key} {hashlib.sha256(value.numpy().tobytes()).hexdigest()}'
        for key, value in best['state_dict'].items()
    ]
    assert '\n'.join(digests) == (work_dir / f'epoch_{best["meta"]["epoch"]}_rank_0').read_text()


def test_one_process_prints_and_each_photo_is_validated_once(two):
    work_dir, out = two
    assert out.count('best weights:') == 1
    assert len(re.findall(r'epoch 2/2 ', out)) == 1
    value = torch.load(work_dir / 'best.pth', weights_only=True)['meta']['value']
    assert value * 15 / 100 == pytest.approx(round(value * 15 / 100), abs=1e-4)  # 15 is odd: a photo twice gives 16
    assert [path.name for path in work_dir.glob('.*')] == ['.lock']


def test_terminated_in_the_middle_of_an_epoch_and_resumed_they_end_alike(two, config, run_two, start, tmp_path):
    unbroken, _ = two
    options = ['--work-dir', tmp_path / 'run', '--cfg-options', 'default_hooks.logger.interval=1']
    torchrun = ['torchrun', '--nproc_per_node', '2', '--master_port', free_port()]
    process = start(*torchrun, ROOT / 'tools' / 'train.py', config, '--launcher', 'pytorch', *options)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if 'Epoch(train) [2][1/3]' in line:
            process.terminate()  # torchrun, which passes it on
    assert process.wait() != 0
    out = ''.join(lines)
    (saved,) = re.findall(r'stopped by SIGTERM after iteration \d+; its state is in (\S+)', out)
    assert re.search(r'/epoch_1_iter_[456]\.pth$', saved)
    assert out.count('go on with: torchrun --nproc_per_node 2 ') == 1

    codes, said = run_two('train', config, *options[:2], '--resume')
    assert codes == [0, 0], said
    assert photos_seen(tmp_path / 'run') == photos_seen(unbroken)
    for rank in (0, 1):
        ends = [(folder / f'epoch_2_rank_{rank}').read_text() for folder in (tmp_path / 'run', unbroken)]
        assert ends[0] == ends[1]


def test_testing_in_two_processes_gives_the_figures_of_one(two, tiny_config, run_two, call, tmp_path):
    work_dir, _ = two
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        best = shutil.copy(work_dir / 'best.pth', tmp_path / name)
        argv = ['test', tiny_config, best, '--out', tmp_path / name / 'rows.json']
        if name == 'one':
            result = call(*argv)
            assert result.code == 0, result.err
        else:
            codes, said = run_two(*argv, '--report')
            assert codes == [0, 0], said
    assert 'id="errors"' in (tmp_path / 'two' / 'report' / 'index.html').read_text()
    one, two_ = (json.loads((tmp_path / name / 'metrics.json').read_text()) for name in ('one', 'two'))
    assert one['accuracy/top1']['n'] == 15
    assert one['accuracy/top1'] == two_['accuracy/top1']
    assert one['nll/mean'] == pytest.approx(two_['nll/mean'], rel=1e-5)
    rows = [json.loads((tmp_path / name / 'rows.json').read_text()) for name in ('one', 'two')]
    assert [row['path'] for row in rows[0]] == [row['path'] for row in rows[1]]
    for first, second in zip(*rows, strict=True):
        assert first['score'] == pytest.approx(second['score'], abs=1e-6)


def test_a_probe_by_two_processes_is_that_of_one(run_two, call, trained, tiny_config, tmp_path):
    options = ['--probe', '--cfg-options', f'load_from={trained.work_dir}/best.pth']
    done = call('train', tiny_config, '--work-dir', tmp_path / 'one', *options)
    assert done.code == 0, done.err
    codes, said = run_two('train', tiny_config, '--work-dir', tmp_path / 'two', *options)
    assert codes == [0, 0], said
    one, two = (torch.load(tmp_path / name / 'best.pth')['state_dict'] for name in ('one', 'two'))
    # Photos are batched otherwise, and the sums differ in their rounding.
    torch.testing.assert_close(two['head.fc.weight'], one['head.fc.weight'], rtol=1e-2, atol=1e-4)
    assert float(one['head.fc.weight'].norm()) > 0.1


def test_unusable_input_is_reported_once(tiny_config, run_two):
    codes, said = run_two('train', tiny_config, '--cfg-options', 'optim_wrapper.optimizer.lrr=1')
    assert codes == [2, 2]
    (line,) = ''.join(said).splitlines()
    assert line.startswith('error: --cfg-options optim_wrapper.optimizer.lrr')


def test_a_process_that_dies_on_another_machine_ends_the_run_which_can_be_resumed(
    config, start, run_two, call, monkeypatch, tmp_path
):
    options = ['--work-dir', tmp_path / 'run']
    script = [ROOT / 'tools' / 'dist_train.sh', config, '1', *options]
    nodes = {'NNODES': '2', 'MASTER_PORT': str(free_port()), 'DYING_RANK': '0'}
    started = [start(*script, NODE_RANK=str(node), **nodes) for node in (0, 1)]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]  # a hang would end after 600
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [1, 1]
    assert 'error: another process of this run ended or no longer answers (Connection ' in said[1]
    assert 'error: ' not in said[0]

    codes, said = run_two('train', config, *options, '--resume', DYING_RANK='1')
    assert codes == [2, -signal.SIGKILL]
    assert 'resuming from ' in said[0]
    assert 'error: another process of this run ended or no longer answers (Connection ' in said[0]

    monkeypatch.syspath_prepend(config.parent)
    result = call('train', config, *options, '--resume')  # by the one machine that is left
    assert result.code == 0, result.err
    assert 'resuming from ' in result.out
    assert torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 3 + 5
