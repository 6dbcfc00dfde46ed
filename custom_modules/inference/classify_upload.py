"""Classifies uploaded images: checks each file, limits how many are decoded at once, and calibrates the scores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from custom_modules.inference.predictor import Predictor
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.image_files import BROKEN, Unreadable, file_problem, open_photo

MAX_MEGABYTES = 20  # of one image
MAX_BYTES = MAX_MEGABYTES << 20  # a megabyte as Gradio counts it
THREADS = 2  # one decodes while the other computes; other uploads wait, so that memory is bounded
KINDS = 'JPEG, PNG, WebP, TIFF, BMP or GIF'
NO_IMAGE = f'no image that can be read: {KINDS}'
TOO_BIG = f'too large, more than {MAX_MEGABYTES} MB'

# From an image and a label to the ``data:`` URL of a heat map, or None if no region stands out.
Heat = Callable[[Path, int], str | None]


class Answer(NamedTuple):
    """The prediction for an upload; its scores, 0 to 1, are calibrated if the temperature is known."""

    prediction: Prediction  # named for the upload
    label: str  # the predicted class
    score: float  # of that class
    scores: dict[str, float]  # of each class, in label order
    sure: bool  # whether the score reaches the threshold


class UploadClassifier:
    """Classifies uploads of many clients; :meth:`classify` is called in the threads of its ``pool``.

    Args:
        predictor: The classifier.
        min_score: Predictions with a lower score are unsure, 0 to 1.
        temperature: Divides the logits of calibrated scores; None to leave the scores as they are.
        heat: Draws heat maps; None where that is not possible, and ``no_heat`` says why.
    """

    def __init__(
        self,
        predictor: Predictor,
        min_score: float,
        temperature: float | None = None,
        heat: Heat | None = None,
        no_heat: str = 'No heat map of this photo: no region stands out.',
    ) -> None:
        self.predictor, self.classes = predictor, predictor.classes
        self.min_score, self.temperature = min_score, temperature
        self.heat, self.no_heat = heat, no_heat
        self.pool = ThreadPoolExecutor(THREADS)

    def classify(self, image: Path, name: str) -> Answer | Unreadable:
        """The prediction for a file, or what is wrong with it; ``name`` is the client's name of the file."""
        if problem := upload_problem(image):
            return Unreadable(name, problem)
        (outcome,) = self.predictor.predict([str(image)], 1, 0)
        if isinstance(outcome, Unreadable):
            return Unreadable(name, NO_IMAGE if outcome.problem == BROKEN else outcome.problem)
        scores = outcome.scores
        if self.temperature is not None:
            scores = tempered([scores], self.temperature)[0].tolist()
        named = Prediction(name, scores)
        score = scores[named.label]
        by_class = dict(zip(self.classes, scores, strict=True))
        return Answer(named, self.classes[named.label], score, by_class, score >= self.min_score)


def upload_problem(image: Path) -> str | None:
    """What is wrong with a stranger's file, found before it is decoded: its size in bytes and pixels, its format."""
    if image.stat().st_size > MAX_BYTES:
        return TOO_BIG
    if problem := file_problem(str(image)):
        return problem
    try:
        with image.open('rb') as file:
            open_photo(file)  # OpenCV would try formats whose size Pillow cannot tell before decoding
    except Exception:  # fed with garbage, decoders raise almost anything
        return NO_IMAGE
    return None
