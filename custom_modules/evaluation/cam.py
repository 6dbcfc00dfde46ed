"""Grad-CAM on the backbone's last feature map: the places in an image that speak for a class.

R. R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017,
computed by the library grad-cam.
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

COLOURS = 'inferno'  # rises in lightness: legible for colour-blind readers and in grey print


@dataclass(frozen=True)
class Explained:
    """An image as the model sees it, with its heat maps.

    ``maps`` are (h, w) float32 in 0-1 for each wanted class, scaled from minimum to maximum; all 0 where no place
    speaks for the class. They are None where the model has no feature map of more than one place.
    """

    index: int  # of the image in the dataset
    picture: NDArray[np.uint8]  # the model's input before normalization, (H, W, 3), BGR
    maps: dict[int, NDArray[np.float32]] | None


class AfterBackbone(nn.Module):
    """Neck and head of an MMPretrain classifier: (N, C, h, w) features in, (N, K) logits out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.feature_map = nn.Identity()  # the layer that grad-cam hooks
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head = model.head

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) features to (N, K) logits."""
        return self.head(self.neck((self.feature_map(features),)))


def explain(model: Any, dataset: Any, wanted: Mapping[int, Sequence[int]]) -> Iterator[Explained]:
    """Computes heat maps of a classifier, possibly wrapped, for the classes ``wanted`` of each image, by its index.

    A model without ``backbone`` (an exported one) has no maps.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    model.eval()
    for i, labels in wanted.items():
        item = dataset[i]
        features, maps = _features(model, item), None
        if features is not None:
            repeated = features.repeat(len(labels), 1, 1, 1).requires_grad_()
            after = AfterBackbone(model)
            with torch.enable_grad(), GradCAM(after, [after.feature_map]) as cam:
                found = cam(repeated, [ClassifierOutputTarget(label) for label in labels])
            maps = dict(zip(labels, np.nan_to_num(found).astype(np.float32), strict=True))
        yield Explained(i, _picture(item['inputs'], model), maps)


def _features(model: Any, item: dict) -> Tensor | None:
    """The backbone's last feature map of an image, (1, C, h, w); None where there is none of more than one place."""
    if not hasattr(model, 'backbone'):
        return None
    data: Any = {key: [item[key]] for key in ('inputs', 'data_samples')}
    with torch.no_grad():
        output = model.backbone(model.data_preprocessor(data)['inputs'])
    features = output[-1] if isinstance(output, tuple | list) else output
    is_map = isinstance(features, Tensor) and features.ndim == 4 and features[0, 0].numel() > 1
    return features if is_map else None


def _picture(inputs: Tensor, model: Any) -> NDArray[np.uint8]:
    picture = inputs.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    # Where the preprocessor does not turn BGR, as OpenCV reads it, into RGB, the pipeline has done so.
    return np.ascontiguousarray(picture if model.data_preprocessor.to_rgb else picture[..., ::-1])


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image with ``size`` pixels on its longer side."""
    scale = size / max(picture.shape[:2])
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def heat(picture: NDArray[np.uint8], cam: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The image in grey under its heat map; (h, w, 3) uint8 BGR, ``size`` pixels on its longer side."""
    small = resized(picture, size)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)[..., None].astype(np.float32)
    weight = np.clip(cv2.resize(cam, small.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    colour = 255 * colormaps[COLOURS](weight)[..., 2::-1]
    strength = 0.7 * weight[..., None]
    return np.round((1 - strength) * grey + strength * colour).astype(np.uint8)
