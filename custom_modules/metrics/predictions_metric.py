"""A metric that collects all predictions of a test."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from custom_modules.metrics.predictions import Prediction


class PredictionsMetric(BaseMetric):
    """Collects one :class:`Prediction` per image in ``predictions``, in the dataset's order; computes no figure.

    Not registered, because a config has no use for it.
    """

    default_prefix = 'predictions'
    predictions: Sequence[Prediction] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes a batch of ``DataSample`` dicts: ``img_path``, softmax ``pred_score`` (K,), ``gt_label`` if known."""
        for sample in data_samples:
            truth = int(sample['gt_label'].item()) if 'gt_label' in sample else None
            self.results.append(Prediction(sample['img_path'], sample['pred_score'].tolist(), truth))

    def compute_metrics(self, results: list[Prediction]) -> dict:
        """Keeps the results of all processes, which MMEngine has cut to one per image."""
        self.predictions = [Prediction(*result) for result in results]  # MMEngine turns them into plain tuples
        return {}
