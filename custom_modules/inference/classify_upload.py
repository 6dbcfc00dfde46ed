"""Uploaded photos to answers: checked, classified a few at a time, calibrated. No server, no page."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_modules.inference.journal import Engine
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.opening import BROKEN, Unreadable, file_problem, open_photo

MAX_MEGABYTES = 20  # of one photo
MAX_BYTES = MAX_MEGABYTES << 20  # a megabyte as Gradio counts it
THREADS = 2  # one decodes while the other computes; all other photos wait, so that memory is bounded
KINDS = 'JPEG, PNG, WebP, TIFF, BMP or GIF'
NO_IMAGE = f'no image that can be read: {KINDS}'
TOO_BIG = f'too large, more than {MAX_MEGABYTES} MB'


@dataclass(frozen=True)
class Answer:
    """What the classifier says of a photo.

    Args:
        prediction: Named for the photo; its scores are calibrated where the temperature is known.
        label: The name of its best class.
        sure: Whether that one's score is high enough.
    """

    prediction: Prediction
    label: str
    sure: bool

    @property
    def score(self) -> float:
        """That of the best class, 0 to 1."""
        return self.prediction.scores[self.prediction.label]

    def ranked(self, classes: Sequence[str]) -> list[tuple[str, float]]:
        """All classes with their scores, the best first."""
        return sorted(zip(classes, self.prediction.scores, strict=True), key=lambda pair: -pair[1])


class Classifier:
    """Answers for photos of many askers at once, in the order in which they come.

    Args:
        predictor: What classifies.
        min_score: What scores less is unsure, 0 to 1.
    """

    def __init__(self, predictor: Engine, min_score: float) -> None:
        self.predictor = predictor
        self.min_score = min_score
        self._pool = ThreadPoolExecutor(THREADS)

    def submit(self, work: Callable[..., Any], *args: Any) -> Future:
        """Has a thread do ``work``, of which :meth:`classify` is a part, when it is its turn."""
        return self._pool.submit(work, *args)

    def close(self) -> None:
        """Drops what still waits, and waits for what is being done."""
        self._pool.shutdown(cancel_futures=True)

    def classify(self, photo: Path, name: str) -> Answer | Unreadable:
        """The answer for a file, or what is wrong with it; ``name`` is what its owner calls it."""
        if problem := upload_problem(photo):
            return Unreadable(name, problem)
        (outcome,) = self.predictor.predict([str(photo)], 1, 0)
        if isinstance(outcome, Unreadable):
            return Unreadable(name, NO_IMAGE if outcome.problem == BROKEN else outcome.problem)
        scores = outcome.scores
        if self.predictor.temperature is not None:
            scores = tempered([scores], self.predictor.temperature)[0].tolist()
        named = Prediction(name, scores)
        return Answer(named, self.predictor.classes[named.label], scores[named.label] >= self.min_score)


def upload_problem(photo: Path) -> str | None:
    """What is wrong with a stranger's file before it is decoded: as for any photo, its bytes, and what kind it is."""
    if photo.stat().st_size > MAX_BYTES:
        return TOO_BIG
    if problem := file_problem(str(photo)):
        return problem
    try:
        with photo.open('rb') as file:
            open_photo(file)  # OpenCV would try formats of which Pillow cannot tell the pixels first
    except Exception:  # fed with garbage, decoders raise almost anything
        return NO_IMAGE
    return None
