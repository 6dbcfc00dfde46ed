"""8-bit ONNX models: ONNX Runtime's static quantization of a model whose channels were equalized before."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.inference.onnx_export import quiet, with_metadata
from custom_modules.models.onnx_file import Metadata, open_session
from custom_modules.models.preprocessing import Pixels

OPERATORS = ['Conv', 'Clip', 'Relu', 'Add', 'Mul', 'ReduceMean', 'GlobalAveragePool', 'Gemm', 'MatMul', 'MaxPool']
MOST_SCALED = 8.0  # a channel that calibration images hardly move may move more on others


@dataclass
class Convolution:
    """A convolution of a model: its ``onnx.NodeProto``, weights (O, I, H, W) and bias (O,)."""

    node: Any
    weights: NDArray
    bias: NDArray

    @property
    def padded(self) -> bool:
        """Whether it may read zeros around its input."""
        return any(
            (given.name == 'pads' and any(given.ints)) or (given.name == 'auto_pad' and given.s.startswith(b'SAME'))
            for given in self.node.attribute
        )

    def per_weight(self, values: NDArray) -> NDArray:
        """Of one value per input channel, (C,), those that each output channel reads, (O, I)."""
        read = self.weights.shape[1]
        return values.reshape(-1, read).repeat(len(self.weights) * read // len(values), axis=0)


def quantize(content: bytes, images: Pixels, metadata: Metadata) -> bytes:
    """The model with 8-bit weights, with a scale per channel, and 8-bit activations, with a scale per tensor.

    The layer that gives the logits stays in float32, because similar logits would get the same of 256 levels.

    Args:
        content: An exported model.
        images: (N, 3, H, W) uint8 RGB, on which the activations are measured.
        metadata: Metadata of the float32 model. What it says of the scores is left out.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    model = onnx.load_from_string(content)
    name = model.graph.input[0].name
    centre(model, images)
    equalize(model, images)
    correct_biases(model, images)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, Pixels] | None:
            image = next(self.images, None)
            return None if image is None else {name: image[None]}

    layers = [i for i, node in enumerate(model.graph.node) if node.op_type in ('Conv', 'Gemm', 'MatMul')]
    outside = [node.name for node in (*model.graph.node[: layers[0]], *model.graph.node[layers[-1] :])]
    with tempfile.TemporaryDirectory() as folder, quiet():
        out = Path(folder) / 'model.onnx'
        options: dict[str, Any] = {'activation_type': QuantType.QUInt8, 'weight_type': QuantType.QInt8}
        quantize_static(
            model, out, Reader(), per_channel=True, op_types_to_quantize=OPERATORS, nodes_to_exclude=outside, **options
        )
        quantized = onnx.load(out)
    # Its scores are not those that the temperature was fitted to and the metric was measured on.
    about = {key: value for key, value in metadata.about.items() if key not in ('metric', 'value', 'temperature')}
    return with_metadata(quantized, replace(metadata, about={**about, 'quantized': 'int8'}))


def centre(model: Any, images: Pixels) -> None:
    """Shifts channels in place to a mean of zero, because those of a tensor may lie far apart but have one scale.

    Shifted are outputs of convolutions that only further convolutions read, directly or after sums; the biases of both
    make up for it. Not where a reader pads, for the padding stays zero. No score changes.
    """
    convolutions = _convolutions(model)
    linear = [name for name in convolutions if _is_linear(model, name, convolutions)]
    means = _measure(model, linear, images, lambda values: values.mean((2, 3)), np.mean)
    shifts: dict[str, Any] = dict(means)
    for node in model.graph.node:
        if node.op_type == 'Add' and shifts.keys() & {*node.input}:
            shifts[node.output[0]] = sum(shifts.get(name, 0) for name in node.input)
    for output, layer in convolutions.items():
        if output in means:
            layer.bias = layer.bias - means[output]
        if layer.node.input[0] in shifts:
            shift = layer.per_weight(shifts[layer.node.input[0]])
            layer.bias = layer.bias + (layer.weights.sum((2, 3)) * shift).sum(1)
    _store(model, convolutions)


def _is_linear(model: Any, name: str, convolutions: dict[str, Convolution]) -> bool:
    """Whether only convolutions without padding read a tensor, directly or after sums."""
    readers = [node for node in model.graph.node if name in node.input]
    return (
        bool(readers)
        and name not in {value.name for value in model.graph.output}
        and all(
            _is_linear(model, node.output[0], convolutions)
            if node.op_type == 'Add'
            else node.output[0] in convolutions and not convolutions[node.output[0]].padded
            for node in readers
        )
    )


