"""An exported model in 8 bits: static quantisation by ONNX Runtime. Nothing is read, compared or written here."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_modules.errors import InputError
from custom_modules.inference.onnx_export import quiet, with_metadata
from custom_modules.inference.onnx_predictor import load_photo
from custom_modules.models.onnx_file import Metadata, open_session
from custom_modules.models.preprocessing import Pixels, Preprocessing
from custom_modules.photos.opening import Unreadable

CALIBRATION_PHOTOS = 100
# Between the normalisation of the pixels and the layer that gives the logits, which stay in float32.
OPERATORS = ['Conv', 'Clip', 'Relu', 'Add', 'Mul', 'ReduceMean', 'GlobalAveragePool', 'Gemm', 'MatMul', 'MaxPool']

# At most this many times is a channel scaled up: one that calibration photos hardly move, others may move more.
MOST_SCALED = 8.0


@dataclass
class Convolution:
    """One of a model's convolutions whose weights are stored in it.

    Attributes:
        node: Its ``onnx.NodeProto``.
        weights: (O, I, H, W), for O output channels and the I input channels that each of them reads.
        bias: (O,).
    """

    node: Any
    weights: np.ndarray
    bias: np.ndarray

    @property
    def padded(self) -> bool:
        """Whether it may read zeros around its input."""
        return any(
            (given.name == 'pads' and any(given.ints)) or (given.name == 'auto_pad' and given.s.startswith(b'SAME'))
            for given in self.node.attribute
        )

    def seen(self, values: np.ndarray) -> np.ndarray:
        """Of a value for each input channel, (C,), those that each output channel reads, (O, I)."""
        read = self.weights.shape[1]
        groups = len(values) // read
        return values.reshape(groups, read).repeat(len(self.weights) // groups, axis=0)

    def answer_to(self, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What such ``weights`` make of an input whose channels hold these ``values`` everywhere, (C,): (O,)."""
        return (weights.sum((2, 3)) * self.seen(values)).sum(1)


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
    section 3.1). The activations' channels are shifted and scaled beforehand, for their tensors have one scale. QDQ
    form: ONNX Runtime fuses the pairs around an operator into its 8-bit kernel. What rounding shifts the outputs of
    convolutions by is taken back by their biases.

    Args:
        content: An exported model.
        photos: What the ranges of the activations are measured on, (3, H, W) each.
        metadata: Of the model; what it says of its scores is left out.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = onnx.load_from_string(content)
    name = model.graph.input[0].name
    centre(model, photos)
    equalize(model, photos)
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
            nodes_to_exclude=_head(model),  # logits that are near each other would get the same of 256 levels
        )
        quantized = onnx.load(out)
    # Its scores are others than those that the temperature was fitted to, and that the value is of.
    about = {key: value for key, value in metadata.about.items() if key not in ('metric', 'value', 'temperature')}
    return with_metadata(quantized, replace(metadata, about={**about, 'quantized': 'int8'}))


def centre(model: Any, photos: Sequence[Pixels]) -> None:
    """Shifts channels in place to a mean of zero, for those of a tensor may lie far apart and have one scale.

    Those that convolutions and their sums write and convolutions alone read: the biases of both make up for it. Not
    where a reader pads, for the padding stays zero, nor where a ReLU or max pooling lies between. No output changes.

    Args:
        model: An ``onnx.ModelProto``.
        photos: What the means are measured on, (3, H, W) each.
    """
    convolutions = _convolutions(model)
    sums = {node.output[0] for node in model.graph.node if node.op_type == 'Add'}
    linear = [tensors for tensors in _linked_tensors(model, convolutions)[0] if tensors <= convolutions.keys() | sums]
    means = _means(model, sorted(set().union(*linear)), photos)
    for tensors in linear:
        readers = [layer for layer in convolutions.values() if layer.node.input[0] in tensors]
        if any(layer.padded for layer in readers):
            continue
        for output in tensors & convolutions.keys():
            convolutions[output].bias = convolutions[output].bias - means[output]
        for layer in readers:
            layer.bias = layer.bias + layer.answer_to(layer.weights, means[layer.node.input[0]])
    _store(model, convolutions)


def equalize(model: Any, photos: Sequence[Pixels]) -> None:
    """Scales channels in place, so that each uses more of the 8 bits of its tensor.

    Cross-layer equalization (M. Nagel et al., 2019, section 4.1), here by what activations reach on photos, not by the
    ranges of weights: the convolution that writes a channel is multiplied, those that read it are divided. Up to the
    tensor's widest channel where depthwise layers alone read it, for their weights have a scale for each channel;
    elsewhere by the root of that, as rounding weights loses what rounding activations gains. The outputs stay the same
    on these photos; on others ReLU6 may cut a scaled channel earlier.

    Args:
        model: An ``onnx.ModelProto``. Only tensors between convolutions, at most with ReLUs, max pooling and sums
            on the way, are scaled.
        photos: What a channel's reach, its largest absolute value, is measured on, (3, H, W) each.
    """
    convolutions = _convolutions(model)
    linked, cuts = _linked_tensors(model, convolutions)
    read = {layer.node.input[0] for layer in convolutions.values()}
    read |= {name for node in model.graph.node if node.op_type == 'Add' for name in node.input}
    measured = sorted(read & {name for tensors in linked for name in tensors})
    reaches: dict[str, Any] = dict.fromkeys(measured, 0)
    for inner in _inner_values(model, measured, photos):
        reaches = {name: np.maximum(reaches[name], abs(values).max(1)) for name, values in inner.items()}
    for tensors in linked:
        inside = [reaches[name] for name in measured if name in tensors]
        if len({len(each) for each in inside}) > 1:  # a sum of one channel with many
            continue
        reach = np.max(inside, axis=0).astype(float)  # float32 overflows in dividing by a denormal reach
        writers = [layer for name, layer in convolutions.items() if name in tensors]
        readers = [layer for layer in convolutions.values() if layer.node.input[0] in tensors]
        widest = min([reach.max(), *(cuts[name] for name in tensors & cuts.keys())])
        power = 1 if all(layer.weights.shape[1] == 1 for layer in readers) else 0.5
        ratio = np.divide(widest, reach, out=np.ones_like(reach), where=reach > 0)
        scale = np.clip(ratio**power, 1, MOST_SCALED)
        for layer in writers:
            layer.weights = layer.weights * scale[:, None, None, None]
            layer.bias = layer.bias * scale
        for layer in readers:
            layer.weights = layer.weights / layer.seen(scale)[:, :, None, None]
    _store(model, convolutions)


