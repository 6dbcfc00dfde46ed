"""An exported model in 8 bits: static quantisation by ONNX Runtime. Nothing is read, compared or written here."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_modules.errors import InputError
from custom_modules.inference.onnx_export import quiet, with_metadata
from custom_modules.inference.onnx_file import Metadata, open_session
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
    section 3.1). QDQ form: ONNX Runtime fuses the pairs around an operator into its 8-bit kernel. What rounding shifts
    the outputs of convolutions by is taken back by their biases.

    Args:
        content: An exported model.
        photos: What the ranges of the activations are measured on, (3, H, W) each.
        metadata: Of the model; what it says of its scores is left out.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = onnx.load_from_string(content)
    name = model.graph.input[0].name
    round_weights(model, photos)  # before the ranges of the activations are measured

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


def round_weights(model: Any, photos: Sequence[Pixels]) -> None:
    """Rounds convolutions' weights to 8 bits in place, with biases that keep each channel's mean nearly as it was.

    A channel's rounding errors add up where its inputs are positive, as after ReLU6 (M. Nagel et al., 2019, section
    4.2; here with means that are measured, not derived). Zero padding counts as if it were the mean.

    Args:
        model: An ``onnx.ModelProto`` whose convolutions hold their weights, and biases if they have any; others stay.
        photos: What the means of the convolutions' inputs are measured on, (3, H, W) each.
    """
    import onnx
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [
        node for node in model.graph.node if node.op_type == 'Conv' and all(name in stored for name in node.input[1:])
    ]
    if not convolutions:
        return
    inputs = list(dict.fromkeys(node.input[0] for node in convolutions))
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    measured.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inputs)
    session = open_session(measured.SerializeToString(), 'model')
    means: dict[str, Any] = dict.fromkeys(inputs, 0)
    for photo in photos:
        for name, maps in zip(inputs, session.run(inputs, {model.graph.input[0].name: photo[None]}), strict=True):
            means[name] = means[name] + maps.reshape(maps.shape[1], -1).mean(1) / len(photos)
    for node in convolutions:
        weights, *bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
        flat = weights.reshape(*weights.shape[:2], -1)
        largest = abs(flat).max((1, 2), keepdims=True)
        step = np.maximum(largest, np.finfo(np.float32).tiny) / 127  # as quantize_static rounds signed weights
        rounded = (np.round(flat / step) * step).astype(np.float32)
        mean = means[node.input[0]]
        groups = len(mean) // flat.shape[1]
        seen = mean.reshape(groups, -1).repeat(len(flat) // groups, axis=0)  # by each output channel
        corrected = (sum(bias) - ((rounded - flat).sum(2) * seen).sum(1)).astype(np.float32)
        # Under names of their own: exporters let convolutions share what is equal.
        node.input[1:] = [f'{node.output[0]}_weight', f'{node.output[0]}_bias']
        for name, values in zip(node.input[1:], (rounded.reshape(weights.shape), corrected), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(values, name))
