"""MMEngine's Runner for prepared runs, and the start of its process group on any device."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn

from custom_modules.engine.compute import channels_last_pays, keep_freed_memory, to_channels_last
from custom_modules.engine.loops import ResumableTrainLoop
from custom_modules.engine.run import Run
from custom_modules.engine.run_config import LOADERS
from custom_modules.errors import InputError, as_configured
from custom_modules.models.checkpoints import load_checkpoint

LOOPS = (  # MMEngine takes three settings together, or none of them
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
STARTERS = {'pytorch': 'torchrun', 'slurm': 'srun', 'mpi': 'mpirun'}
# How each names, in the environment, a process's number, its number on this host and the count of processes.
RANK_NAMES = {
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
}


def has_accelerator() -> bool:
    """Whether MMEngine will put the model on an accelerator rather than on the CPU."""
    return get_device() != 'cpu'


@contextmanager
def lost_processes_reported() -> Iterator[None]:
    """Turns the errors of gloo and NCCL on a lost process into an :class:`InputError`."""
    try:
        yield
    except RuntimeError as error:
        lost = re.search(r'Connection closed|Connection reset|Broken pipe|[Tt]imed? ?out', str(error))
        if not (is_distributed() and lost and re.search('gloo|nccl', str(error), re.IGNORECASE)):
            raise
        raise InputError(
            f'another process of this run ended or no longer answers ({lost[0]}); its own output may '
            'say why; go on from the newest checkpoint with --resume'
        ) from error


class TerseRunner(Runner):
    """MMEngine's Runner; what is longer than a screen (environment, config, hooks) goes to the log file alone.

    A part that cannot be built from the config is an :class:`InputError`, for the config is what a user wrote.
    """

    _run: Run | None = None

    @classmethod
    def from_run(cls, run: Run) -> Self:
        """The runner of a prepared run, which uses its built datasets and its loaded checkpoint."""
        runner = cls.from_cfg(run.cfg)
        runner._run = run
        for name, dataset in run.datasets.items():
            # Upstream copies a loader's settings deeply, but a function is never copied.
            getattr(runner, f'_{name}_dataloader')['dataset'] = {'type': lambda dataset=dataset: dataset}
        return runner

    @classmethod
    def from_cfg(cls, cfg: Config) -> Self:
        """The runner of a config that has each loop whole or not at all."""
        for loop in LOOPS:
            lacking = [key for key in loop if cfg.get(key) is None]
            if 0 < len(lacking) < len(loop):
                there = [key for key in loop if key not in lacking]
                needed = f'{" and ".join(there)} {"needs" if len(there) == 1 else "need"} it'
                raise InputError(f'{", ".join(lacking)}: the config has none; {needed}')
        with as_configured('config'):
            return super().from_cfg(cfg)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The run's logger; its first handler is the terminal's, which shows a long message if it is ``whole``."""
        with as_configured('log_level'):
            logger = super().build_logger(*args, **kwargs)
        logger.handlers[0].addFilter(
            lambda record: record.getMessage().count('\n') < 20 or getattr(record, 'whole', False)
        )
        return logger

    def dump_config(self) -> None:
        """Leaves the training's config in the work dir as it is when the run is a test."""
        if self._train_dataloader is not None:
            super().dump_config()

    def train(self) -> nn.Module:
        """Trains; returns the model."""
        with lost_processes_reported():
            return super().train()

    def test(self) -> dict[str, float]:
        """Tests; returns the metrics."""
        with lost_processes_reported():
            return super().test()

    def test_also(self, dataloader: dict, metric: BaseMetric) -> None:
        """Tests the weights of the test that was before on another loader's photos, by ``metric`` alone.

        No hook hears of it: MMEngine's would write its figures over those of the test.
        """
        with as_configured('test_dataloader'):
            loop = TestLoop(self, dataloader, Evaluator([metric]), fp16=self.test_loop.fp16)
        hooks, self._hooks = self.hooks, []
        try:
            with lost_processes_reported():
                loop.run()
        finally:
            self._hooks = hooks

    def set_randomness(self, seed: Any, *args: Any, **kwargs: Any) -> None:
        """Seeds all generators."""
        with as_configured(f'randomness.seed {seed!r}'):
            super().set_randomness(seed, *args, **kwargs)

    def build_model(self, model: Any) -> Any:
        """The model, as the device trains it fastest."""
        with as_configured('model'):
            return self._laid_out(super().build_model(model))

    def _laid_out(self, model: nn.Module) -> nn.Module:
        test = self.cfg.get('test_cfg') or {}
        mixed_precision = 'Amp' in str((self.cfg.get('optim_wrapper') or {}).get('type')) or test.get('fp16', False)
        return to_channels_last(model) if channels_last_pays(get_device(), mixed_precision) else model

    def _init_model_weights(self) -> None:
        """Random numbers fill the memory in its order: drawn in upstream's layout, a seed gives upstream's weights."""
        self.model.to(memory_format=torch.contiguous_format)
        super()._init_model_weights()
        self._laid_out(self.model)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Builds a hook and puts it in its place."""
        with as_configured(f'hook {hook.get("type")}' if isinstance(hook, dict) else 'hook'):
            super().register_hook(hook, priority)

    def build_train_loop(self, loop: Any) -> Any:
        """The training loop with its loader."""
        if isinstance(loop, dict) and loop.get('by_epoch') and 'type' not in loop:
            loop = {'type': ResumableTrainLoop, **{key: loop[key] for key in loop if key != 'by_epoch'}}
        with as_configured('train_cfg, train_dataloader'):
            built = super().build_train_loop(loop)
        for name in ('max_epochs', 'val_interval'):
            if isinstance(built, EpochBasedTrainLoop) and getattr(built, name) < 1:
                hint = '; --no-validate trains without validating' if name == 'val_interval' else ''
                raise InputError(f'train_cfg.{name} is {getattr(built, name)}: it must be 1 or more{hint}')
        return built

    def build_val_loop(self, loop: Any) -> Any:
        """The validation loop with its loader and metrics."""
        with as_configured('val_cfg, val_dataloader, val_evaluator'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        """The test loop with its loader and metrics."""
        with as_configured('test_cfg, test_dataloader, test_evaluator'):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """The optimizer."""
        with as_configured('optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """The schedule of the learning rate."""
        with as_configured('param_scheduler'):
            return super().build_param_scheduler(scheduler)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Takes over weights, optimizer and progress of a checkpoint."""
        with as_configured(f'{filename} cannot be resumed with this config'):
            super().resume(filename, *args, **kwargs)

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),),
    ) -> dict:
        """Takes the weights of the run's loaded checkpoint, or of a file.

        Returns:
            The checkpoint without its config, which ``resume`` would run as code to look for ``gpu_ids``.
        """
        given = self._run and self._run.checkpoint
        checkpoint = given if given and filename == self._load_from else load_checkpoint(filename, map_location)
        meta = {key: value for key, value in (checkpoint.get('meta') or {}).items() if key != 'config'}
        checkpoint = {**checkpoint, 'meta': meta}
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        _load_checkpoint_to_model(model, checkpoint, strict, revise_keys=list(revise_keys))
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint


