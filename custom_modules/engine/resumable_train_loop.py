"""The training loop, which can begin in the middle of an epoch. Where to begin is MidEpochCheckpointHook's."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.registry import LOOPS
from torch.utils.data import Sampler


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, whose first epoch may begin behind batches that were trained before a resume.

    These are skipped, not loaded, and count: batch numbers go on where they were. MMEngine's loop starts the epoch
    anew instead, with ``iter`` at odds with it.

    Attributes:
        first_batch: How many batches of the next epoch are trained already.
    """

    first_batch = 0

    def run_epoch(self) -> None:
        """Trains what is left of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        if first:
            batches = self.dataloader.batch_sampler
            batches.sampler = ShortenedOnce(batches.sampler, skip=first * batches.batch_size)
        for index, data_batch in enumerate(self.dataloader, start=first):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


class ShortenedOnce(Sampler):
    """A sampler whose next iteration lacks its beginning; the later ones, and the length, are as ever.

    Args:
        sampler: The sampler.
        skip: How many places the next iteration lacks.
    """

    def __init__(self, sampler: Any, skip: int) -> None:
        self.sampler = sampler
        self.skip = skip

    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        return islice(iter(self.sampler), skip, None)

    def __len__(self) -> int:
        return len(self.sampler)
