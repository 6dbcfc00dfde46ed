"""Training loops: two that resume anywhere, by epochs or by iterations, and one that fits a linear probe."""

from bisect import bisect
from collections.abc import Iterator
from itertools import count, islice, repeat
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmpretrain.registry import LOOPS
from torch.utils.data import DataLoader, Sampler

from custom_modules.models.linear_probe import fit_head


def counts_epochs(runner: Runner) -> bool:
    """Whether the training is a number of epochs, not of iterations."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def validation_due(runner: Runner, done: int) -> bool:
    """Whether MMEngine's loop validates after so many epochs, or iterations if it counts those."""
    loop = runner.train_loop
    if runner.val_loop is None or done < loop.val_begin:
        return False
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, done + 1) - 1]
    return done % interval == 0 or done == (loop.max_epochs if counts_epochs(runner) else loop.max_iters)


def steps_done(runner: Runner) -> int:
    """The epochs that a training has done, or its iterations if it counts those."""
    return runner.epoch if counts_epochs(runner) else runner.iter


def progress_text(runner: Runner) -> str:
    """How far a training is: ``'epoch 3'``, or ``'iteration 700'`` if it counts those."""
    return f'{"epoch" if counts_epochs(runner) else "iteration"} {steps_done(runner)}'


def bare_model(runner: Runner) -> Any:
    """The model of a run, without the wrapper for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, but it can resume in the middle of an epoch: trained batches are not loaded again.

    Attributes:
        first_batch: How many batches of the next epoch are trained already; set by ``MidEpochCheckpointHook``.
    """

    first_batch = 0

    def run_epoch(self) -> None:
        """Trains the remaining batches of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        if first:
            batches = self.dataloader.batch_sampler
            batches.sampler = SkipOnce(batches.sampler, first * batches.batch_size)
        for index, data_batch in enumerate(self.dataloader, start=first):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop over iterations, but a resumed one does not load the trained batches again.

    With ``SeedHook`` it continues with the images and the augmentation of an unbroken run, whatever the sampler.

    Attributes:
        first_batch: How many batches are trained already; set by ``MidEpochCheckpointHook``.

    Args:
        runner: The run.
        dataloader: The training images.
        **kwargs: Those of MMEngine's loop: ``max_iters``, ``val_begin``, ``val_interval``, ``dynamic_intervals``.
    """

    first_batch = 0

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        loader = self.dataloader
        # Upstream iterates at once. Hooks have to prepare the loader's workers before they start.
        super().__init__(runner, DataLoader(loader.dataset), **kwargs)
        self.dataloader: Any = loader
        self.dataloader_iterator = self._batches()

    def _batches(self) -> Iterator[Any]:
        """All batches from the next one on, after None for each that upstream's ``run`` asks for to skip it."""
        done, sampler = self._iter, self.dataloader.sampler
        yield from repeat(None, done)
        endless = isinstance(sampler, InfiniteSampler)
        passes, first = (0, done) if endless else divmod(done, len(self.dataloader))
        batches = self.dataloader.batch_sampler
        batches.sampler = SkipOnce(batches.sampler, first * batches.batch_size)
        for number in count(passes):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(number)
            yield from self.dataloader


class SkipOnce(Sampler):
    """A sampler whose next iteration skips its first indices; later iterations and the length are unchanged."""

    def __init__(self, sampler: Any, skip: int) -> None:
        self.sampler = sampler
        self.skip = skip

    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        return islice(iter(self.sampler), skip, None)

    def __len__(self) -> int:
        return len(self.sampler)


@LOOPS.register_module()
class LinearProbeLoop(EpochBasedTrainLoop):
    """One epoch with one step, which fits the head on all training images; validation and hooks run as usual.

    The train dataloader has to load the images in order and without augmentation.

    Args:
        runner: The run.
        dataloader: The training images.
        l2: Weight of the penalty on the head's weights. Defaults to 0.01.
    """

    def __init__(self, runner: Runner, dataloader: Any, l2: float = 0.01) -> None:
        super().__init__(runner, dataloader, max_epochs=1)
        self.l2 = l2
        self._max_iters = 1

    def run_epoch(self) -> None:
        """Fits the head."""
        self.runner.call_hook('before_train_epoch')
        self.runner.call_hook('before_train_iter', batch_idx=0, data_batch={})
        self.runner.model.eval()
        features, outputs = fit_head(self.runner.model, self.dataloader, self.l2)
        self.runner.call_hook('after_train_iter', batch_idx=0, data_batch={'inputs': features}, outputs=outputs)
        self._iter += 1
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
