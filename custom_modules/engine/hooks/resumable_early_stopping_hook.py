"""Early stopping that survives a resume."""

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """Stops a training whose validation no longer improves; its best score and patience are in the checkpoints.

    MMEngine's hook starts counting again after a resume, and counts an equal value as an improvement (mmengine #1491).
    Before a training, ``preflight_hook.py: check_metrics`` refuses a metric that validation does not give.

    Args:
        monitor: Key of the validation result to watch. Defaults to 'accuracy/top1'.
        rule: Which of two values is better, 'greater' or 'less'; None infers it from the key. Defaults to None.
        min_delta: An improvement has to be larger than this, in the metric's unit. Defaults to 0.0.
        check_finite: Whether a value that is not finite stops the training at once. Defaults to True.
        patience: After how many validations in a row without an improvement training stops. Defaults to 5.
        stopping_threshold: Training stops once the value is better than this. Defaults to None.
    """

    priority = 'VERY_LOW'  # ready before ValidateOnResumeHook

    def __init__(
        self,
        monitor: str = 'accuracy/top1',
        rule: str | None = None,
        min_delta: float = 0.0,
        check_finite: bool = True,
        patience: int = 5,
        stopping_threshold: float | None = None,
    ) -> None:
        more = min_delta + 1e-9  # an improvement of exactly min_delta is none, above all of 0
        super().__init__(monitor, rule, more, False, check_finite, patience, stopping_threshold)

    def before_run(self, runner: Runner) -> None:
        """Does nothing; upstream builds the training data here, even for a test."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['ResumableEarlyStoppingHook'] = {'best_score': self.best_score, 'wait_count': self.wait_count}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self.__dict__.update(checkpoint.get('ResumableEarlyStoppingHook', {}))
