"""Two processes on the CPU (gloo): they train in step, validate each photo once, and test as one process does."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).parents[2]

# Written beside the test's config: leaves a digest of every weight and buffer that this rank ends with.
DIGEST_HOOK = """
import hashlib
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class DigestHook(Hook):
    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics=None):
        state = runner.model.state_dict()
        lines = [f'{key} {hashlib.sha256(value.numpy().tobytes()).hexdigest()}' for key, value in state.items()]
        Path(runner.work_dir, f'epoch_{runner.epoch}_rank_{get_rank()}').write_text('\\n'.join(lines))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with Path(runner.work_dir, f'photos_rank_{get_rank()}').open('a') as file:
            file.writelines(f'{sample.img_path}\\n' for sample in data_batch['data_samples'])
        with Path(runner.work_dir, f'pixels_rank_{get_rank()}').open('a') as file:
            for photo, sample in zip(data_batch['inputs'], data_batch['data_samples']):
                digest = hashlib.sha256(photo.numpy().tobytes()).hexdigest()
                file.write(f'{runner.epoch} {sample.img_path} {digest}\\n')
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def leaves(tree):
    """The numbers in nested dicts and lists, in order."""
    if isinstance(tree, dict | list):
        return [leaf for part in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(part)]
    return [tree]


