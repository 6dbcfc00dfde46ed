"""A trained classifier as one object: paths of images in, predictions out."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError, PhotoError
from custom_modules.metrics.predictions import Prediction, check_scores
from custom_modules.models.model_file import ONNX_PACKAGES, ModelFile, is_exported, open_model_file
from custom_modules.photos.opening import BROKEN, Unreadable, file_problem

WORKERS = 2  # threads that read images


class Predictor(ABC):
    """Classifies images; a subclass computes with torch or with ONNX Runtime.

    Args:
        file: The opened model.

    Attributes:
        file: The opened model.
        classes: Class names in label order.
        digest: Identifies everything that decides the scores.
        temperature: Divides the logits of calibrated scores, if the file carries one; predictions are not scaled.

    Raises:
        InputError: The temperature is no positive number.
    """

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.classes = file.classes
        self.digest = file.digest
        self.temperature = file.temperature

    @abstractmethod
    def load(self, path: str) -> Any:
        """One image as the model takes it.

        Raises:
            Exception: Of any kind, for a file that is no image or a broken one.
        """

    @abstractmethod
    def score(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of N images from :meth:`load`."""

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int = WORKERS
    ) -> Iterator[Prediction | Unreadable]:
        """Classifies images, one batch at a time.

        Args:
            paths: The image files.
            batch_size: Images per call of the model.
            workers: Threads that read images; 0 reads them between the batches.

        Yields:
            For each path, in order, a prediction or what is wrong with the file.

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
        """One image as the model takes it, or an :class:`Unreadable`."""
        if problem := file_problem(path):
            return Unreadable(path, problem)
        try:
            return self.load(path)
        except PhotoError:
            raise
        except Exception:  # fed with garbage, decoders raise almost anything
            return Unreadable(path, BROKEN)

    def batches(
        self, paths: Sequence[str], batch_size: int = 32, workers: int = WORKERS
    ) -> Iterator[tuple[Sequence[str], list[Any]]]:
        """Batches of paths and what :meth:`read` gives for each; the next batch is read meanwhile."""
        batches = (paths[at : at + batch_size] for at in range(0, len(paths), batch_size))
        if not workers:
            yield from ((batch, [self.read(path) for path in batch]) for batch in batches)
            return
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[tuple[Sequence[str], list[Future]]] = deque()
            try:
                for batch in batches:
                    ahead.append((batch, [pool.submit(self.read, path) for path in batch]))
                    if len(ahead) > 1:
                        done, futures = ahead.popleft()
                        yield done, [future.result() for future in futures]
                for done, futures in ahead:
                    yield done, [future.result() for future in futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def open_predictor(path: str, config: str | None = None) -> Predictor:
    """Opens a model to classify with: a checkpoint by torch, an exported model by ONNX Runtime.

    Args:
        path: ``best.pth``, ``epoch_N.pth`` or an ``.onnx`` of ``tools/export_onnx.py``.
        config: For a checkpoint, the config that it was trained with; None for the one saved in it.

    Raises:
        InputError: The file cannot be used, or a package is missing.
    """
    # Imported here, so that an exported model needs no torch, and a checkpoint no ONNX Runtime.
    if not is_exported(path):
        from custom_modules.inference.torch_predictor import TorchPredictor, open_checkpoint

        return TorchPredictor(open_checkpoint(path, config))
    try:
        from custom_modules.inference.onnx_predictor import OnnxPredictor
    except ModuleNotFoundError as error:
        raise InputError(f'{path}: {error}: {ONNX_PACKAGES}') from None
    return OnnxPredictor(open_model_file(path))
