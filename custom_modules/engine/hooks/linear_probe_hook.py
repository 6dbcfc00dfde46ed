"""Starts fine-tuning from a linear probe instead of a random head."""

import time
from functools import partial

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.datasets.class_counts import innermost
from custom_modules.engine.run_config import in_order
from custom_modules.engine.stop_signals import shield_worker
from custom_modules.errors import as_configured
from custom_modules.models.linear_probe import fit_head


@HOOKS.register_module()
class LinearProbeHook(Hook):
    """Fits the head on the pretrained features before the first step (Kumar et al. 2022, *LP-FT*).

    A random head sends random gradients through a pretrained backbone, and the first epochs repair the damage. The
    fitted head has larger weights, and so larger gradients: a learning rate that suits a random head can be too large.
    A resumed run keeps its own head.

    Args:
        pipeline: The transforms that the training photos go through, without augmentation; None for those of
            ``val_dataloader``, or without one ``test_dataloader``. Defaults to None.
        batch_size: Photos at a time. Defaults to 32.
        l2: Weight of the penalty on the head's weights. Defaults to 0.01.
    """

    def __init__(self, pipeline: list[dict] | None = None, batch_size: int = 32, l2: float = 0.01) -> None:
        self.pipeline = pipeline
        self.batch_size = batch_size
        self.l2 = l2

    def before_train(self, runner: Runner) -> None:
        if runner._resume:
            return
        began = time.monotonic()
        seen = runner.cfg.get('val_dataloader') or runner.cfg.get('test_dataloader')
        pipeline = self.pipeline or innermost(seen.dataset).pipeline
        settings = in_order(runner.cfg.train_dataloader, pipeline, self.batch_size)
        with as_configured('LinearProbeHook, its photos through its pipeline and the model'):
            loader = Runner.build_dataloader(settings)
            loader.worker_init_fn = partial(shield_worker, loader.worker_init_fn)
            features, outputs = fit_head(runner.model, loader, self.l2)
        runner.logger.info(
            f'linear probe: head fitted on {len(features)} photos in {time.monotonic() - began:.0f} s, '
            f'training accuracy {outputs["accuracy_top-1"]:.2f} %'
        )