@pytest.fixture(scope='module')
def run_two(tool_environment, tmp_path_factory):
    """A function that runs a tool in two processes: ``run_two('train', config, …)``; returns stdout and stderr."""

    def run(name, *args, code=0, path=''):
        launcher = ['-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(free_port())]
        command = [sys.executable, *launcher, str(ROOT / 'tools' / f'{name}.py'), *map(str, args)]
        here = tmp_path_factory.mktemp('two')
        done = subprocess.run(
            [*command, '--launcher', 'pytorch'],
            cwd=here,
            env={**tool_environment, 'PYTHONPATH': str(path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode == 0) == (code == 0), done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture(scope='module')
def two(tiny_config, run_two, tmp_path_factory):
    """The work dir of the tiny training in two processes, and what it printed."""
    folder = tmp_path_factory.mktemp('two_processes')
    (folder / 'digest_hook.py').write_text(DIGEST_HOOK)
    config = folder / 'tiny.py'
    imports = Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py').custom_imports.imports
    config.write_text(
        f'_base_ = {str(tiny_config)!r}\n'
        f'custom_imports = dict(imports={[*imports, "digest_hook"]!r})\n'
        "default_hooks = dict(digest=dict(type='DigestHook'))\n"
        # As on GPUs: otherwise each forward pass begins with the first rank's batch-norm statistics.
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)\n"
    )
    out, _ = run_two('train', config, '--work-dir', folder / 'run', path=folder)
    return folder / 'run', out


def pixels(work_dir: Path) -> dict[str, str]:
    """The digest of each photo as the model saw it, by epoch and path; twice the same where it was seen twice."""
    seen: dict[str, str] = {}
    for file in work_dir.glob('pixels_rank_*'):
        for line in file.read_text().splitlines():
            photo, _, digest = line.rpartition(' ')
            assert seen.setdefault(photo, digest) == digest
    return seen


def test_the_photos_are_augmented_as_in_one_process(two, call, monkeypatch, tmp_path):
    work_dir, _ = two
    monkeypatch.syspath_prepend(work_dir.parent)
    assert call('train', work_dir.parent / 'tiny.py', '--work-dir', tmp_path / 'one').code == 0
    seen = pixels(work_dir)
    assert len(seen) == 2 * 40
    assert seen == pixels(tmp_path / 'one')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_terminated_in_the_middle_of_an_epoch_and_resumed_they_end_alike(two, run_two, tool_environment, tmp_path):
    unbroken, _ = two
    config = unbroken.parent / 'tiny.py'
    launcher = ['-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(free_port())]
    options = ['--work-dir', tmp_path / 'run', '--cfg-options', 'default_hooks.logger.interval=1']
    command = [*launcher, ROOT / 'tools' / 'train.py', config, '--launcher', 'pytorch', *options]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=tmp_path,
        env={**tool_environment, 'PYTHONPATH': str(config.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if 'Epoch(train) [2][1/3]' in line:
            process.terminate()  # torchrun, which hands it on
    assert process.wait() != 0
    out = ''.join(lines)
    (saved,) = re.findall(r'stopped by SIGTERM after iteration \d+; its state is in (\S+)', out)
    assert re.search(r'/epoch_1_iter_[456]\.pth$', saved)
    assert out.count('go on with: torchrun --nproc_per_node 2 ') == 1

    run_two('train', config, *options[:2], '--resume', path=config.parent)
    assert pixels(tmp_path / 'run') == pixels(unbroken)
    for rank in (0, 1):
        ends = [(folder / f'epoch_2_rank_{rank}').read_text() for folder in (tmp_path / 'run', unbroken)]
        assert ends[0] == ends[1]


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


def test_the_ranks_share_the_photos_of_an_epoch(two):
    work_dir, _ = two
    seen = [(work_dir / f'photos_rank_{rank}').read_text().split() for rank in (0, 1)]
    assert [len(paths) for paths in seen] == [2 * 20, 2 * 20]
    for epoch in (0, 1):
        first, second = (set(paths[epoch * 20 : (epoch + 1) * 20]) for paths in seen)
        assert len(first | second) == 40


def test_one_process_prints_and_each_photo_is_validated_once(two):
    work_dir, out = two
    assert out.count('best weights:') == 1
    assert len(re.findall(r'epoch 2/2 ', out)) == 1
    value = torch.load(work_dir / 'best.pth', weights_only=True)['meta']['value']
    assert value * 15 / 100 == pytest.approx(round(value * 15 / 100), abs=1e-4)  # 15 is odd: a photo twice gives 16
    assert [path.name for path in work_dir.glob('.*')] == ['.lock']


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
            run_two(*argv, '--report')
    assert 'id="errors"' in (tmp_path / 'two' / 'report' / 'index.html').read_text()
    one, two_ = (json.loads((tmp_path / name / 'metrics.json').read_text()) for name in ('one', 'two'))
    assert one['accuracy/top1']['n'] == 15
    for key in ('nll/mean', 'ece/15_bins'):
        assert one.pop(key) == pytest.approx(two_.pop(key), rel=1e-5)
    for key in ('temperature_scaling', 'coverage'):  # scores differ in their last digits
        assert leaves(one.pop(key)) == pytest.approx(leaves(two_.pop(key)), rel=1e-3)
    assert {**one, 'checkpoint': ''} == {**two_, 'checkpoint': ''}
    rows = [json.loads((tmp_path / name / 'rows.json').read_text()) for name in ('one', 'two')]
    assert [row['path'] for row in rows[0]] == [row['path'] for row in rows[1]]
    for first, second in zip(*rows, strict=True):
        assert first['score'] == pytest.approx(second['score'], abs=1e-6)


def test_a_probe_by_two_processes_is_that_of_one(run_two, call, trained, tiny_config, tmp_path):
    options = ['--probe', '--cfg-options', f'load_from={trained.work_dir}/best.pth']
    assert call('train', tiny_config, '--work-dir', tmp_path / 'one', *options).code == 0
    run_two('train', tiny_config, '--work-dir', tmp_path / 'two', *options)
    one, two = (torch.load(tmp_path / name / 'best.pth')['state_dict'] for name in ('one', 'two'))
    # Photos are batched otherwise, and the sums differ in their rounding.
    torch.testing.assert_close(two['head.fc.weight'], one['head.fc.weight'], rtol=1e-2, atol=1e-4)
    assert float(one['head.fc.weight'].norm()) > 0.1


def test_unusable_input_is_told_once(tiny_config, run_two):
    out, err = run_two('train', tiny_config, '--cfg-options', 'optim_wrapper.optimizer.lrr=1', code=2)
    assert err.count('error: --cfg-options optim_wrapper.optimizer.lrr') == 1
    assert out == ''


# A process that is killed in the second epoch, as a machine's memory guard or a pre-emption does it.
DYING_HOOK = """
import os
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class DyingHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4 and get_rank() == int(os.environ.get('DYING_RANK', -1)):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_dies_on_another_machine_ends_the_run_which_can_be_resumed(
    tiny_config, tool_environment, call, monkeypatch, tmp_path
):
    (tmp_path / 'dying_hook.py').write_text(DYING_HOOK)
    config = tmp_path / 'tiny.py'
    imports = Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py').custom_imports.imports
    config.write_text(
        f'_base_ = {str(tiny_config)!r}\n'
        f'custom_imports = dict(imports={[*imports, "dying_hook"]!r})\n'
        "default_hooks = dict(dying=dict(type='DyingHook'))\n"
    )

    def run_on_two_machines(**environment):
        """Two groups of one process each over loopback; returns their exit codes and what they said."""
        port = str(free_port())
        started = [
            subprocess.Popen(
                [ROOT / 'tools' / 'dist_train.sh', config, '1', '--work-dir', tmp_path / 'run'],
                cwd=tmp_path,
                env={
                    **tool_environment,
                    **environment,
                    'PATH': f'{Path(sys.executable).parent}:{tool_environment["PATH"]}',
                    'PYTHONPATH': str(tmp_path),
                    'NNODES': '2',
                    'NODE_RANK': str(node),
                    'MASTER_PORT': port,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for node in (0, 1)
        ]
        try:
            said = [process.communicate(timeout=60)[0] for process in started]  # a hang would end after 600
        finally:
            for process in started:
                process.kill()
        return [process.returncode for process in started], said

    codes, said = run_on_two_machines(DYING_RANK='1')
    assert codes == [1, 1]
    assert 'error: another process of this run ended or no longer answers (Connection ' in said[0]
    assert 'error: ' not in said[1]
    monkeypatch.syspath_prepend(tmp_path)  # the run continues on the machine that is left
    result = call('train', config, '--work-dir', tmp_path / 'run', '--resume')
    assert result.code == 0, result.err
    assert 'resuming from ' in result.out
    assert torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 3 + 5
