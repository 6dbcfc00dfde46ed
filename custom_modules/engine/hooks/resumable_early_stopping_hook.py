"""Stops a training that no longer gets better; what the best weights were is BestCheckpointHook's."""

import math

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from custom_modules.errors import InputError


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """Early stopping whose best score and patience survive a resume, and which refuses a metric that is not there.

    mmengine's own hook counts anew after a resume, only warns of a misspelt metric, takes an equal value for a gain
    and builds the training data even where only a test is run. Its docstring gives 0.01 as default of ``min_delta``,
    its code has 0.1 (mmengine #1491); here it is 0: any gain counts, and an equal value is none.

    Args:
        monitor: Key of the validation result to watch. Defaults to 'accuracy/top1'.
        rule: Which of two values is better, 'greater' or 'less'; None infers it from the key.
            Defaults to None.
        min_delta: A gain has to be larger than this, in the metric's unit. Defaults to 0.0.
        check_finite: Whether a value that is not finite stops the training at once. Defaults to True.
        patience: After how many validations in a row without a gain training stops. Defaults to 5.
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
        super().__init__(
            monitor,
            rule=rule,
            min_delta=min_delta,
            check_finite=check_finite,
            patience=patience,
            stopping_threshold=stopping_threshold,
        )
        self.best_score: float
        self._training = False

    def before_run(self, runner: Runner) -> None:
        """Nothing: upstream looks at the train loop here, which builds the training data for a mere test."""

    def before_train(self, runner: Runner) -> None:
        self._training = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self._training:
            return
        metrics = metrics or {}
        if self.monitor not in metrics:
            raise InputError(
                f'ResumableEarlyStoppingHook: validation gives no {self.monitor!r}; '
                f'there is {", ".join(sorted(metrics))}'
            )
        reason = self._reason_to_stop(float(metrics[self.monitor]))
        if reason:
            runner.train_loop.stop_training = True
            runner.logger.info(f'Training stops after epoch {runner.epoch}: {reason}')

    def _reason_to_stop(self, score: float) -> str | None:
        """Takes note of a score; the reason to stop, if it is one."""
        better = self.rule_map[self.rule]
        if better(score, self.best_score + self.min_delta):  # never true of NaN
            self.best_score, self.wait_count = score, 0
        else:
            self.wait_count += 1
        if self.check_finite and not math.isfinite(score):
            return f'{self.monitor} is {score}'
        if self.stopping_threshold is not None and better(score, self.stopping_threshold):
            return f'{self.monitor} is {score:.4f}, past the threshold of {self.stopping_threshold}'
        if self.wait_count >= self.patience:
            return f'{self.monitor} did not improve on {self.best_score:.4f} in {self.wait_count} validations'
        return None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['ResumableEarlyStoppingHook'] = {'best_score': self.best_score, 'wait_count': self.wait_count}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and 'ResumableEarlyStoppingHook' in checkpoint:
            for name, value in checkpoint['ResumableEarlyStoppingHook'].items():
                setattr(self, name, value)
