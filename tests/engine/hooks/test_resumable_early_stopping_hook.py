"""Early stopping: when training stops, also after a resume."""

import math

import pytest

from custom_modules.engine.hooks.resumable_early_stopping_hook import ResumableEarlyStoppingHook
from custom_modules.engine.hooks.validate_on_resume_hook import ValidateOnResumeHook


@pytest.mark.parametrize(
    ('arguments', 'accuracies', 'epochs'),
    [
        ({'patience': 2}, [50.0, 75.0, 75.0, 62.5, 100.0], 4),  # an equal value is no gain
        ({'patience': 2}, [50.0, 60.0, 60.01, 60.02, 60.03], 5),  # any gain counts
        ({'patience': 2, 'min_delta': 5.0}, [50.0, 60.0, 64.0, 65.0, 80.0], 4),
        ({'patience': 2, 'rule': 'less'}, [50.0, 40.0, 45.0, 41.0, 0.0], 4),
        ({}, [50.0, math.nan, 75.0, 80.0, 85.0], 2),
        ({'check_finite': False, 'patience': 2}, [50.0, math.nan, 75.0, 80.0, 85.0], 5),
        ({'stopping_threshold': 70.0}, [50.0, 75.0, 80.0, 85.0, 90.0], 2),
    ],
)
def test_stops_after(tiny_run, arguments, accuracies, epochs):
    runner = tiny_run([ResumableEarlyStoppingHook(**arguments)], epochs=5, accuracies=accuracies)
    runner.train()
    assert runner.epoch == epochs


@pytest.mark.parametrize('stopped_at', [1, 3])
def test_resumed_run_stops_where_the_unbroken_one_does(tiny_run, stopped_at):
    accuracies = [75.0, 50.0, 62.5, 50.0, 100.0]  # patience 3: stops after epoch 4
    tiny_run([ResumableEarlyStoppingHook(patience=3)], epochs=stopped_at, accuracies=accuracies).train()
    hooks = [ResumableEarlyStoppingHook(patience=3), ValidateOnResumeHook()]
    runner = tiny_run(hooks, epochs=5, accuracies=accuracies[stopped_at - 1 :], resume=True)
    runner.train()
    assert runner.epoch == 4
