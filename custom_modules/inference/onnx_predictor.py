"""An exported classifier as one object, like ``Predictor``: with ONNX Runtime, Pillow and NumPy alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_modules.evaluation.predictions import Prediction
from custom_modules.inference.onnx_file import open_model
from custom_modules.inference.outcomes import Unreadable
from custom_modules.inference.photo_file import BROKEN, file_problem
from custom_modules.inference.preprocessing import Pixels


class OnnxPredictor:
    """Classifies photos with a model that ``tools/export_onnx.py`` wrote.

    Args:
        path: The ``.onnx`` file.

    Attributes:
        classes: Class names in label order.
        digest: Of the file, which decides the scores.
        metadata: All that the model says of itself.
        temperature: What calibrates its scores, or None where that is not known.

    Raises:
        InputError: The file is no such model, or ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self._session, self.metadata, self.digest = open_model(path)
        self.classes = self.metadata.classes
        self.temperature: float | None = self.metadata.about.get('temperature')
        self._input = self._session.get_inputs()[0].name

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Prediction | Unreadable]:
        """As ``Predictor.predict``; ``workers`` are threads that read photos, 0 to read them in between."""
        for batch in self._read(paths, batch_size, 2 if workers is None else workers):
            read = [pixels for pixels in batch if not isinstance(pixels[1], Unreadable)]
            scored = iter(self.score(np.stack([pixels for _, pixels in read])).tolist() if read else [])
            for path, pixels in batch:
                yield pixels if isinstance(pixels, Unreadable) else Prediction(path, next(scored))

    def score(self, photos: Pixels) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of (N, 3, H, W) RGB photos."""
        (scores,) = self._session.run(None, {self._input: photos})
        return scores

    def _read(
        self, paths: Sequence[str], batch_size: int, workers: int
    ) -> Iterator[list[tuple[str, Pixels | Unreadable]]]:
        """Batches of paths and what was read; of those to come, one batch is read meanwhile."""
        batches = (paths[at : at + batch_size] for at in range(0, len(paths), batch_size))
        if not workers:
            yield from ([(path, self._load(path)) for path in batch] for batch in batches)
            return
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[list[tuple[str, Future]]] = deque()
            try:
                for batch in batches:
                    ahead.append([(path, pool.submit(self._load, path)) for path in batch])
                    if len(ahead) > 1:
                        yield [(path, future.result()) for path, future in ahead.popleft()]
                while ahead:
                    yield [(path, future.result()) for path, future in ahead.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, path: str) -> Pixels | Unreadable:
        if problem := file_problem(path):
            return Unreadable(path, problem)
        try:
            return self.metadata.preprocessing.load(path)
        except Exception:  # fed with garbage, decoders raise almost anything
            return Unreadable(path, BROKEN)
