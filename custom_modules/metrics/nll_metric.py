"""The validation loss as a metric, which MMPretrain lacks."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS


@METRICS.register_module()
class MeanNLL(BaseMetric):
    """Mean negative log-likelihood of the true class, in nats: the cross-entropy on the validation images.

    MMPretrain computes no validation loss (mmpretrain #1660). The key is ``nll/mean``: a key with ``loss`` in it would
    be logged as the mean over the last ten validations (``LogProcessor.mean_pattern``). In distributed evaluation,
    images that pad the last batch are dropped (``collect_results``). Label smoothing, class weights and batch
    augmentations do not change this loss.
    """

    default_prefix = 'nll'

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keeps the true class's score of each image; ``pred_score`` is ``(K,)`` softmax scores, ``gt_label`` (1,)."""
        for sample in data_samples:
            score = sample['pred_score'].float()
            self.results.append(score[sample['gt_label'].to(score.device)])

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """``{'mean': nats}``; a score of 0 counts as the smallest float32, 87.3 nats, to keep the mean finite."""
        scores = torch.cat(results).cpu().double().clamp(min=torch.finfo(torch.float32).tiny)
        return {'mean': -scores.log().mean().item()}
