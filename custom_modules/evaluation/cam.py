"""Grad-CAM on the backbone's last feature map or tokens: the places in an image that speak for a class.

R. R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017,
computed by the library grad-cam.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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

from custom_modules.photos.thumbnails import resized

COLOURS = 'inferno'  # rises in lightness: legible for colour-blind readers and in grey print


@dataclass(frozen=True)
class Explained:
    """An image as the model sees it, with its heat maps.

    ``maps`` are (h, w) float32 in 0-1 for each wanted class, scaled from minimum to maximum; all 0 where no place
    speaks for the class. They are None where the model has neither a feature map of more than one place nor tokens.
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
        yield Explained(i, _picture(item['inputs'], model), _maps(model, item, labels))


def _maps(model: Any, item: dict, labels: Sequence[int]) -> dict[int, NDArray[np.float32]] | None:
    if not hasattr(model, 'backbone'):
        return None
    data: Any = {key: [item[key]] for key in ('inputs', 'data_samples')}
    images = model.data_preprocessor(data)['inputs']
    with torch.no_grad():
        output = model.backbone(images)
    features = output[-1] if isinstance(output, tuple | list) else output
    if isinstance(features, Tensor) and features.ndim == 4 and features[0, 0].numel() > 1:
        explained: Any = AfterBackbone(model)
        layer, reshape = explained.feature_map, None
    elif layer := _layer_inside(model.backbone):
        features, explained = images, model
        extra = getattr(model.backbone, 'num_extra_tokens', 0)
        reshape = partial(_as_map, extra=extra, ratio=images.shape[2] / images.shape[3])
    else:
        return None
    repeated = features.repeat(len(labels), 1, 1, 1).requires_grad_()
    with torch.enable_grad(), GradCAM(explained, [layer], reshape) as cam:
        found = cam(repeated, [ClassifierOutputTarget(label) for label in labels])
    model.zero_grad()
    return dict(zip(labels, np.nan_to_num(found).astype(np.float32), strict=True))


def _layer_inside(backbone: Any) -> Any:
    """The last layer with places: a vision transformer's last norm before an attention, ConvNeXt's last stage."""
    layers, stages = (getattr(backbone, name, None) or [None] for name in ('layers', 'stages'))
    return getattr(layers[-1], 'ln1', None) or (stages[-1] if isinstance(stages[-1], nn.Module) else None)


def _as_map(features: Tensor, extra: int, ratio: float) -> Tensor:
    """(N, C, h, w) of (N, L, C) tokens, the first ``extra`` of no place; ``ratio`` is height / width of the images."""
    if features.ndim == 4:
        return features
    places = features[:, extra:]
    height = round(math.sqrt(places.shape[1] * ratio))
    return places.unflatten(1, (height, -1)).permute(0, 3, 1, 2)


def _picture(inputs: Tensor, model: Any) -> NDArray[np.uint8]:
    picture = inputs.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    # Where the preprocessor does not turn BGR, as OpenCV reads it, into RGB, the pipeline has done so.
    return np.ascontiguousarray(picture if model.data_preprocessor.to_rgb else picture[..., ::-1])


def heat(picture: NDArray[np.uint8], cam: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The image in grey under its heat map; (h, w, 3) uint8 BGR, ``size`` pixels on its longer side."""
    small = resized(picture, size)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)[..., None].astype(np.float32)
    weight = np.clip(cv2.resize(cam, small.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    colour = 255 * colormaps[COLOURS](weight)[..., 2::-1]
    strength = 0.7 * weight[..., None]
    return np.round((1 - strength) * grey + strength * colour).astype(np.uint8)
