"""An exported classifier as one object, like ``Predictor``: with ONNX Runtime, Pillow and NumPy alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_modules.metrics.predictions import Prediction, check_scores
from custom_modules.models.model_file import read_temperature
from custom_modules.models.onnx_file import open_model, score
from custom_modules.models.preprocessing import Pixels, Preprocessing
from custom_modules.photos.opening import BROKEN, Unreadable, file_problem


class OnnxPredictor:
    """Classifies photos with a model that ``tools/export_onnx.py`` wrote.

    Args:
        path: The ``.onnx`` file.

    Attributes:
        classes: Class names in label order.
        digest: Of the file, which decides the scores.
        temperature: What divides the logits of calibrated scores, if the model says so; predictions are as they are.
        metadata: All that the model says of itself.

    Raises:
        InputError: The file is no such model, or ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self._name = str(path)
        self._session, self.metadata, self.digest = open_model(path)
        self.classes = self.metadata.classes
        self.temperature = read_temperature(self.metadata.about, str(path))

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Prediction | Unreadable]:
        """As ``Predictor.predict``; ``workers`` are threads that read photos, 0 to read them in between."""
        for batch in self._read(paths, batch_size, 2 if workers is None else workers):
            read = [pixels for pixels in batch if not isinstance(pixels[1], Unreadable)]
            scored = iter(self.score(np.stack([pixels for _, pixels in read])).tolist() if read else [])
            found = [
                pixels if isinstance(pixels, Unreadable) else Prediction(path, next(scored)) for path, pixels in batch
            ]
            check_scores((one for one in found if isinstance(one, Prediction)), self.classes)
            yield from found

    def score(self, photos: Pixels) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of (N, 3, H, W) RGB photos.

        Raises:
            InputError: The model fails, or gives another number of scores, or what is none.
        """
        return score(self._session, photos, self.classes, self._name)

    def _read(
        self, paths: Sequence[str], batch_size: int, workers: int
    ) -> Iterator[list[tuple[str, Pixels | Unreadable]]]:
        """Batches of paths and what was read; of those to come, one batch is read meanwhile."""
        preprocessing = self.metadata.preprocessing
        batches = (paths[at : at + batch_size] for at in range(0, len(paths), batch_size))
        if not workers:
            yield from ([(path, load_photo(preprocessing, path)) for path in batch] for batch in batches)
            return
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[list[tuple[str, Future]]] = deque()
            try:
                for batch in batches:
                    ahead.append([(path, pool.submit(load_photo, preprocessing, path)) for path in batch])
                    if len(ahead) > 1:
                        yield [(path, future.result()) for path, future in ahead.popleft()]
                while ahead:
                    yield [(path, future.result()) for path, future in ahead.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def load_photo(preprocessing: Preprocessing, path: str) -> Pixels | Unreadable:
    """The pixels of a photo, (3, H, W) RGB, or what is wrong with its file."""
    if problem := file_problem(path):
        return Unreadable(path, problem)
    try:
        return preprocessing.load(path)
    except Exception:  # fed with garbage, decoders raise almost anything
        return Unreadable(path, BROKEN)
