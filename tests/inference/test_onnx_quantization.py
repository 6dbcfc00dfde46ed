"""8-bit models: close to float32, and computed the same by every processor."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from custom_modules.inference.onnx_quantization import Network, centre, correct_biases, equalize, quantize
from custom_modules.models.onnx_file import Metadata, multiplies_8_bits_exactly, open_session
from custom_modules.models.preprocessing import Preprocessing


def outputs(model, photos):
    return open_session(model.SerializeToString(), 'model').run(None, {'photos': photos})[0]


def network(**weights):
    """A model of a convolution with ReLU6, a depthwise one and a head of 1 x 1, on (N, 8, 6, 6) photos."""
    weights = {'zero': 0, 'six': 6, 'offsets': np.linspace(-30, 30, 8), **weights}
    nodes = [
        helper.make_node('Cast', ['photos'], ['inputs'], to=TensorProto.FLOAT),
        helper.make_node('Conv', ['inputs', 'first'], ['a'], 'first'),
        helper.make_node('Clip', ['a', 'zero', 'six'], ['b']),
        helper.make_node('Conv', ['b', 'depthwise', 'offsets'], ['c'], 'depthwise', group=8),
        helper.make_node('Conv', ['c', 'head'], ['scores'], 'head'),
    ]
    graph = helper.make_graph(
        nodes,
        'network',
        [helper.make_tensor_value_info('photos', TensorProto.UINT8, ['N', 8, 6, 6])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', 'C', 'H', 'W'])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)


def uneven_network():
    """Channels differ by a factor of 100 between the convolutions; all weights are rounded to the same side."""
    rng = np.random.default_rng(0)
    ranges = np.geomspace(0.01, 1, 8)[:, None, None, None]
    first = np.full((8, 8, 1, 1), 0.0049)
    first[:, 0] = 1
    return network(
        first=first / 300 * ranges,
        depthwise=rng.normal(size=(8, 1, 3, 3)) / ranges,
        head=np.eye(8)[:, :, None, None],
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
    assert 'head' not in rounded
    error = abs(outputs(found, photos) - before).mean((0, 2, 3)) / before.std((0, 2, 3))
    for part in ('centre', 'equalize', 'correct_biases'):
        with monkeypatch.context() as patch:
            patch.setattr(f'custom_modules.inference.onnx_quantization.{part}', lambda *_: None)
            without = abs(outputs(quantized(), photos) - before).mean((0, 2, 3)) / before.std((0, 2, 3))
            assert error.max() < without.max() / 1.5, part


def test_changes_before_the_rounding_leave_the_scores():
    model = uneven_network()
    photos = np.random.default_rng(1).integers(0, 256, (20, 8, 6, 6), np.uint8)
    before = outputs(model, photos)
    network = Network(model, photos)
    for change in (centre, equalize):
        change(network)
        np.testing.assert_allclose(outputs(network.model(), photos), before, atol=1e-5 * abs(before).max())
    correct_biases(network)
    after = outputs(network.model(), photos)
    np.testing.assert_allclose(after.mean((0, 2, 3)), before.mean((0, 2, 3)), atol=0.02 * before.std())
    assert abs(after - before).max() > 1e-4 * abs(before).max()


def test_sums_of_8_bit_products_do_not_saturate():
    """The largest activations and weights: on x86 without VNNI their sums in pairs are beyond 16 bits."""
    nodes = [
        helper.make_node('QuantizeLinear', ['photos', 'one', 'zero'], ['inputs']),
        helper.make_node('DequantizeLinear', ['inputs', 'one', 'zero'], ['read']),
        helper.make_node('DequantizeLinear', ['weights', 'one', 'signed_zero'], ['weights_read']),
        helper.make_node('Conv', ['read', 'weights_read'], ['sums']),
        helper.make_node('QuantizeLinear', ['sums', 'large', 'zero'], ['levels']),
        helper.make_node('DequantizeLinear', ['levels', 'large', 'zero'], ['scores']),
    ]
    values = {
        'one': np.float32(1),
        'large': np.float32(64 * 127),
        'zero': np.uint8(0),
        'signed_zero': np.int8(0),
        'weights': np.full((16, 64, 1, 1), 127, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        'sums',
        [helper.make_tensor_value_info('photos', TensorProto.FLOAT, ['N', 64, 4, 4])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', 'C', 'H', 'W'])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)
    assert np.unique(outputs(model, np.full((1, 64, 4, 4), 255, np.float32))).tolist() == [255 * 64 * 127]


@pytest.mark.parametrize('exactly', [True, False])
def test_sessions_ask_for_exact_kernels_where_they_are_needed(monkeypatch, exactly):
    monkeypatch.setattr('custom_modules.models.onnx_file.multiplies_8_bits_exactly', lambda: exactly)
    model = network(first=np.ones((8, 8, 1, 1)), depthwise=np.ones((8, 1, 1, 1)), head=np.ones((8, 8, 1, 1)))
    set_to = open_session(model.SerializeToString(), 'model').get_session_options()
    if exactly:
        with pytest.raises(RuntimeError):  # never set
            set_to.get_session_config_entry('session.x64quantprecision')
    else:
        assert set_to.get_session_config_entry('session.x64quantprecision') == '1'


@pytest.mark.parametrize(
    ('flags', 'exactly'), [('avx2 avx512_vnni', True), ('avx2 avx_vnni', True), ('avx2 avx512f', False), (None, False)]
)
def test_exact_kernels_are_asked_for_unless_the_processor_needs_none(tmp_path, flags, exactly):
    cpuinfo = tmp_path / 'cpuinfo'
    if flags:
        cpuinfo.write_text(f'flags\t\t: fpu {flags} sse\n')
    assert multiplies_8_bits_exactly(cpuinfo) is exactly
