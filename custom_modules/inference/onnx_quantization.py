"""An exported model in 8 bits: static quantisation by ONNX Runtime. Nothing is read, compared or written here."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_modules.errors import InputError
from custom_modules.inference.onnx_export import quiet, with_metadata
from custom_modules.inference.onnx_file import Metadata
from custom_modules.inference.onnx_predictor import load_photo
from custom_modules.inference.outcomes import Unreadable
from custom_modules.inference.preprocessing import Pixels, Preprocessing

CALIBRATION_PHOTOS = 100
# Between the normalisation of the pixels and the softmax of the logits, which stay float.
OPERATORS = ['Conv', 'Clip', 'Relu', 'Add', 'Mul', 'ReduceMean', 'GlobalAveragePool', 'Gemm', 'MatMul', 'MaxPool']


def calibration_photos(photos: Sequence[Any], count: int = CALIBRATION_PHOTOS) -> list[Any]:
    """``count`` of the training photos, which are sorted by class, evenly spread; all if there are fewer."""
    return [photos[at * len(photos) // count] for at in range(count)] if len(photos) > count else list(photos)


def calibration_pixels(paths: Sequence[str], preprocessing: Preprocessing) -> list[Pixels]:
    """What :func:`quantize` measures on, (3, H, W) each.

    Raises:
        InputError: A photo cannot be read.
    """
    pixels = []
    for path in paths:
        if isinstance(photo := load_photo(preprocessing, path), Unreadable):
            raise InputError(f'{path}: {photo.problem}; mend the dataset first')
        pixels.append(photo)
    return pixels


def quantize(content: bytes, photos: Sequence[Pixels], metadata: Metadata) -> bytes:
    """The model with 8-bit weights and activations, sealed.

    Activations are unsigned, and weights signed with a scale for each channel: the ranges of a depthwise layer's
    channels differ so much that one scale for all would leave some of them a few levels (R. Krishnamoorthi, 2018,
    section 3.1). QDQ form: ONNX Runtime fuses the pairs around an operator into its 8-bit kernel.

    Args:
        content: An exported model.
        photos: What the ranges of the activations are measured on, (3, H, W) each.
        metadata: Of the model; what it says of its scores is left out.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = onnx.load_from_string(content)
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.photos = iter(photos)

        def get_next(self) -> dict[str, np.ndarray] | None:
            pixels = next(self.photos, None)
            return None if pixels is None else {name: pixels[None]}

    with tempfile.TemporaryDirectory() as folder, quiet():
        out = Path(folder) / 'model.onnx'
        quantize_static(
            model,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=OPERATORS,
        )
        quantized = onnx.load(out)
    # Its scores are others than those that the temperature was fitted to, and that the value is of.
    about = {key: value for key, value in metadata.about.items() if key not in ('metric', 'value', 'temperature')}
    return with_metadata(quantized, replace(metadata, about={**about, 'quantized': 'int8'}))
