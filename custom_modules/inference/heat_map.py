"""Draws where in an uploaded photo the model finds what speaks for a class. The method is evaluation's."""

from pathlib import Path
from threading import Lock

from custom_modules.evaluation.cam import explain, heat
from custom_modules.inference.predictor import Predictor
from custom_modules.photos.thumbnails import data_address

SIZE = 448  # pixels, the longer side


class HeatMaps:
    """Heat maps of one model, by Grad-CAM.

    Args:
        predictor: With the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._lock = Lock()  # gradients gather in the weights, which all threads share

    def __call__(self, photo: Path, label: int) -> str | None:
        """The heat map of a photo that can be read, as a ``data:`` address; None where no place stands out."""
        _, batch = next(self._predictor.batches([str(photo)], 1, 0))
        assert batch is not None
        items = [{key: batch[key][0] for key in ('inputs', 'data_samples')}]
        with self._lock:
            (explained,) = explain(self._predictor.model, items, {0: [label]})
        cam = (explained.maps or {}).get(label)
        return None if cam is None or not cam.any() else data_address(heat(explained.picture, cam, SIZE))
