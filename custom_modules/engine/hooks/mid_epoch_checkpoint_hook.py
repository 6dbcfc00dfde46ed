"""Checkpoints in the middle of an epoch: every few minutes, and when a signal asks the run to stop."""

import time
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, gather_object, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.engine.loops import ResumableTrainLoop
from custom_modules.engine.stop_signals import ShieldedWorker, Stopped, stop_signal
from custom_modules.errors import InputError


@HOOKS.register_module()
class MidEpochCheckpointHook(Hook):
    """Saves in the middle of an epoch, and ends the run after a signal with its state saved.

    ``epoch_3_iter_700.pth`` is the state after epoch 3 and 700 iterations in all. There is at most one such file; it
    is removed when a newer checkpoint exists. :class:`ResumableTrainLoop` continues from it with the next batch. In
    addition to MMEngine's content it holds what differs between processes: batch-norm statistics, and what hooks
    gathered in the epoch so far (their ``rank_state`` and ``resume_rank_state``). An epoch's checkpoint between two
    steps of an optimizer that accumulates gradients holds these gradients, in a run of one process.

    After a signal (:func:`stop_signals_caught`) the current iteration, or group of accumulated iterations, is
    finished, on all ranks the same one; then the state is saved. During validation the run stops at once if the
    epoch's checkpoint exists.

    Args:
        minutes: How often to save; 0 saves only when the run is asked to stop. Defaults to 10.0.

    Raises:
        Stopped: A signal asked for it; the state is saved.
        InputError: A checkpoint from the middle of an epoch does not fit this run's batches.
    """

    priority = 'LOWEST'  # after all other hooks have seen the iteration, and after CheckpointHook

    def __init__(self, minutes: float = 10.0) -> None:
        if minutes < 0:
            raise InputError(f'MidEpochCheckpointHook: minutes is {minutes}; it must be 0 or more')
        self.minutes = minutes
        self._batches_done = 0
        self._resumed: dict = {}
        self._rank_states: list[dict] = []

    def before_train(self, runner: Runner) -> None:
        self._group = None
        if runner.distributed and torch.distributed.get_backend() != 'gloo':
            self._group = torch.distributed.new_group(backend='gloo')  # a flag on the GPU would make it wait
        for loader in (runner.train_dataloader, runner.val_dataloader if runner.val_loop is not None else None):
            if loader is not None:
                loader.worker_init_fn = ShieldedWorker(loader.worker_init_fn)
        self._resume(runner, **self._resumed)
        self._last_save = time.monotonic()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._batches_done = batch_idx + 1

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        due = 0 < self.minutes * 60 <= time.monotonic() - self._last_save
        flags = torch.tensor([stop_signal(), due and runner.rank == 0])
        all_reduce(flags, 'max', self._group)  # any rank's signal stops all; the first one's clock decides
        signal, save = flags.tolist()
        if (signal or save) and not is_accumulating(runner, runner.iter + 1):
            path = self._save(runner)
            if signal:
                self._stop(runner, signal, f'after iteration {runner.iter + 1}; its state is in {path}')

    def after_train_epoch(self, runner: Runner) -> None:
        self._batches_done = 0
        if is_main_process() and (Path(runner.work_dir) / f'epoch_{runner.epoch + 1}.pth').exists():
            remove_mid_epoch_checkpoints(Path(runner.work_dir))
            self._last_save = time.monotonic()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # The ranks need not agree: nothing is left to save, and each gets the signal itself.
        saved = Path(runner.work_dir) / f'epoch_{runner.epoch}.pth'
        if stop_signal() and runner._train_loop is not None and saved.exists():
            self._stop(runner, stop_signal(), f'while validating epoch {runner.epoch}, whose checkpoint exists')

    def _save(self, runner: Runner) -> Path:
        path = Path(runner.work_dir) / f'epoch_{runner.epoch}_iter_{runner.iter + 1}.pth'
        self._rank_states = gather_object(rank_state(runner), group=self._group) or []
        meta = {'epoch': runner.epoch, 'iter': runner.iter + 1}
        runner.save_checkpoint(runner.work_dir, path.name, meta=meta, by_epoch=False)
        self._rank_states = []
        if is_main_process():
            remove_mid_epoch_checkpoints(path.parent, but=path)
        barrier()  # torchrun ends all ranks with the first that ends, which must not be while rank 0 writes
        self._last_save = time.monotonic()
        return path

    def _stop(self, runner: Runner, signal: int, where: str) -> None:
        runner.visualizer.close()  # writes what TensorBoard still buffers
        raise Stopped(signal, where)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['epoch'] == runner.epoch and self._batches_done:  # an epoch's own counts one more
            checkpoint['MidEpochCheckpointHook'] = {
                'batches_done': self._batches_done,
                'epoch': shape_of_epoch(runner),
                # MMEngine's own CheckpointHook, every N iterations, asks the first rank alone.
                'ranks': self._rank_states or [rank_state(runner)],
            }
        schedules = checkpoint.get('param_schedulers', [])
        for state in chain.from_iterable(schedules.values()) if isinstance(schedules, dict) else schedules:
            state.pop('anneal_func', None)  # OneCycleLR's is code, which a safe loading refuses
        if is_accumulating(runner, checkpoint['meta']['iter']) and not runner.distributed:
            parameters = runner.model.named_parameters()
            checkpoint['gradients'] = {name: value.grad.cpu() for name, value in parameters if value.grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        self._resumed = {'gradients': checkpoint.get('gradients', {})}
        if state := checkpoint.get('MidEpochCheckpointHook'):
            check_epoch(runner, state['epoch'], checkpoint['meta']['epoch'])
            runner.train_loop.first_batch = self._batches_done = state['batches_done']
            self._resumed['states'] = state['ranks']

    def _resume(self, runner: Runner, gradients: dict | None = None, states: list[dict] | None = None) -> None:
        """Restores this rank's state and the accumulated gradients."""
        self._resumed = {}
        for name, parameter in runner.model.named_parameters():
            if gradients and name in gradients:
                parameter.grad = gradients[name].to(parameter)
        if states:
            state = states[runner.rank if len(states) == runner.world_size else 0]
            for hook in runner.hooks:
                if hasattr(hook, 'resume_rank_state'):
                    hook.resume_rank_state(runner, state['hooks'][type(hook).__name__])
            for mine, saved in zip(buffers_of(runner), state['buffers'], strict=False):
                mine.copy_(saved)


def rank_state(runner: Runner) -> dict:
    """The state that differs between ranks."""
    hooks = {type(hook).__name__: hook.rank_state() for hook in runner.hooks if hasattr(hook, 'rank_state')}
    buffers = [buffer.cpu() for buffer in buffers_of(runner)] if runner.distributed else []
    return {'hooks': hooks, 'buffers': buffers}


def buffers_of(runner: Runner) -> list[torch.Tensor]:
    """The buffers of the model and of its EMA model if it has one: batch-norm statistics, mostly."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return [buffer for module in (runner.model, *averages) for buffer in module.buffers()]


def is_accumulating(runner: Runner, iterations: int) -> bool:
    """Whether after so many iterations gradients wait for the optimizer's next step."""
    return iterations % getattr(runner.optim_wrapper, '_accumulative_counts', 1) != 0


def shape_of_epoch(runner: Runner) -> dict[str, int]:
    """The numbers that decide which images are in which batch."""
    loader = runner.train_dataloader
    return {
        'photos': len(loader.dataset),
        'batches': len(loader),
        'batch_size': loader.batch_size,
        'processes': runner.world_size,
    }


def check_epoch(runner: Runner, before: dict[str, int], epoch: int) -> None:
    """Makes sure that a checkpoint from the middle of an epoch fits this run's loop and batches."""
    if not isinstance(runner.train_loop, ResumableTrainLoop):
        raise InputError('a checkpoint from the middle of an epoch needs train_cfg.type ResumableTrainLoop')
    now = shape_of_epoch(runner)
    if before != now:
        was, is_ = (', '.join(f'{key} {value}' for key, value in shape.items()) for shape in (before, now))
        raise InputError(
            f'the checkpoint is from the middle of an epoch of {was}; this run has {is_}: go on with the same, or '
            + (
                f'from the last whole epoch with --resume and the path of epoch_{epoch}.pth'
                if epoch
                else 'start again'
            )
        )


def remove_mid_epoch_checkpoints(work_dir: Path, but: Path | None = None) -> None:
    """Removes checkpoints from the middle of epochs, of which newer ones exist."""
    for path in work_dir.glob('epoch_*_iter_*.pth'):
        if path != but:
            path.unlink(missing_ok=True)