def equalize(model: Any, images: Pixels) -> None:
    """Scales channels between two convolutions in place, so that each uses more of the 8 bits of its tensor.

    Cross-layer equalization (M. Nagel et al., 2019, section 4.1), by the largest activations on images instead of the
    ranges of weights. The first convolution is multiplied, the second divided: up to the tensor's widest channel if
    that one is depthwise, for its weights have a scale per channel; else by the root, as its weights lose precision.
    The scores stay the same on these images; on others ReLU6 may cut a scaled channel earlier.
    """
    convolutions = _convolutions(model)
    pairs = [(first, *found) for first in convolutions.values() if (found := _next_convolution(model, first.node))]
    chained = [(first, convolutions[output], bound) for first, output, bound in pairs if output in convolutions]
    names = sorted({second.node.input[0] for _, second, _ in chained})
    reaches = _measure(model, names, images, lambda values: abs(values).max((2, 3)), np.max)
    for first, second, bound in chained:
        reach = reaches[second.node.input[0]].astype(float)  # float32 overflows in dividing by a denormal reach
        ratio = np.divide(min(reach.max(), bound), reach, out=np.ones_like(reach), where=reach > 0)
        scale = np.clip(ratio if second.weights.shape[1] == 1 else np.sqrt(ratio), 1, MOST_SCALED)
        first.weights = first.weights * scale[:, None, None, None]
        first.bias = first.bias * scale
        second.weights = second.weights / second.per_weight(scale)[:, :, None, None]
    _store(model, convolutions)


def correct_biases(model: Any, images: Pixels) -> None:
    """Rounds the weights of convolutions to 8 bits in place, with biases that keep the mean of each channel.

    Rounding errors of a channel add up where its inputs are positive, as after ReLU6 (M. Nagel et al., 2019, section
    4.2; here with means measured on images). Zero padding counts as if it were the mean.
    """
    convolutions = _convolutions(model)
    names = sorted({layer.node.input[0] for layer in convolutions.values()})
    means = _measure(model, names, images, lambda values: values.mean((2, 3)), np.mean)
    for layer in convolutions.values():
        largest = abs(layer.weights).max((1, 2, 3), keepdims=True)
        step = np.maximum(largest, np.finfo(np.float32).tiny) / 127  # as quantize_static rounds signed weights
        rounded = np.round(layer.weights / step) * step
        error = (rounded - layer.weights).sum((2, 3)) * layer.per_weight(means[layer.node.input[0]])
        layer.weights, layer.bias = rounded, layer.bias - error.sum(1)
    _store(model, convolutions)


def _convolutions(model: Any) -> dict[str, Convolution]:
    """The 2D convolutions with constant weights, by the names of their outputs."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == 'Conv' and all(name in stored for name in node.input[1:]):
            weights, *bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
            if weights.ndim == 4:
                found[node.output[0]] = Convolution(node, weights, bias[0] if bias else np.zeros(len(weights)))
    return found


def _next_convolution(model: Any, node: Any) -> tuple[str, float] | None:
    """Output of the convolution that alone reads ``node``'s output, through ReLUs at most, and their upper bound."""
    from onnx import numpy_helper

    bound, results = np.inf, {value.name for value in model.graph.output}
    while True:
        readers = [reader for reader in model.graph.node if node.output[0] in reader.input]
        if len(readers) != 1 or node.output[0] in results:
            return None
        (node,) = readers
        if node.op_type == 'Conv':
            return node.output[0], bound
        if node.op_type == 'Clip':
            stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
            limits = [stored.get(name) for name in node.input[1:]]
            if len(limits) != 2 or limits[0] != 0 or limits[1] is None:
                return None
            bound = min(bound, float(limits[1]))
        elif node.op_type != 'Relu':
            return None


def _measure(
    model: Any, names: Sequence[str], images: Pixels, per_image: Callable, over_images: Callable
) -> dict[str, NDArray]:
    """A statistic of each channel, (C,), of the tensors of these names."""
    import onnx

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(shown.SerializeToString(), 'model')
    found = [
        [per_image(values)[0] for values in session.run(names, {model.graph.input[0].name: image[None]})]
        for image in images
    ]
    return {name: over_images([one[i] for one in found], axis=0) for i, name in enumerate(names)}


def _store(model: Any, convolutions: dict[str, Convolution]) -> None:
    """Writes weights and biases back, under names of their own: exporters let convolutions share equal ones."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for output, layer in convolutions.items():
        layer.node.input[1:] = [f'{output}_weight', f'{output}_bias']
        for name, values in zip(layer.node.input[1:], (layer.weights, layer.bias), strict=True):
            tensor = stored[name] if name in stored else model.graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
