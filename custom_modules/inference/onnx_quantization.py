"""8-bit ONNX models: ONNX Runtime's static quantization of a model whose channels were equalized before."""

import tempfile
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.inference.onnx_conversion import with_metadata
from custom_modules.models.onnx_file import Metadata, open_session
from custom_modules.models.onnx_preprocessing import Pixels
from custom_modules.upstream import silenced

LAYERS = ['Conv', 'Gemm', 'MatMul']  # operators with weights
OPERATORS = [*LAYERS, 'Clip', 'Relu', 'Add', 'Mul', 'ReduceMean', 'GlobalAveragePool', 'MaxPool']
TOLERABLE = 0.01  # share of the calibration images with another prediction up to which all operators stay in 8 bits
MOST_SCALED = 8.0  # a channel that calibration images hardly move may move more on others


def quantize(content: bytes, images: Pixels, metadata: Metadata) -> bytes:
    """The model with 8-bit weights, with a scale per channel, and 8-bit activations, with a scale per tensor.

    The layer that gives the logits stays in float32, because similar logits would get the same of 256 levels. Where 8
    bits change predictions on the images, as in transformers, other operators than layers stay in float32 if that
    changes fewer.

    Args:
        content: An exported model.
        images: (N, 3, H, W) uint8 RGB, on which the activations are measured.
        metadata: Metadata of the float32 model. What it says of the scores is left out.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    network = Network(onnx.load_from_string(content), images)
    centre(network)
    equalize(network)
    correct_biases(network)

    nodes = network.nodes
    layers = [i for i, node in enumerate(nodes) if node.op_type in LAYERS]
    options: dict[str, Any] = {
        'activation_type': QuantType.QUInt8,
        'weight_type': QuantType.QInt8,
        'per_channel': True,
        'nodes_to_exclude': [node.name for node in (*nodes[: layers[0]], *nodes[layers[-1] :])],
    }
    expected, found = _predictions(content, images), []
    for operators in (OPERATORS, LAYERS):
        inputs = iter([{network.input: image[None]} for image in images])
        reader: Any = SimpleNamespace(get_next=partial(next, inputs, None))
        with tempfile.TemporaryDirectory() as folder, silenced():
            out = Path(folder) / 'model.onnx'
            quantize_static(network.model(), out, reader, op_types_to_quantize=operators, **options)
            changed = (_predictions(out.read_bytes(), images) != expected).mean()
            found.append((changed, onnx.load(out)))
        if changed <= TOLERABLE:
            break
    _, quantized = min(found, key=itemgetter(0))
    # Its scores are not those that the temperature was fitted to and the metric was measured on.
    about = {key: value for key, value in metadata.about.items() if key not in ('metric', 'value', 'temperature')}
    return with_metadata(quantized, replace(metadata, about={**about, 'quantized': 'int8'}))


def _predictions(content: bytes, images: Pixels) -> NDArray:
    """The labels that a model gives to images, (N,)."""
    session = open_session(content, 'model')
    (given,) = session.get_inputs()
    return np.concatenate([session.run(None, {given.name: image[None]})[0].argmax(1) for image in images])


@dataclass
class Convolution:
    """A convolution of a model: its ``onnx.NodeProto``, weights (O, I, H, W) and bias (O,)."""

    node: Any
    weights: NDArray
    bias: NDArray

    @property
    def padded(self) -> bool:
        """Whether it reads zeros around its input."""
        return any(any(given.ints) for given in self.node.attribute if given.name == 'pads')

    def per_weight(self, values: NDArray) -> NDArray:
        """Expands values per input channel, (C,), to the weights' (O, I); I < C where the convolution is grouped."""
        read = self.weights.shape[1]
        return values.reshape(-1, read).repeat(len(self.weights) * read // len(values), axis=0)


class Network:
    """An ``onnx.ModelProto`` whose convolutions can be changed, and images, (N, C, H, W), to measure it on.

    ``convolutions`` are those with constant weights, by the names of their outputs.
    """

    def __init__(self, model: Any, images: Pixels) -> None:
        from onnx import numpy_helper

        self._model, self._images = model, images
        self.input, self.nodes = model.graph.input[0].name, model.graph.node
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.convolutions: dict[str, Convolution] = {}
        for node in self.nodes:
            if node.op_type == 'Conv' and self._constants.keys() >= {*node.input[1:]}:
                output = node.output[0]
                weights, *bias = (self._constants[name] for name in node.input[1:])
                node.input[1:] = [f'{output}_weight', f'{output}_bias']  # exporters share equal ones
                self.convolutions[output] = Convolution(node, weights, bias[0] if bias else np.zeros(len(weights)))

    def model(self) -> Any:
        """The model with its convolutions of now."""
        from onnx import numpy_helper

        model = deepcopy(self._model)
        for layer in self.convolutions.values():
            for name, values in zip(layer.node.input[1:], (layer.weights, layer.bias), strict=True):
                model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        return model

    def readers(self, name: str) -> list[Any]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if name in node.input]

    def next_convolution(self, name: str) -> Convolution | None:
        """The convolution that alone reads a tensor, directly or through ReLUs."""
        readers = self.readers(name)
        if len(readers) != 1:
            return None
        (node,) = readers
        clips_at_0 = node.op_type == 'Clip' and any(self._constants.get(low) == 0 for low in node.input[1:2])
        if node.op_type == 'Relu' or clips_at_0:
            return self.next_convolution(node.output[0])
        return self.convolutions.get(node.output[0])

    def measure(self, names: Collection[str]) -> dict[str, tuple[NDArray, NDArray]]:
        """The mean and the largest magnitude of each channel, (C,) each, of the tensors of these names."""
        from onnx import ValueInfoProto

        if not names:
            return {}  # to ONNX Runtime, no names are all outputs
        model = self.model()
        model.graph.output.extend(ValueInfoProto(name=name) for name in names)
        session = open_session(model.SerializeToString(), 'model')
        found: dict[str, list] = {name: [] for name in names}
        for image in self._images:
            for name, values in zip(names, session.run([*names], {self.input: image[None]}), strict=True):
                found[name].append((values.mean((2, 3))[0], abs(values).max((2, 3))[0]))
        return {
            name: (np.mean([mean for mean, _ in both], axis=0), np.max([reach for _, reach in both], axis=0))
            for name, both in found.items()
        }


