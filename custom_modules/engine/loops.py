"""Training loops: one that resumes in the middle of an epoch, and one that fits a linear probe."""

from bisect import bisect
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import LOOPS
from torch.utils.data import Sampler

from custom_modules.models.linear_probe import fit_head


def validation_due(runner: Runner, epoch: int) -> bool:
    """Whether MMEngine's loop over epochs validates after ``epoch`` epochs."""
    loop = runner.train_loop
    if runner.val_loop is None or epoch < loop.val_begin:
        return False
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, epoch + 1) - 1]
    return epoch % interval == 0 or epoch == loop.max_epochs


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
