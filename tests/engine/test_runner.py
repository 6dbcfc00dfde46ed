"""Fitting of a config to the device, and of the environment to the launcher."""

import os
import subprocess
from datetime import timedelta

import pytest
import torch
from mmengine.config import Config

from custom_modules.engine import runner
from custom_modules.engine.runner import set_up_device
from custom_modules.errors import InputError


@pytest.fixture
def environment(monkeypatch):
    """An environment without a launcher; what is set in it is undone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(('SLURM', 'OMPI'))}
    for key in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        kept.pop(key, None)
    monkeypatch.setattr(os, 'environ', kept)
    return kept


@pytest.fixture
def started(monkeypatch):
    """Records which process group is started, and starts none."""
    calls = []
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda backend, timeout: calls.append((backend, timeout))
    )
    monkeypatch.setattr(runner, 'init_dist', lambda launcher, **kwargs: calls.append((launcher, kwargs)))
    monkeypatch.setattr(runner, 'set_multi_processing', lambda **kwargs: None)
    return calls


def config():
    return Config(
        {
            'train_dataloader': {'num_workers': 2, 'persistent_workers': True},
            'val_dataloader': {'num_workers': 0, 'persistent_workers': True},
            'test_dataloader': None,
            'env_cfg': {'mp_cfg': {}, 'dist_cfg': {'backend': 'nccl', 'timeout': 600}},
        }
    )


@pytest.mark.parametrize(('device', 'pinned'), [('cpu', False), ('cuda', True), ('mps', True)])
def test_the_loaders_suit_the_device(device, pinned, monkeypatch):
    monkeypatch.setattr(runner, 'get_device', lambda: device)
    cfg = config()
    cfg.test_dataloader = {'pin_memory': 'as given', 'num_workers': 1}
    set_up_device(cfg, 'none')
    assert cfg.test_dataloader.pin_memory == 'as given'
    assert cfg.launcher == 'none'
    assert cfg.train_dataloader == {'num_workers': 2, 'persistent_workers': True, 'pin_memory': pinned}
    assert cfg.val_dataloader == {'num_workers': 0, 'persistent_workers': False, 'pin_memory': pinned}
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize(
    ('launcher', 'given'), [('pytorch', {'RANK': '0'}), ('slurm', {'SLURM_PROCID': '0'})], ids=lambda v: str(v)
)
def test_on_an_accelerator_mmengine_starts_the_group(launcher, given, monkeypatch, environment, started):
    monkeypatch.setattr(runner, 'get_device', lambda: 'cuda')
    environment.update(given)
    cfg = config()
    set_up_device(cfg, launcher)
    assert started == [(launcher, {'backend': 'nccl', 'timeout': 600})]
    assert 'model_wrapper_cfg' not in cfg


NAMES = {
    'slurm': {'SLURM_PROCID': '3', 'SLURM_LOCALID': '1', 'SLURM_NTASKS': '4'},
    'mpi': {'OMPI_COMM_WORLD_RANK': '3', 'OMPI_COMM_WORLD_LOCAL_RANK': '1', 'OMPI_COMM_WORLD_SIZE': '4'},
}


@pytest.mark.parametrize('launcher', NAMES)
def test_other_launchers_on_a_cpu(launcher, monkeypatch, environment, started):
    monkeypatch.setattr(runner, 'get_device', lambda: 'cpu')
    environment.update(NAMES[launcher], LOCAL_RANK='0')
    if launcher == 'mpi':
        with pytest.raises(InputError, match='set MASTER_ADDR to the first host'):
            set_up_device(config(), 'mpi')
        assert not started
    environment['MASTER_ADDR'] = '127.0.0.1'
    set_up_device(config(), launcher)
    assert started == [('gloo', timedelta(seconds=600))]
    found = [environment[key] for key in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')]
    assert found == ['3', '1', '4', '29500']


def test_slurm_on_a_cpu_finds_the_first_host(monkeypatch, environment, started):
    monkeypatch.setattr(runner, 'get_device', lambda: 'cpu')
    environment.update(NAMES['slurm'], LOCAL_RANK='0', SLURM_NODELIST='node[07-08]')

    def scontrol(command, **kwargs):
        assert command == ['scontrol', 'show', 'hostnames', 'node[07-08]']
        return subprocess.CompletedProcess(command, 0, stdout='node07\nnode08\n')

    monkeypatch.setattr(runner.subprocess, 'run', scontrol)
    set_up_device(config(), 'slurm')
    assert environment['MASTER_ADDR'] == 'node07'


@pytest.mark.parametrize(('launcher', 'by'), [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')])
def test_a_process_that_the_launcher_did_not_start(launcher, by, environment, started):
    with pytest.raises(InputError, match=f'--launcher {launcher}: this process was not started by {by}'):
        set_up_device(config(), launcher)
    assert not started
