"""Validates the resumed weights, because MMEngine saves an epoch's checkpoint before it validates the epoch."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.engine.loops import counts_epochs, progress_text, steps_done, validation_due


@HOOKS.register_module()
class ValidateOnResumeHook(Hook):
    """Validates the resumed weights before training goes on.

    mmengine saves an epoch's checkpoint before it validates that epoch. A run resumed from there never learns that
    result: the best checkpoint, early stopping, schedules that follow a metric and the curves would all miss it. A
    checkpoint from the middle of the next epoch is younger than the validation.
    """

    priority = 'LOWEST'  # the other hooks have to be ready for a validation

    def before_train(self, runner: Runner) -> None:
        done = steps_done(runner)
        within_epoch = counts_epochs(runner) and getattr(runner.train_loop, 'first_batch', 0) > 0
        if runner._resume and done and not within_epoch and validation_due(runner, done):
            runner.logger.info(
                f'Validating {progress_text(runner)} again: its checkpoint is older than its validation'
            )
            runner.val_loop.run()
