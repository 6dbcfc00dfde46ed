"""The validation loss against cross-entropy and by hand."""

import math

import pytest
import torch
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample

import custom_modules.metrics.nll_metric  # noqa: F401  registers MeanNLL


def evaluate(scores: torch.Tensor, labels: list[int], size: int | None = None, batch: int = 2) -> dict:
    metric = METRICS.build({'type': 'MeanNLL'})
    samples = [
        DataSample().set_gt_label(label).set_pred_score(score).to_dict()
        for score, label in zip(scores, labels, strict=True)
    ]
    for start in range(0, len(samples), batch):
        metric.process(None, samples[start : start + batch])
    return metric.evaluate(size or len(samples))


def test_by_hand():
    scores = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    expected = -(math.log(0.5) + math.log(0.1) + math.log(0.7)) / 3
    assert evaluate(scores, [0, 1, 1]) == {'nll/mean': pytest.approx(expected, rel=1e-6)}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_is_the_cross_entropy(dtype):
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    labels = [i % 5 for i in range(50)]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    tolerance = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 5e-3}[dtype]  # the scores' own rounding
    assert evaluate(logits.softmax(1).to(dtype), labels)['nll/mean'] == pytest.approx(expected, rel=tolerance)


def test_score_of_zero_stays_finite():
    assert evaluate(torch.tensor([[1.0, 0.0]]), [1])['nll/mean'] == pytest.approx(126 * math.log(2))


def test_score_that_is_not_a_number_shows():
    assert math.isnan(evaluate(torch.tensor([[math.nan, math.nan]]), [1])['nll/mean'])


def test_padding_is_dropped():
    """A sampler repeats photos at the end so that all ranks have as many; the repeated ones do not count."""
    scores = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    assert evaluate(scores, [0, 1, 1], size=2)['nll/mean'] == pytest.approx(math.log(2))
