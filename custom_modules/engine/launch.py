"""Where a run computes: which device, how many processes, and what MMEngine needs to be told for that."""

import os
import subprocess

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device

from custom_modules.errors import InputError


def has_accelerator() -> bool:
    """Whether MMEngine will put the model on an accelerator rather than on the CPU."""
    return get_device() != 'cpu'


def place(cfg: Config, launcher: str) -> None:
    """Fits ``cfg`` to the device, in place, and starts the process group where MMEngine cannot.

    Args:
        cfg: A run's config.
        launcher: ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
    """
    cfg.launcher = launcher
    accelerator = has_accelerator()
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is not None:
            cfg[name].setdefault('pin_memory', accelerator)
    if launcher == 'none' or accelerator:
        return
    # On a CPU, MMEngine's init_dist calls torch.cuda.set_device, and its wrapper names device_ids: both fail.
    if launcher == 'slurm':
        _take_slurm_environment()
    if 'RANK' not in os.environ:
        raise InputError(f'--launcher {launcher}: this process was not started by it (no RANK in the environment)')
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', {'type': 'MMDistributedDataParallel', 'device_ids': None})


def _take_slurm_environment() -> None:
    """Names slurm's process number, count and first host as torch expects them."""
    if 'SLURM_PROCID' not in os.environ:
        raise InputError('--launcher slurm: this process was not started by srun (no SLURM_PROCID in the environment)')
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], capture_output=True, text=True, check=True
        )
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
