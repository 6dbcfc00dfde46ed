"""A training that is a linear probe alone, ``tools/train.py CONFIG --probe``. The probe is in linear_probe.py."""

from typing import Any

from mmengine.runner import Runner
from mmpretrain.registry import LOOPS

from custom_modules.engine.resumable_train_loop import ResumableTrainLoop
from custom_modules.models.linear_probe import solve_head


@LOOPS.register_module()
class LinearProbeLoop(ResumableTrainLoop):
    """One epoch whose one step solves the head on all training photos; hooks and validation are those of a training.

    The train dataloader has to give the photos in their order and without augmentation.

    Args:
        runner: The run.
        dataloader: The training photos.
        l2: Weight of the penalty on the head's weights. Defaults to 0.01.
    """

    def __init__(self, runner: Runner, dataloader: Any, l2: float = 0.01) -> None:
        super().__init__(runner, dataloader, max_epochs=1)
        self.l2 = l2
        self._max_iters = 1

    def run_epoch(self) -> None:
        """Solves the head."""
        self.runner.call_hook('before_train_epoch')
        self.runner.call_hook('before_train_iter', batch_idx=0, data_batch={})
        self.runner.model.eval()
        features, outputs = solve_head(self.runner.model, self.dataloader, self.l2)
        self.runner.call_hook('after_train_iter', batch_idx=0, data_batch={'inputs': features}, outputs=outputs)
        self._iter += 1
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
