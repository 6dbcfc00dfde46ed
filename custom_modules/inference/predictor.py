"""Predictors: paths of images in, predictions out; the base class and that of exported models."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import PhotoError, said_by
from custom_modules.metrics.predictions import Prediction, check_scores
from custom_modules.models.model_file import ModelFile, is_exported, open_model_file
from custom_modules.models.onnx_file import score
from custom_modules.models.onnx_preprocessing import Pixels
from custom_modules.photos.decoding import photo_problem
from custom_modules.photos.image_files import Unreadable, file_problem

WORKERS = 2  # threads that read images


class Predictor(ABC):
    """Classifies images with the model of an opened file, by torch or by ONNX Runtime.

    Attributes:
        digest: Identifies everything that decides the scores.
        temperature: Divides the logits of calibrated scores, if the file carries one; predictions are not scaled.
    """

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.classes = file.classes
        self.digest = file.digest
        self.temperature = file.temperature

    @abstractmethod
    def load(self, path: str) -> Any:
        """One image as the model takes it; raises any kind of exception for a file that is no image."""

    @abstractmethod
    def score(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of N images from :meth:`load`."""

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int = WORKERS
    ) -> Iterator[Prediction | Unreadable]:
        """Yields for each path, in order, a prediction or what is wrong with the file.

        Args:
            paths: The image files.
            batch_size: Images per call of the model.
            workers: Threads that read images; 0 reads them between the batches.

        Raises:
            InputError: The model or its pipeline fails, or a score is not finite.
        """
        for batch, images in self.batches(paths, batch_size, workers):
            good = [image for image in images if not isinstance(image, Unreadable)]
            scores = iter(self.score(good).tolist() if good else [])
            found = [
                image if isinstance(image, Unreadable) else Prediction(path, next(scores))
                for path, image in zip(batch, images, strict=True)
            ]
            check_scores((outcome for outcome in found if isinstance(outcome, Prediction)), self.classes)
            yield from found

    def read(self, path: str) -> Any:
        """One image as the model takes it, or an :class:`Unreadable`; a PhotoError if the pipeline fails on it."""
        if problem := file_problem(path):
            return Unreadable(path, problem)
        try:
            return self.load(path)
        except Exception as error:  # fed with garbage, decoders raise almost anything
            if problem := photo_problem(path):
                return Unreadable(path, problem)
            raise PhotoError(
                f'{path}: can be read, but the test pipeline fails on it: {said_by(error)}. Correct test_dataloader '
                'in the config, or remove the image.'
            ) from error

    def batches(
        self, paths: Sequence[str], batch_size: int = 32, workers: int = WORKERS
    ) -> Iterator[tuple[Sequence[str], list[Any]]]:
        """Batches of paths and what :meth:`read` gives for each; the next batch is read meanwhile."""
        batches = [paths[at : at + batch_size] for at in range(0, len(paths), batch_size)]
        if not workers:
            yield from ((batch, [self.read(path) for path in batch]) for batch in batches)
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                ahead = pool.map(self.read, batches[0] if batches else ())
                for batch, following in pairwise([*batches, []]):
                    images, ahead = ahead, pool.map(self.read, following)
                    yield batch, list(images)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class OnnxPredictor(Predictor):
    """Classifies images with a model of ``tools/export_onnx.py``, with ONNX Runtime and without torch."""

    def load(self, path: str) -> Pixels:
        """The pixels of an image, (3, H, W) uint8, RGB."""
        assert self.file.preprocessing is not None
        return self.file.preprocessing.load(path)

    def score(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of N images from :meth:`load`."""
        return score(self.file.session, np.stack(images), self.classes, str(self.file.path))


def open_predictor(path: str, config: str | None = None) -> Predictor:
    """Opens a model: a checkpoint by torch, with ``config`` or the one saved in it; an ``.onnx`` by ONNX Runtime."""
    if is_exported(path):
        return OnnxPredictor(open_model_file(path))

    from custom_modules.inference.torch_predictor import TorchPredictor, open_checkpoint  # an export needs no torch

    return TorchPredictor(open_checkpoint(path, config))
