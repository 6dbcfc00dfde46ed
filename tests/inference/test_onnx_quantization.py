"""8-bit models: close to float32, and computed the same by every processor."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from custom_modules.inference.onnx_quantization import quantize
from custom_modules.models.onnx_file import Metadata, multiplies_8_bits_exactly, open_session
from custom_modules.models.onnx_preprocessing import Preprocessing


def outputs(model, photos):
    return open_session(model.SerializeToString(), 'model').run(None, {'photos': photos})[0]


def parse(text, **constants):
    """A model from ONNX's textual syntax."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def uneven_network():
    """A convolution with ReLU6, a depthwise one and a head of 1 x 1.

    Channels differ by a factor of 100 between the convolutions; all weights are rounded to the same side.
    """
    rng = np.random.default_rng(0)
    ranges = np.geomspace(0.01, 1, 8)[:, None, None, None]
    first = np.full((8, 8, 1, 1), 0.0049)
    first[:, 0] = 1
    constants = {
        'weights': first / 300 * ranges,
        'filters': rng.normal(size=(8, 1, 3, 3)) / ranges,
        'offsets': np.linspace(-30, 30, 8),
        'identity': np.eye(8)[:, :, None, None],
        'zero': 0,
        'six': 6,
    }
    return parse(
        """network (uint8[N,8,6,6] photos) => (float[N,C,H,W] scores) {
            inputs = Cast <to=1> (photos)
            first = Conv (inputs, weights)
            clipped = Clip (first, zero, six)
            depthwise = Conv <group=8> (clipped, filters, offsets)
            scores = Conv (depthwise, identity)
        }""",
        **{name: np.asarray(value, np.float32) for name, value in constants.items()},
    )


def test_the_layer_of_the_logits_stays_in_float32_and_scores_stay_close(monkeypatch):
    model = uneven_network()
    photos = np.random.default_rng(1).integers(0, 256, (20, 8, 6, 6), np.uint8)
    metadata = Metadata(['rose'], Preprocessing((6, 6)), {'run': 'a', 'temperature': 2, 'value': 96})
    before = outputs(model, photos)

    def quantized():
        return onnx.load_from_string(quantize(model.SerializeToString(), photos, metadata))

    found = quantized()
    onnx.checker.check_model(found)
    props = {prop.key: prop.value for prop in found.metadata_props}
    assert Metadata.of_props(props, 'a').about == {'run': 'a', 'quantized': 'int8'}
    kinds = {output: node.op_type for node in found.graph.node for output in node.output}
    rounded = {node.name for node in found.graph.node if kinds.get(node.input[-1]) == 'DequantizeLinear'}
    assert rounded >= {'first', 'depthwise'}
    assert 'scores' not in rounded
    error = abs(outputs(found, photos) - before).mean((0, 2, 3)) / before.std((0, 2, 3))
    for part in ('centre', 'equalize', 'correct_biases'):
        with monkeypatch.context() as patch:
            patch.setattr(f'custom_modules.inference.onnx_quantization.{part}', lambda *_: None)
            without = abs(outputs(quantized(), photos) - before).mean((0, 2, 3)) / before.std((0, 2, 3))
            assert error.max() < without.max() / 1.5, part


def test_operators_that_cost_predictions_stay_in_float32():
    """Without a convolution; one value of the sum is so large that the others get the same of 256 levels."""
    rng = np.random.default_rng(0)
    constants = {'weights': rng.normal(size=(8, 5)), 'offset': [0, 0, 0, 0, 1e5], 'head': np.eye(5)}
    model = parse(
        """network (uint8[N,8] photos) => (float[N,5] scores) {
            inputs = Cast <to=1> (photos)
            mixed = MatMul (inputs, weights)
            shifted = Add (mixed, offset)
            places = Sub (shifted, offset)
            hidden = MatMul (places, head)
            scores = MatMul (hidden, head)
        }""",
        **{name: np.asarray(value, np.float32) for name, value in constants.items()},
    )
    photos = rng.integers(0, 256, (50, 8), np.uint8)
    found = onnx.load_from_string(
        quantize(model.SerializeToString(), photos, Metadata(['rose'], Preprocessing((6, 6))))
    )
    same = outputs(found, photos).argmax(1) == outputs(model, photos).argmax(1)
    assert same.mean() > 0.9
    kinds = {output: node.op_type for node in found.graph.node for output in node.output}
    assert kinds['weights_DequantizeLinear_Output'] == 'DequantizeLinear'


def test_sums_of_8_bit_products_do_not_saturate():
    """The largest activations and weights: on x86 without VNNI their sums in pairs are beyond 16 bits."""
    model = parse(
        """sums (float[N,64,4,4] photos) => (float[N,C,H,W] scores) {
            inputs = QuantizeLinear (photos, one, zero)
            read = DequantizeLinear (inputs, one, zero)
            weights_read = DequantizeLinear (weights, one, signed_zero)
            sums = Conv (read, weights_read)
            levels = QuantizeLinear (sums, large, zero)
            scores = DequantizeLinear (levels, large, zero)
        }""",
        one=np.float32(1),
        large=np.float32(64 * 127),
        zero=np.uint8(0),
        signed_zero=np.int8(0),
        weights=np.full((16, 64, 1, 1), 127, np.int8),
    )
    assert np.unique(outputs(model, np.full((1, 64, 4, 4), 255, np.float32))).tolist() == [255 * 64 * 127]


@pytest.mark.parametrize(
    ('flags', 'exactly'), [('avx2 avx512_vnni', True), ('avx2 avx_vnni', True), ('avx2 avx512f', False), (None, False)]
)
def test_exact_kernels_are_asked_for_unless_the_processor_needs_none(monkeypatch, tmp_path, flags, exactly):
    cpuinfo = tmp_path / 'cpuinfo'
    if flags:
        cpuinfo.write_text(f'flags\t\t: fpu {flags} sse\n')
    assert multiplies_8_bits_exactly(cpuinfo) is exactly
    monkeypatch.setattr('custom_modules.models.onnx_file.multiplies_8_bits_exactly', lambda: exactly)
    found = open_session(uneven_network().SerializeToString(), 'model').get_session_options()
    if exactly:
        with pytest.raises(RuntimeError):  # never set
            found.get_session_config_entry('session.x64quantprecision')
    else:
        assert found.get_session_config_entry('session.x64quantprecision') == '1'
