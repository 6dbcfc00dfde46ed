"""The validation loss against cross-entropy."""

import math

import pytest
import torch
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample

import custom_modules.metrics.nll_metric  # noqa: F401  registers MeanNLL


def evaluate(scores: torch.Tensor, labels: list[int], size: int | None = None) -> float:
    metric = METRICS.build({'type': 'MeanNLL'})
    pairs = zip(scores, labels, strict=True)
    samples = [DataSample().set_gt_label(label).set_pred_score(score).to_dict() for score, label in pairs]
    for start in range(0, len(samples), 2):
        metric.process(None, samples[start : start + 2])
    return metric.evaluate(size or len(samples))['nll/mean']


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_equals_the_cross_entropy(dtype, tolerance):
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    labels = [i % 5 for i in range(50)]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    assert evaluate(logits.softmax(1).to(dtype), labels) == pytest.approx(expected, rel=tolerance)


def test_a_score_of_zero_stays_finite_and_nan_shows():
    assert evaluate(torch.tensor([[1.0, 0.0]]), [1]) == pytest.approx(126 * math.log(2))
    assert math.isnan(evaluate(torch.tensor([[math.nan, math.nan]]), [1]))


def test_images_that_pad_the_last_batch_of_a_rank_are_dropped():
    assert evaluate(torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]), [0, 1, 1], size=2) == pytest.approx(
        math.log(2)
    )
