"""Predictions of an exported model, with ONNX Runtime and without torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_modules.inference.predictor import Predictor
from custom_modules.models.onnx_file import score
from custom_modules.models.onnx_preprocessing import Pixels


class OnnxPredictor(Predictor):
    """Classifies images with a model of ``tools/export_onnx.py``."""

    def load(self, path: str) -> Pixels:
        """The pixels of an image, (3, H, W) uint8, RGB."""
        assert self.file.preprocessing is not None
        return self.file.preprocessing.load(path)

    def score(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of N images from :meth:`load`."""
        return score(self.file.session, np.stack(images), self.classes, str(self.file.path))
