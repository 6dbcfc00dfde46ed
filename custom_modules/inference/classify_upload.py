"""Classifies uploaded images: checks each file, limits how many are decoded at once, and calibrates the scores."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from custom_modules.inference.predict import check_min_score
from custom_modules.inference.predictor import Predictor, open_predictor
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction
from custom_modules.models.model_file import is_exported
from custom_modules.photos.image_files import BROKEN, Unreadable
from custom_modules.photos.thumbnails import data_address

MAX_MEGABYTES = 20  # of one image
MAX_BYTES = MAX_MEGABYTES << 20  # a megabyte as Gradio counts it
THREADS = 2  # one decodes while the other computes; other uploads wait, so that memory is bounded
KINDS = 'JPEG, PNG, WebP, TIFF, BMP or GIF'
NO_IMAGE = f'no image that can be read: {KINDS}'
TOO_BIG = f'too large, more than {MAX_MEGABYTES} MB'
HEAT_MAP = 448  # pixels, the longer side

# From an image and a label to the ``data:`` URL of a heat map, or None if no region stands out.
Heat = Callable[[Path, int], str | None]


@dataclass
class UploadClassifier:
    """Classifies uploads of many clients, in a few threads."""

    predictor: Predictor
    min_score: float  # predictions with a lower score are unsure, 0 to 1
    temperature: float | None = None  # divides the logits of calibrated scores; None leaves scores as they are
    heat: Heat | None = None  # draws heat maps
    no_heat: str = 'No heat map of this photo: no region stands out.'  # shown where there is none

    def __post_init__(self) -> None:
        self.classes = self.predictor.classes
        self.pool = ThreadPoolExecutor(THREADS)

    async def in_threads(self, work: Callable[..., Any], uploads: Iterable[Any]) -> list[Any]:
        """The results of ``work``, which calls :meth:`classify`, on each upload."""
        run = asyncio.get_running_loop().run_in_executor
        return await asyncio.gather(*(run(self.pool, work, upload) for upload in uploads))

    def classify(self, image: Path, name: str) -> Prediction | Unreadable:
        """The prediction for a file, or what is wrong with it; ``name`` is the client's name of the file."""
        if image.stat().st_size > MAX_BYTES:
            return Unreadable(name, TOO_BIG)
        (outcome,) = self.predictor.predict([str(image)], 1, 0)
        if isinstance(outcome, Unreadable):
            return Unreadable(name, NO_IMAGE if outcome.problem == BROKEN else outcome.problem)
        if self.temperature is None:
            return Prediction(name, outcome.scores)
        return Prediction(name, tempered([outcome.scores], self.temperature)[0].tolist())

    def fields(self, prediction: Prediction) -> dict[str, Any]:
        """A prediction for JSON: the ``label``, its ``score`` (0 to 1), all ``scores``, and if it is ``sure``."""
        score = prediction.scores[prediction.label]
        return {
            'label': self.classes[prediction.label],
            'score': score,
            'scores': dict(zip(self.classes, prediction.scores, strict=True)),
            'sure': score >= self.min_score,
        }


def open_classifier(model: str, config: str | None, min_score: float) -> UploadClassifier:
    """Opens a model for uploads, with the temperature of its test and heat maps where there are any."""
    predictor = open_predictor(model, config)
    check_min_score(min_score, predictor.classes)
    if is_exported(model):
        no_heat = 'An exported model shows no heat map.'
        return UploadClassifier(predictor, min_score, predictor.temperature, no_heat=no_heat)

    from custom_modules.evaluation.results import find_results  # needs packages that an exported model does not

    known = find_results(predictor.file)
    print(f'temperature {known.source}')
    classifier = UploadClassifier(predictor, min_score, known.temperature)
    try:
        classifier.heat = heat_maps(predictor)
    except ModuleNotFoundError as error:
        classifier.no_heat = f"No heat map ({error}): pip install 'grad-cam<2'"
        print(classifier.no_heat)
    return classifier


def heat_maps(predictor: Any) -> Heat:
    """Draws the regions of an image that speak for a class, by Grad-CAM on the model of a ``TorchPredictor``."""
    from custom_modules.evaluation.cam import explain, heat

    lock = Lock()  # gradients gather in the weights, which all threads share

    def draw(image: Path, label: int) -> str | None:
        items = [predictor.load(str(image))]
        with lock:
            (explained,) = explain(predictor.model, items, {0: [label]})
        cam = (explained.maps or {}).get(label)
        return None if cam is None or not cam.any() else data_address(heat(explained.picture, cam, HEAT_MAP))

    return draw
