"""The validation loss, from the scores that validation makes anyway. Accuracy and the rest are upstream's."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS


@METRICS.register_module()
class MeanNLL(BaseMetric):
    """Mean negative log-likelihood of the true class, in nats: the cross-entropy on the validation photos.

    mmpretrain gives no validation loss (mmpretrain #1660). The result's key is ``nll/mean``; a key with ``loss`` in it
    would be logged as the mean over the last ten validations (``LogProcessor.mean_pattern``). Under distributed
    evaluation the photos that pad the last batch are dropped again (``collect_results``), so each counts once.

    Label smoothing, class weights and batch augmentations change the training loss, but not this.

    Args:
        collect_device: Where the ranks' results are brought together, 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix: Stands before the result's key in place of 'nll'. Defaults to None.
    """

    default_prefix = 'nll'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keeps the true class's score of each photo; ``pred_score`` is ``(K,)`` softmax scores, ``gt_label`` (1,)."""
        for sample in data_samples:
            score = sample['pred_score'].float()
            self.results.append(score[sample['gt_label'].to(score.device)])

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """``{'mean': nats}``; a score of 0 counts as the smallest normal float32, which is 87.3 nats.

        float32 scores that sum to 1 cannot tell a smaller one from 0, and one photo would make the mean infinite.
        """
        scores = torch.cat(results).cpu().double().clamp(min=torch.finfo(torch.float32).tiny)
        return {'mean': -scores.log().mean().item()}
