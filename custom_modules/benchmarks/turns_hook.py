"""Lets a training run block by block, as told from outside, and times its iterations. Changes nothing else of it."""

import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn


def now() -> float:
    """Seconds by the clock, after the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def gpu_peak() -> int | None:
    """The most GPU memory that tensors took, in bytes; None without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


class TurnsHook(Hook):
    """Waits for a request before each block of iterations and replies with how long they took.

    Other requests are for the weights (``save`` or ``load``, a file) and for what is known of the model (``facts``).

    Args:
        channel: Gives requests (``iterations``, ``settle``: iterations before them that are not timed) and takes
            replies.
    """

    # The last of all: a step ends when every other hook has taken note of it.
    priority = 100

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def before_train(self, runner: Runner) -> None:
        self.channel.send(
            batch_size=runner.train_dataloader.batch_size,
            parameters=sum(each.numel() for each in runner.model.parameters() if each.requires_grad),
            threads=torch.get_num_threads(),
            device=str(next(runner.model.parameters()).device),
        )
        self._wait(runner)

    def _wait(self, runner: Runner) -> None:
        while 'iterations' not in (request := self.channel.receive()):
            if 'save' in request:
                torch.save(runner.model.state_dict(), request['save'])
            elif 'load' in request:
                runner.model.load_state_dict(torch.load(request['load'], weights_only=True))
            self.channel.send(memory_format=memory_format(runner.model), gpu_peak_bytes=gpu_peak())
        self._settle, self._left = request['settle'], request['iterations']
        self._losses: list[torch.Tensor] = []
        self._step_seconds, self._photos = 0.0, 0
        self._block_began = now()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._began = now()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        assert outputs is not None
        self._losses.append(outputs['loss'].detach())  # read when the block is over: reading makes a GPU wait
        if self._settle:
            self._settle -= 1
            self._block_began = now()
            return
        ended = now()
        self._step_seconds += ended - self._began
        self._photos += len(data_batch['inputs'])
        self._left -= 1
        if not self._left:
            self.channel.send(
                seconds=ended - self._block_began,
                step_seconds=self._step_seconds,
                photos=self._photos,
                losses=torch.stack(self._losses).tolist(),
            )
            self._wait(runner)


def memory_format(model: nn.Module) -> str:
    """The layout of the weights of a model's convolutions: ``'channels last'`` or ``'contiguous'``."""
    weights = [each.weight for each in model.modules() if isinstance(each, nn.Conv2d)]
    # One input channel, or a kernel of 1 x 1, is laid out alike in both.
    telling = [weight for weight in weights if weight.shape[-1] > 1 and weight.shape[1] > 1]
    last = [weight.is_contiguous(memory_format=torch.channels_last) for weight in telling]
    return 'channels last' if last and all(last) else 'contiguous'
