"""Where in a photo the model finds what speaks for a class: Grad-CAM on the backbone's last feature map.

R. R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017,
by the library grad-cam. Which photos are explained, and what is made of the maps, is the caller's business.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from mmengine.model import BaseTTAModel, is_model_wrapper
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

BATCH = 16  # photos
COLOURS = 'inferno'  # rises in lightness, so it reads for every kind of sight and in grey print


@dataclass(frozen=True)
class Explained:
    """A photo as the model sees it, and what in it speaks for classes.

    Args:
        index: The photo's place in the dataset.
        picture: The model's input before normalisation, (H, W, 3) uint8, BGR.
        maps: For each class asked for, (h, w) float32 in 0-1, scaled from its least to its greatest value; all 0 where
            no place stands out. None where the backbone gives no map (a transformer, or pictures so small that one
            place is left) or is not there.
    """

    index: int
    picture: NDArray[np.uint8]
    maps: dict[int, NDArray[np.float32]] | None


class AfterBackbone(nn.Module):
    """Neck and head of an MMPretrain classifier, on the backbone's last feature map; logits come out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.feature_map = nn.Identity()  # where grad-cam listens
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head = model.head

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) features to (N, K) logits."""
        return self.head(self.neck((self.feature_map(features),)))


def explain(model: Any, dataset: Any, wanted: Mapping[int, Sequence[int]]) -> Iterator[Explained]:
    """Explains photos, in batches, in the order given.

    Args:
        model: An MMPretrain classifier, in whatever it is wrapped for distribution or test-time augmentation; one
            without ``backbone`` (an exported model) gives no maps.
        dataset: Its test set, whose items have ``inputs``, (3, H, W), and ``data_samples``.
        wanted: For the index of each photo, the classes that it is to be explained for.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    model.eval()
    indices = list(wanted)
    for start in range(0, len(indices), BATCH):
        chosen = indices[start : start + BATCH]
        items = [dataset[i] for i in chosen]
        data: Any = {key: [item[key] for item in items] for key in ('inputs', 'data_samples')}
        features = None
        if hasattr(model, 'backbone'):
            with torch.no_grad():
                output = model.backbone(model.data_preprocessor(data)['inputs'])
            features = output[-1] if isinstance(output, tuple | list) else output
        labels = [label for i in chosen for label in wanted[i]]
        maps: list[Any] | None = None
        if isinstance(features, Tensor) and features.ndim == 4 and features[0, 0].numel() > 1:
            repeated = torch.cat([features[[k] * len(wanted[i])] for k, i in enumerate(chosen)])
            after = AfterBackbone(model)
            with torch.enable_grad(), GradCAM(after, [after.feature_map]) as cam:
                found = cam(repeated.requires_grad_(), [ClassifierOutputTarget(label) for label in labels])
            maps = list(np.nan_to_num(found).astype(np.float32))
        for i, item in zip(chosen, items, strict=True):
            own = None if maps is None else {label: maps.pop(0) for label in wanted[i]}
            yield Explained(i, _picture(item['inputs'], model), own)


def _picture(inputs: Tensor, model: Any) -> NDArray[np.uint8]:
    picture = inputs.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    # The preprocessor turns BGR, as OpenCV reads it, into RGB; where it does not, the pipeline has done so.
    return np.ascontiguousarray(picture if model.data_preprocessor.to_rgb else picture[..., ::-1])


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The picture with ``size`` pixels on its longer side."""
    scale = size / max(picture.shape[:2])
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def heat(picture: NDArray[np.uint8], cam: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The picture in grey with the map's heat over it; (h, w, 3) uint8 BGR, ``size`` pixels on its longer side."""
    small = resized(picture, size)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)[..., None].astype(np.float32)
    weight = np.clip(cv2.resize(cam, small.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    colour = 255 * colormaps[COLOURS](weight)[..., 2::-1]
    strength = 0.7 * weight[..., None]
    return np.round((1 - strength) * grey + strength * colour).astype(np.uint8)
