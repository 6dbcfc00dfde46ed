"""Validates the resumed weights, because MMEngine saves an epoch's checkpoint before it validates the epoch."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class ValidateOnResumeHook(Hook):
    """Validates the resumed weights before training goes on.

    mmengine saves an epoch's checkpoint before it validates that epoch. A run resumed from there never learns that
    result: the best checkpoint, early stopping, schedules that follow a metric and the curves would all miss it. A
    checkpoint from the middle of the next epoch is younger than the validation.
    """

    priority = 'LOWEST'  # the other hooks have to be ready for a validation

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not runner._resume or runner.epoch == 0 or not isinstance(loop, EpochBasedTrainLoop):
            return
        if runner.val_loop is None or runner.epoch < loop.val_begin or getattr(loop, 'first_batch', 0):
            return
        loop._decide_current_val_interval()
        if runner.epoch % loop.val_interval == 0 or runner.epoch == loop.max_epochs:
            runner.logger.info(f'Validating epoch {runner.epoch} again: its checkpoint is older than its validation')
            runner.val_loop.run()
