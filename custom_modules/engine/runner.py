"""MMEngine's Runner for prepared runs, and the start of its process group on any device."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn

from custom_modules.engine.effective_settings import SimulatedSchedules
from custom_modules.engine.loops import ResumableIterTrainLoop, ResumableTrainLoop, bare_model
from custom_modules.engine.performance import channels_last_pays, keep_freed_memory, to_channels_last
from custom_modules.engine.resume import continue_schedules
from custom_modules.engine.run import Run
from custom_modules.engine.run_config import LOADERS, without_pretrained
from custom_modules.errors import InputError, as_configured
from custom_modules.metrics.predictions import Prediction
from custom_modules.metrics.predictions_metric import PredictionsMetric
from custom_modules.models.checkpoints import load_checkpoint

# For each launcher: its command, and how it names a process's number, that on this host, and their count.
LAUNCHERS = {
    'pytorch': ('torchrun', 'RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('srun', 'SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': ('mpirun', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
}

# The loops that take the places of MMEngine's, which cannot resume in the middle of an epoch.
RESUMABLE = {'EpochBasedTrainLoop': ResumableTrainLoop, 'IterBasedTrainLoop': ResumableIterTrainLoop}


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
        why = f'another process of this run ended or no longer answers ({lost[0]})'
        raise InputError(f'{why}. Read its output, then continue with --resume.') from error


class PreparedRunner(Runner):
    """MMEngine's Runner for a prepared run. Messages of 20 lines or more go to the log file only.

    A part that cannot be built from the config is an :class:`InputError`, because users write the config.
    """

    train = lost_processes_reported()(Runner.train)
    test = lost_processes_reported()(Runner.test)
    build_val_loop = as_configured('val_cfg, val_dataloader, val_evaluator')(Runner.build_val_loop)
    build_test_loop = as_configured('test_cfg, test_dataloader, test_evaluator')(Runner.build_test_loop)
    build_optim_wrapper = as_configured('optim_wrapper')(Runner.build_optim_wrapper)
    build_param_scheduler = as_configured('param_scheduler')(Runner.build_param_scheduler)

    _run: Run | None = None

    @classmethod
    def from_run(cls, run: Run) -> Self:
        """The runner of a prepared run, which uses its built datasets and its loaded checkpoint."""
        with as_configured('config'):
            runner = cls.from_cfg(run.cfg)
        runner._run = run
        for name, dataset in run.datasets.items():
            # Upstream copies a loader's settings deeply, but a function is never copied.
            getattr(runner, f'_{name}_dataloader')['dataset'] = {'type': lambda dataset=dataset: dataset}
        return runner

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The run's logger; its first handler is the terminal's, which shows a long message if it is ``whole``."""
        with as_configured('log_level'):
            logger = super().build_logger(*args, **kwargs)
        logger.handlers[0].addFilter(lambda record: 'whole' in vars(record) or record.getMessage().count('\n') < 20)
        return logger

    @as_configured('resuming with this config')
    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Continues as the config plans it, even if the checkpoint is of a shorter run."""
        planned = SimulatedSchedules(self)
        super().resume(*args, **kwargs)
        if line := continue_schedules(self, planned):
            self.logger.warning(line)

    def dump_config(self) -> None:
        """Leaves the training's config in the work dir as it is when the run is a test."""
        if self._train_dataloader is not None:
            super().dump_config()

    def predict_also(self, dataset: Any) -> list[Prediction]:
        """Predictions for another dataset by the weights and the loader's settings of the last test, without hooks.

        MMEngine's hooks would write its figures over those of the test.
        """
        metric = PredictionsMetric()
        loader = {**self.cfg.test_dataloader, 'dataset': dataset, 'persistent_workers': False}  # it is used once
        with as_configured('test_dataloader'):
            loop = TestLoop(self, loader, Evaluator([metric]), fp16=self.test_loop.fp16)
        hooks, self._hooks = self.hooks, []
        try:
            with lost_processes_reported():
                loop.run()
        finally:
            self._hooks = hooks
        return list(metric.predictions)

    def build_model(self, model: Any) -> Any:
        """The model, as the device trains it fastest."""
        if self._resume and isinstance(model, dict):  # all weights are in the checkpoint
            model = without_pretrained(model)
        with as_configured('model'):
            return self._laid_out(super().build_model(model))

    def _laid_out(self, model: nn.Module) -> nn.Module:
        test = self.cfg.get('test_cfg') or {}
        mixed_precision = 'Amp' in str((self.cfg.get('optim_wrapper') or {}).get('type')) or test.get('fp16', False)
        return to_channels_last(model) if channels_last_pays(get_device(), mixed_precision) else model

    def _init_model_weights(self) -> None:
        """Initializes the weights in contiguous layout, so that a seed gives upstream's weights; not for a resume."""
        if self._resume:
            return
        self.model.to(memory_format=torch.contiguous_format)
        super()._init_model_weights()
        self._laid_out(self.model)

    def build_train_loop(self, loop: Any) -> Any:
        """The training loop with its loader."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if 'by_epoch' in loop and 'type' not in loop:
                loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
            kind = loop.get('type')
            if ours := RESUMABLE.get(getattr(kind, '__name__', str(kind).rpartition('.')[2])):
                loop['type'] = ours
        with as_configured('train_cfg, train_dataloader'):
            built = super().build_train_loop(loop)
        for name in ('max_epochs', 'val_interval'):
            if isinstance(built, EpochBasedTrainLoop) and getattr(built, name) < 1:
                hint = ', or train with --no-validate' if name == 'val_interval' else ''
                raise InputError(f'train_cfg.{name}: is {getattr(built, name)}. Give 1 or more{hint}.')
        return built

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, revise_keys: Any = ((r'^module.', ''),)
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
        _load_checkpoint_to_model(bare_model(self), checkpoint, strict, revise_keys=list(revise_keys))
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint


def set_up_device(cfg: Config, launcher: str) -> None:
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
    command, *names = LAUNCHERS[launcher]
    if names[0] not in os.environ:
        raise InputError(f'--launcher {launcher}: this process was not started by {command} (no {names[0]})')
    if accelerator:
        # The Runner would do both, but only after the tools have asked which process is the main one.
        set_multi_processing(**cfg.env_cfg.mp_cfg, distributed=True)
        init_dist(launcher, **cfg.env_cfg.dist_cfg)
        return
    # On a CPU, MMEngine's init_dist calls torch.cuda.set_device, and its wrapper names device_ids: both fail.
    for ours, theirs in zip(('RANK', 'LOCAL_RANK', 'WORLD_SIZE'), names, strict=True):
        os.environ[ours] = os.environ[theirs]
    os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        show_hosts = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(show_hosts, capture_output=True, text=True, check=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]
    if 'MASTER_ADDR' not in os.environ:
        raise InputError(f'--launcher {launcher}: set MASTER_ADDR to the first host, e.g. MASTER_ADDR=127.0.0.1')
    if not is_distributed():
        timeout = timedelta(seconds=cfg.env_cfg.dist_cfg.get('timeout', 600))
        torch.distributed.init_process_group('gloo', timeout=timeout)
    cfg.setdefault('model_wrapper_cfg', {'type': 'MMDistributedDataParallel', 'device_ids': None})
