"""A metric that hands on every prediction, so that a test can be counted, listed and explained afterwards."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from custom_modules.metrics.predictions import Prediction


class PredictionsMetric(BaseMetric):
    """Keeps one :class:`Prediction` a photo in ``predictions``, in the dataset's order; adds no figure of its own.

    Not registered: a config could name it, but nothing would read ``predictions``. tools/test.py adds it itself.
    """

    default_prefix = 'predictions'

    def __init__(self) -> None:
        super().__init__()
        self.predictions: list[Prediction] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes a batch of ``DataSample`` dicts: ``img_path``, softmax ``pred_score`` (K,), ``gt_label`` if known."""
        self.results.extend(
            Prediction(
                sample['img_path'],
                sample['pred_score'].tolist(),
                int(sample['gt_label'].item()) if 'gt_label' in sample else None,
            )
            for sample in data_samples
        )

    def compute_metrics(self, results: list[Prediction]) -> dict:
        """Keeps the results of all processes; MMEngine has cut them to one a photo."""
        self.predictions = [Prediction(*result) for result in results]  # MMEngine has made plain tuples of them
        return {}