def centre(network: Network) -> None:
    """Shifts channels to a mean of zero, because those of a tensor may lie far apart but have one scale.

    Shifts the outputs that only convolutions without padding read, directly or after sums. The biases compensate, so
    no score changes.
    """
    convolutions = network.convolutions
    measured = network.measure([name for name in convolutions if _is_linear(network, name)])
    shifts: dict[str, Any] = {name: mean for name, (mean, _) in measured.items()}
    for node in network.nodes:
        if node.op_type == 'Add' and shifts.keys() & {*node.input}:
            shifts[node.output[0]] = sum(shifts.get(name, 0) for name in node.input)
    for output, layer in convolutions.items():
        if output in shifts:
            layer.bias = layer.bias - shifts[output]
        if layer.node.input[0] in shifts:
            shift = layer.per_weight(shifts[layer.node.input[0]])
            layer.bias = layer.bias + (layer.weights.sum((2, 3)) * shift).sum(1)


def _is_linear(network: Network, name: str) -> bool:
    """Whether only convolutions without padding read a tensor, directly or after sums."""
    readers = network.readers(name)
    return bool(readers) and all(
        _is_linear(network, node.output[0])
        if node.op_type == 'Add'
        else node.output[0] in network.convolutions and not network.convolutions[node.output[0]].padded
        for node in readers
    )


def equalize(network: Network) -> None:
    """Scales channels between two convolutions, so that each uses more of the 8 bits of its tensor.

    Cross-layer equalization (M. Nagel et al., 2019, section 4.1), by the largest activations on images instead of the
    ranges of weights. The first convolution is multiplied, the second divided: up to the tensor's widest channel if
    that one is depthwise, for its weights have a scale per channel; else by the root, as its weights lose precision.
    The scores stay the same on these images; on others ReLU6 may cut a scaled channel earlier.
    """
    found = [(first, network.next_convolution(output)) for output, first in network.convolutions.items()]
    pairs = [(first, second) for first, second in found if second]
    measured = network.measure({second.node.input[0] for _, second in pairs})
    for first, second in pairs:
        reach = measured[second.node.input[0]][1].astype(float)  # float32 overflows in dividing by a denormal reach
        ratio = np.divide(reach.max(), reach, out=np.ones_like(reach), where=reach > 0)
        scale = np.clip(ratio if second.weights.shape[1] == 1 else np.sqrt(ratio), 1, MOST_SCALED)
        first.weights = first.weights * scale[:, None, None, None]
        first.bias = first.bias * scale
        second.weights = second.weights / second.per_weight(scale)[:, :, None, None]


def correct_biases(network: Network) -> None:
    """Rounds the weights of convolutions to 8 bits, with biases that keep the mean of each channel.

    Rounding errors of a channel add up where its inputs are positive, as after ReLU6 (M. Nagel et al., 2019, section
    4.2; here with means measured on images). Zero padding counts as if it were the mean.
    """
    measured = network.measure({layer.node.input[0] for layer in network.convolutions.values()})
    for layer in network.convolutions.values():
        largest = abs(layer.weights).max((1, 2, 3), keepdims=True)
        step = np.maximum(largest, np.finfo(np.float32).tiny) / 127  # as quantize_static rounds signed weights
        rounded = np.round(layer.weights / step) * step
        error = (rounded - layer.weights).sum((2, 3)) * layer.per_weight(measured[layer.node.input[0]][0])
        layer.weights, layer.bias = rounded, layer.bias - error.sum(1)
