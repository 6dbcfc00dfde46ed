"""Checkpoints between those of the epochs: every few minutes, and when a signal asks the run to stop."""

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
    """Saves in the middle of an epoch, and ends the run in good order when a signal asks for it.

    ``epoch_3_iter_700.pth`` is the state after epoch 3 and 700 iterations in all. There is at most one such file; it
    goes when a newer checkpoint exists. :class:`ResumableTrainLoop` goes on from it at the next batch. Beside what
    every checkpoint holds, it has what differs between processes: batch-norm statistics, and what hooks gathered in
    the epoch so far (``rank_state`` and ``resume_rank_state``).

    An epoch's checkpoint between two steps of an optimizer that accumulates gradients holds those so far, in one
    process; in several they differ, so such an epoch is resumed without, which mmengine warns of.

    After a signal (:func:`stop_signals_caught`) the iteration in flight is finished, on all ranks the same one, or
    with gradient accumulation the last of its group; then the state is saved and :class:`Stopped` raised. During
    validation it is raised at once if the epoch's checkpoint exists, as with an interval of 1.

    Args:
        minutes: How often to save; 0 saves only when the run is asked to stop. Defaults to 10.0.

    Raises:
        Stopped: A signal asked for it; the state is saved.
        InputError: A checkpoint from the middle of an epoch does not fit this run's batches.
    """

    priority = 'LOWEST'  # after every other hook has taken note of the iteration, and after CheckpointHook

    def __init__(self, minutes: float = 10.0) -> None:
        if minutes < 0:
            raise InputError(f'MidEpochCheckpointHook: minutes is {minutes}; it must be 0 or more')
        self.minutes = minutes
        self._batches_done = 0
        self._rank_states: list[dict] | None = None
        self._gradients: dict[str, torch.Tensor] = {}
        self._saved = False  # whether the present state is in a checkpoint

    def before_train(self, runner: Runner) -> None:
        self._group = None
        if runner.distributed and torch.distributed.get_backend() != 'gloo':
            self._group = torch.distributed.new_group(backend='gloo')  # asking a GPU would make it wait
        for loader in (runner.train_dataloader, runner.val_dataloader if runner.val_loop is not None else None):
            if loader is not None:
                loader.worker_init_fn = ShieldedWorker(loader.worker_init_fn)
        if self._rank_states is not None:
            self._resume_rank_state(runner, self._rank_states)
            self._rank_states = None
        for name, parameter in runner.model.named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}
        self._last_save = time.monotonic()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._batches_done, self._saved = batch_idx + 1, False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        due = 0 < self.minutes * 60 <= time.monotonic() - self._last_save
        signal, due = self._agree(runner, stop_signal(), due)
        if (signal or due) and not is_accumulating(runner, runner.iter + 1):
            path = self._save(runner)
            if signal:
                self._stop(runner, signal, f'after iteration {runner.iter + 1}; its state is in {path}')

    def after_train_epoch(self, runner: Runner) -> None:
        self._batches_done = 0
        newest = runner.message_hub.runtime_info.get('last_ckpt', '')  # CheckpointHook's
        if Path(newest).name == f'epoch_{runner.epoch + 1}.pth':
            self._saved = not (runner.distributed and is_accumulating(runner, runner.iter))
            self._last_save = time.monotonic()
            if is_main_process():
                remove_mid_epoch_checkpoints(Path(runner.work_dir))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # The ranks need not agree: nothing is left to save, and each is told by whatever tells the others.
        if stop_signal() and runner._train_loop is not None and self._saved:
            self._stop(runner, stop_signal(), f'while validating epoch {runner.epoch}, whose checkpoint exists')

    def _agree(self, runner: Runner, signal: int, due: bool) -> tuple[int, bool]:
        """The same on every rank: the signal that any has got, and whether the first wants to save."""
        if not runner.distributed:
            return signal, due
        flags = torch.tensor([signal, due and runner.rank == 0])
        all_reduce(flags, 'max', self._group)
        signal, wanted = flags.tolist()
        return signal, bool(wanted)

    def _save(self, runner: Runner) -> Path:
        path = Path(runner.work_dir) / f'epoch_{runner.epoch}_iter_{runner.iter + 1}.pth'
        self._rank_states = gather_object(self._rank_state(runner), group=self._group)
        meta = {'epoch': runner.epoch, 'iter': runner.iter + 1}
        runner.save_checkpoint(runner.work_dir, path.name, meta=meta, by_epoch=False)
        self._rank_states = None
        if is_main_process():
            remove_mid_epoch_checkpoints(path.parent, but=path)
        barrier()  # a rank that ended while the first still writes would have torchrun end that too
        self._saved = True
        self._last_save = time.monotonic()
        return path

    def _stop(self, runner: Runner, signal: int, where: str) -> None:
        runner.visualizer.close()  # writes what TensorBoard still holds back
        raise Stopped(signal, where)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['epoch'] == runner.epoch and self._batches_done:  # an epoch's own counts one more
            checkpoint['MidEpochCheckpointHook'] = {
                'batches_done': self._batches_done,
                'epoch': shape_of_epoch(runner),
                # By mmengine's own hook, every N iterations, only the first rank is asked.
                'ranks': self._rank_states or [self._rank_state(runner)],
            }
        schedules = checkpoint.get('param_schedulers', [])
        for state in chain.from_iterable(schedules.values()) if isinstance(schedules, dict) else schedules:
            for key in [key for key, value in state.items() if callable(value)]:
                del state[key]  # OneCycleLR's anneal_func: code, which is not loaded, and stays as it was built
        if is_accumulating(runner, checkpoint['meta']['iter']) and not runner.distributed:
            parameters = runner.model.named_parameters()
            checkpoint['gradients'] = {name: value.grad.cpu() for name, value in parameters if value.grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = checkpoint.get('MidEpochCheckpointHook')
        self._saved = runner._resume
        self._gradients = checkpoint.get('gradients', {}) if runner._resume else {}
        if not runner._resume or state is None:
            return
        if not isinstance(runner.train_loop, ResumableTrainLoop):
            raise InputError('a checkpoint from the middle of an epoch needs train_cfg.type ResumableTrainLoop')
        epoch, now = checkpoint['meta']['epoch'], shape_of_epoch(runner)
        if state['epoch'] != now:
            was, is_ = (', '.join(f'{key} {value}' for key, value in shape.items()) for shape in (state['epoch'], now))
            raise InputError(
                f'the checkpoint is from the middle of an epoch of {was}; this run has {is_}: go on with the same, or '
                + (f'from the last whole epoch with --resume and the path of epoch_{epoch}.pth' if epoch else 'anew')
            )
        runner.train_loop.first_batch = self._batches_done = state['batches_done']
        self._rank_states = state['ranks']

    def _rank_state(self, runner: Runner) -> dict:
        """What only this rank knows."""
        hooks = {type(hook).__name__: hook.rank_state() for hook in runner.hooks if hasattr(hook, 'rank_state')}
        buffers = [buffer.cpu() for buffer in buffers_of(runner)] if runner.distributed else []
        return {'hooks': hooks, 'buffers': buffers}

    def _resume_rank_state(self, runner: Runner, states: list[dict]) -> None:
        state = states[runner.rank if len(states) == runner.world_size else 0]
        for hook in runner.hooks:
            if hasattr(hook, 'resume_rank_state'):
                hook.resume_rank_state(runner, state['hooks'][type(hook).__name__])
        for mine, saved in zip(buffers_of(runner), state['buffers'], strict=False):
            mine.copy_(saved)


def buffers_of(runner: Runner) -> list[torch.Tensor]:
    """The buffers of the model, and of its moving averages if it has any: batch-norm statistics, mostly."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return [buffer for module in (runner.model, *averages) for buffer in module.buffers()]


def is_accumulating(runner: Runner, iterations: int) -> bool:
    """Whether after so many iterations gradients wait for the optimizer's next step."""
    return iterations % getattr(runner.optim_wrapper, '_accumulative_counts', 1) != 0


def shape_of_epoch(runner: Runner) -> dict[str, int]:
    """What decides which photos are in which batch."""
    loader = runner.train_dataloader
    return {
        'photos': len(loader.dataset),
        'batches': len(loader),
        'batch_size': loader.batch_size,
        'processes': runner.world_size,
    }


def remove_mid_epoch_checkpoints(work_dir: Path, but: Path | None = None) -> None:
    """Removes what newer checkpoints make superfluous."""
    for path in work_dir.glob('epoch_*_iter_*.pth'):
        if path != but:
            path.unlink(missing_ok=True)
