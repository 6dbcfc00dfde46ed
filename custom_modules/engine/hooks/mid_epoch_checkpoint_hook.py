"""Checkpoints in the middle of an epoch: every few minutes, and when a signal asks the run to stop."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, gather_object, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import Tensor

from custom_modules.engine.hooks.curves_hook import CurvesHook
from custom_modules.engine.loops import ResumableTrainLoop, counts_epochs, progress_text
from custom_modules.engine.stop_signals import Stopped, shield_worker, stop_signal
from custom_modules.errors import InputError


@HOOKS.register_module()
class MidEpochCheckpointHook(Hook):
    """Saves in the middle of an epoch, and ends the run after a signal with its state saved.

    ``epoch_3_iter_700.pth`` is the state after epoch 3 and 700 iterations in all. There is at most one such file; it
    is removed when a newer checkpoint exists. The loops of ``loops.py`` continue from it with the next batch.

    After a signal (:func:`stop_signals_caught`) all ranks finish the current iteration, or group of accumulated
    iterations, and save. During validation the run stops at once if the epoch's checkpoint exists.

    Args:
        minutes: How often to save; 0 saves only when the run is asked to stop. Defaults to 10.0.

    Raises:
        Stopped: A signal asked for it; the state is saved.
        InputError: A checkpoint from the middle of an epoch does not fit this run's batches.
    """

    priority = 'LOWEST'  # after all other hooks have seen the iteration, and after CheckpointHook

    def __init__(self, minutes: float = 10.0) -> None:
        self.minutes = minutes
        self._batches_done = 0
        self._ranks: list[dict[str, Tensor]] = []  # rank_tensors of each rank: of the resumed checkpoint or the next

    def before_train(self, runner: Runner) -> None:
        self._group = None
        if runner.distributed and torch.distributed.get_backend() != 'gloo':
            self._group = torch.distributed.new_group(backend='gloo')  # a flag on the GPU would make it wait
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loop.dataloader.worker_init_fn = partial(shield_worker, loop.dataloader.worker_init_fn)
        if self._ranks:
            saved = self._ranks[runner.rank if len(self._ranks) == runner.world_size else 0]
            for name, tensor in rank_tensors(runner).items():
                tensor.copy_(saved.get(name, tensor))
            self._ranks = []
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
                stop(runner, signal, f'after iteration {runner.iter + 1}; its state is in {path}')

    def after_train_epoch(self, runner: Runner) -> None:
        if is_main_process() and saved(runner, runner.epoch + 1):
            remove_mid_epoch_checkpoints(Path(runner.work_dir))
            self._last_save = time.monotonic()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # The ranks need not agree: nothing is left to save, and each gets the signal itself.
        if stop_signal() and runner._train_loop is not None and saved(runner, runner.epoch):
            stop(runner, stop_signal(), f'while validating {progress_text(runner)}, whose checkpoint exists')

    def _save(self, runner: Runner) -> Path:
        path = Path(runner.work_dir) / f'epoch_{runner.epoch}_iter_{runner.iter + 1}.pth'
        mine = {name: tensor.cpu() for name, tensor in rank_tensors(runner).items()}
        self._ranks = gather_object(mine, group=self._group) or []
        meta = {'epoch': runner.epoch, 'iter': runner.iter + 1}
        runner.save_checkpoint(runner.work_dir, path.name, meta=meta, by_epoch=False)
        self._ranks = []
        if is_main_process():
            remove_mid_epoch_checkpoints(path.parent, but=path)
        barrier()  # torchrun ends all ranks with the first that ends, which must not be while rank 0 writes
        self._last_save = time.monotonic()
        return path

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        in_mid_epoch = checkpoint['meta']['epoch'] == runner.epoch  # at its end, MMEngine counts the epoch as done
        if in_mid_epoch:
            checkpoint['MidEpochCheckpointHook'] = {
                'batches_done': self._batches_done,
                'batches': describe_batches(runner),
                # MMEngine's own CheckpointHook, every N iterations, asks the first rank alone.
                'ranks': self._ranks or [rank_tensors(runner)],
            }
        schedules = checkpoint.get('param_schedulers', [])
        for states in schedules.values() if isinstance(schedules, dict) else [schedules]:
            for state in states:
                state.pop('anneal_func', None)  # OneCycleLR's is code, which a safe loading refuses
        if is_accumulating(runner, checkpoint['meta']['iter']) and not runner.distributed:
            parameters = runner.model.named_parameters()
            checkpoint['gradients'] = {name: value.grad.cpu() for name, value in parameters if value.grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        gradients = checkpoint.get('gradients', {})
        for name, parameter in runner.model.named_parameters():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter)
        if state := checkpoint.get('MidEpochCheckpointHook'):
            self._ranks = state['ranks']
            loop, done = runner.train_loop, state['batches_done']
            before, now = state.get('batches', 'an older version'), describe_batches(runner)
            if not isinstance(loop, ResumableTrainLoop) and counts_epochs(runner):
                name = type(loop).__name__
                runner.logger.warning(f'{name} begins the epoch again: its first {done} batches are trained twice')
                return
            if counts_epochs(runner) and before != now:
                raise InputError(
                    f'the checkpoint is from the middle of an epoch of {before}; this run has {now}. '
                    'Continue with the same, or with --resume and the path of the last epoch_N.pth'
                )
            loop.first_batch = self._batches_done = done


def rank_tensors(runner: Runner) -> dict[str, Tensor]:
    """The tensors that differ between ranks: sums over the epoch so far, and batch-norm statistics."""
    tensors = {}
    if runner.distributed:  # otherwise the checkpoint has the statistics
        tensors = {f'model.{name}': buffer for name, buffer in runner.model.named_buffers()}
    for hook in runner.hooks:
        if isinstance(hook, CurvesHook):
            tensors['sums'] = hook.sums
        elif isinstance(hook, EMAHook) and runner.distributed:
            tensors |= {f'ema.{name}': buffer for name, buffer in hook.ema_model.named_buffers()}
    return tensors


def is_accumulating(runner: Runner, iterations: int) -> bool:
    """Whether after so many iterations gradients wait for the optimizer's next step."""
    return iterations % getattr(runner.optim_wrapper, '_accumulative_counts', 1) != 0


def describe_batches(runner: Runner) -> str:
    """The numbers that decide which images are in which batch."""
    loader = runner.train_dataloader
    sizes = f'{len(loader.dataset)} images, {len(loader)} batches of {loader.batch_size}'
    return f'{sizes}, {runner.world_size} process(es)'


def saved(runner: Runner, epoch: int) -> bool:
    """Whether ``CheckpointHook`` has saved the end of this epoch, or the last iteration."""
    names = f'epoch_{epoch}.pth', f'iter_{runner.iter}.pth'
    return any((Path(runner.work_dir) / name).exists() for name in names)


def stop(runner: Runner, signal: int, where: str) -> None:
    """Ends the run."""
    runner.visualizer.close()  # writes what TensorBoard still buffers
    raise Stopped(signal, where)


def remove_mid_epoch_checkpoints(work_dir: Path, but: Path | None = None) -> None:
    """Removes checkpoints from the middle of epochs, of which newer ones exist."""
    for path in work_dir.glob('epoch_*_iter_*.pth'):
        if path != but:
            path.unlink(missing_ok=True)