def round_weights(model: Any, photos: Sequence[Pixels]) -> None:
    """Rounds convolutions' weights to 8 bits in place, with biases that keep each channel's mean nearly as it was.

    A channel's rounding errors add up where its inputs are positive, as after ReLU6 (M. Nagel et al., 2019, section
    4.2; here with means that are measured, not derived). Zero padding counts as if it were the mean.

    Args:
        model: An ``onnx.ModelProto`` whose convolutions hold their weights, and biases if they have any; others stay.
        photos: What the means of the convolutions' inputs are measured on, (3, H, W) each.
    """
    convolutions = _convolutions(model)
    means = _means(model, sorted({layer.node.input[0] for layer in convolutions.values()}), photos)
    for layer in convolutions.values():
        largest = abs(layer.weights).max((1, 2, 3), keepdims=True)
        step = np.maximum(largest, np.finfo(np.float32).tiny) / 127  # as quantize_static rounds signed weights
        rounded = np.round(layer.weights / step) * step
        shift = layer.answer_to(rounded - layer.weights, means[layer.node.input[0]])
        layer.weights, layer.bias = rounded, layer.bias - shift
    _store(model, convolutions)


def _convolutions(model: Any) -> dict[str, Convolution]:
    """The 2D convolutions that hold their weights, by the names of their outputs."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == 'Conv' and all(name in stored for name in node.input[1:]):
            weights, *bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
            if weights.ndim == 4:
                found[node.output[0]] = Convolution(node, weights, bias[0] if bias else np.zeros(len(weights)))
    return found


def _store(model: Any, convolutions: Mapping[str, Convolution]) -> None:
    """Writes weights and biases back, under names of their own: exporters let convolutions share what is equal."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for output, layer in convolutions.items():
        layer.node.input[1:] = [f'{output}_weight', f'{output}_bias']
        for name, values in zip(layer.node.input[1:], (layer.weights, layer.bias), strict=True):
            tensor = stored[name] if name in stored else model.graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _linked_tensors(model: Any, convolutions: Mapping[str, Convolution]) -> tuple[list[set[str]], dict[str, float]]:
    """Sets of tensors that must share a scale per channel; and the upper bounds of Clips among them, by output."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    sets = {output: {output} for output in convolutions}
    cuts = {}
    for node in model.graph.node:
        output = node.output[0]
        if output in convolutions:
            continue
        bounds = [numpy_helper.to_array(stored[name]) for name in node.input[1:] if name in stored]
        if node.op_type == 'Clip' and len(bounds) == 2 and bounds[0] == 0:
            inputs = node.input[:1]
            cuts[output] = float(bounds[1])
        elif node.op_type in ('Relu', 'MaxPool') or (node.op_type == 'Add' and not stored.keys() & {*node.input}):
            inputs = node.input
        else:
            fixed.update(node.input, node.output)
            continue
        together = {output}.union(*(sets.get(name, {name}) for name in inputs))
        sets.update(dict.fromkeys(together, together))
    read = {layer.node.input[0] for layer in convolutions.values()}
    distinct = {id(tensors): tensors for tensors in sets.values()}.values()  # each stands there several times
    return [t for t in distinct if not t & fixed and t & convolutions.keys() and t & read], cuts


def _head(model: Any) -> list[str]:
    """The names of the nodes from the layer that gives the logits to the scores."""
    writers = {output: node for node in model.graph.node for output in node.output}
    names, tensors = [], [model.graph.output[0].name]
    while tensors:
        if node := writers.get(tensors.pop()):
            names.append(node.name)
            if node.op_type not in ('Conv', 'Gemm', 'MatMul'):
                tensors.extend(node.input)
    return names


def _means(model: Any, names: Sequence[str], photos: Sequence[Pixels]) -> dict[str, np.ndarray]:
    """The mean of each channel, (C,), of the tensors of these names."""
    means: dict[str, Any] = dict.fromkeys(names, 0)
    for inner in _inner_values(model, names, photos):
        means = {name: means[name] + values.mean(1) / len(photos) for name, values in inner.items()}
    return means


def _inner_values(model: Any, names: Sequence[str], photos: Sequence[Pixels]) -> Iterator[dict[str, np.ndarray]]:
    """Of each photo the tensors of these names, (C, positions)."""
    import onnx

    if not names:
        return
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(shown.SerializeToString(), 'model')
    for photo in photos:
        found = session.run(names, {model.graph.input[0].name: photo[None]})
        yield {name: values.reshape(values.shape[1], -1) for name, values in zip(names, found, strict=True)}
