"""Heat maps of uploaded images by Grad-CAM."""

from pathlib import Path
from threading import Lock

from custom_modules.evaluation.cam import explain, heat
from custom_modules.inference.torch_predictor import TorchPredictor
from custom_modules.photos.thumbnails import data_address

SIZE = 448  # pixels, the longer side


class HeatMaps:
    """Draws the regions of an image that speak for a class.

    Args:
        predictor: The classifier.
    """

    def __init__(self, predictor: TorchPredictor) -> None:
        self._predictor = predictor
        self._lock = Lock()  # gradients gather in the weights, which all threads share

    def __call__(self, image: Path, label: int) -> str | None:
        """The heat map of a readable image as a ``data:`` URL; None if no region stands out."""
        items = [self._predictor.load(str(image))]
        with self._lock:
            (explained,) = explain(self._predictor.model, items, {0: [label]})
        cam = (explained.maps or {}).get(label)
        return None if cam is None or not cam.any() else data_address(heat(explained.picture, cam, SIZE))