def place(cfg: Config, launcher: str) -> None:
    """Fits ``cfg`` to the device, in place, and starts the process group where MMEngine cannot.

    On a CPU this process keeps from now on the memory that it frees.

    Args:
        cfg: A run's config.
        launcher: ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
    """
    cfg.launcher = launcher
    accelerator = has_accelerator()
    for name in LOADERS:
        if cfg.get(name) is not None:
            cfg[name].setdefault('pin_memory', accelerator)
            if not cfg[name].get('num_workers'):
                cfg[name].persistent_workers = False  # torch refuses to keep no workers
    if not accelerator:
        keep_freed_memory()
    if launcher == 'none':
        return
    rank, _, _ = RANK_NAMES[launcher]
    if rank not in os.environ:
        raise InputError(f'--launcher {launcher}: this process was not started by {STARTERS[launcher]} (no {rank})')
    if accelerator:
        # The Runner would do both, but only after the tools have asked which process is the main one.
        set_multi_processing(**cfg.env_cfg.mp_cfg, distributed=True)
        init_dist(launcher, **cfg.env_cfg.dist_cfg)
        return
    # On a CPU, MMEngine's init_dist calls torch.cuda.set_device, and its wrapper names device_ids: both fail.
    _take_environment(launcher)
    if not is_distributed():
        torch.distributed.init_process_group(
            'gloo', timeout=timedelta(seconds=cfg.env_cfg.dist_cfg.get('timeout', 600))
        )
    cfg.setdefault('model_wrapper_cfg', {'type': 'MMDistributedDataParallel', 'device_ids': None})


def _take_environment(launcher: str) -> None:
    """Names the launcher's process number, its number on this host, the count and the first host as torch does."""
    for ours, theirs in zip(RANK_NAMES['pytorch'], RANK_NAMES[launcher], strict=True):
        os.environ[ours] = os.environ[theirs]
    os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'mpi' and 'MASTER_ADDR' not in os.environ:
        raise InputError('--launcher mpi: MASTER_ADDR has to name the first host, e.g. MASTER_ADDR=127.0.0.1')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], capture_output=True, text=True, check=True
        )
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
