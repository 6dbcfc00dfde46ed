"""Converts a trained classifier to ONNX, and compares its scores with torch's."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from custom_modules.errors import InputError, said_by
from custom_modules.inference.torch_predictor import TorchPredictor
from custom_modules.models.onnx_file import Metadata, open_session, score, seal
from custom_modules.models.onnx_preprocessing import Pixels
from custom_modules.photos.image_files import Unreadable
from custom_modules.progress import Progress
from custom_modules.upstream import patch_export, silenced

TOLERANCE = 1e-4  # of a score; float32 rounding makes some 1e-6
Scores = NDArray[np.float32]


class ScoringModel(nn.Module):
    """A classifier with its normalization: (N, 3, H, W) uint8 RGB in, (N, K) float32 softmax scores out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        preprocessor = model.data_preprocessor
        self.flip = not preprocessor.to_rgb  # images are loaded as BGR, and such a model was trained on BGR
        normalizes = getattr(preprocessor, '_enable_normalize', False)
        self.register_buffer('mean', preprocessor.mean.view(1, -1, 1, 1) if normalizes else torch.zeros(1))
        self.register_buffer('std', preprocessor.std.view(1, -1, 1, 1) if normalizes else torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of images."""
        inputs = images.flip(1) if self.flip else images
        inputs = (inputs.float() - self.mean) / self.std
        return torch.softmax(self.model.head(self.model.extract_feat(inputs)), dim=1)


def export(predictor: TorchPredictor, metadata: Metadata) -> bytes:
    """The model as ONNX; raises an :class:`InputError` if that fails, or it has not one score per class."""
    patch_export()
    name, classes = predictor.file.path, len(metadata.classes)
    model = ScoringModel(deepcopy(predictor.model)).eval()  # a copy: the model itself is compared with the export
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = False  # the exporter takes half as long; the graph is the same
    try:
        with silenced(), torch.no_grad():
            program: Any = torch.onnx.export(
                model,
                (torch.zeros(2, 3, *metadata.preprocessing.crop, dtype=torch.uint8),),
                dynamo=True,
                verbose=False,
                input_names=['photos'],
                output_names=['scores'],
                dynamic_shapes=({0: torch.export.Dim('N')},),
            )
    except Exception as error:  # the exporter's own kinds, and whatever the traced model raises
        raise InputError(f'{name}: its model cannot be exported ({said_by(error)})') from error
    found = program.model_proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if found != classes:
        raise InputError(f'{name}: gives {found} scores for {classes} classes. Give another checkpoint.')
    return with_metadata(program.model_proto, metadata)


def with_metadata(model: Any, metadata: Metadata) -> bytes:
    """The bytes of an ``onnx.ModelProto`` with its metadata and checksum."""
    del model.metadata_props[:]
    for key, value in metadata.props().items():
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString())


def score_by_all(
    predictor: TorchPredictor, models: Sequence[bytes], paths: Sequence[str], progress: Progress | None = None
) -> list[Scores]:
    """The scores, (N, K), of N images by torch, then by each ONNX model, on the same pixels."""
    name = str(predictor.file.path)
    sessions = [open_session(model, name) for model in models]
    scores: list[list[Scores]] = []
    for _, items in predictor.batches(paths):
        pixels = stack_pixels(items)
        scores.append(
            [predictor.score(items), *(score(session, pixels, predictor.classes, name) for session in sessions)]
        )
        if progress:
            progress('comparing', sum(len(found[0]) for found in scores), len(paths))
    return [np.concatenate(found) for found in zip(*scores, strict=True)]


def stack_pixels(items: Sequence[Any]) -> Pixels:
    """(N, 3, H, W) uint8 RGB of N images from a :class:`TorchPredictor`; an InputError names the unreadable ones."""
    if bad := [item for item in items if isinstance(item, Unreadable)]:
        raise InputError(*(f'{item.path}: {item.problem}. Fix the dataset first.' for item in bad))
    return np.stack([item['inputs'].numpy()[::-1] for item in items])  # loaded as BGR


def difference(expected: Scores, found: Scores) -> float:
    """The largest absolute difference of any score; infinite if one is not finite."""
    return float(abs(expected - found).max()) if np.isfinite(found).all() else float('inf')


def describe(expected: Scores, found: Scores) -> str:
    """How a model's scores differ from torch's, in words."""
    same = int((expected.argmax(1) == found.argmax(1)).sum())
    top1 = 'identical' if same == len(found) else f'identical on {same} only'
    return f'{len(found)} photos, largest difference of a score {difference(expected, found):.2g}, top-1 {top1}'
