"""Rounding to 8 bits: what it leaves as it was, and that no processor computes it otherwise."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from custom_modules.inference.onnx_file import Metadata, multiplies_8_bits_exactly, open_session
from custom_modules.inference.onnx_quantization import quantize, round_weights
from custom_modules.inference.preprocessing import Preprocessing


def convolution(weights, bias, groups=1):
    """A model of one convolution on (N, 8, 4, 4) photos; ``bias`` may be None."""
    values = {'weights': weights} if bias is None else {'weights': weights, 'bias': bias}
    graph = helper.make_graph(
        [
            helper.make_node('Cast', ['photos'], ['inputs'], to=TensorProto.FLOAT),
            helper.make_node('Conv', ['inputs', *values], ['scores'], group=groups),
        ],
        'convolution',
        [helper.make_tensor_value_info('photos', TensorProto.UINT8, ['N', 8, 4, 4])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', 'C', 'H', 'W'])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)


def outputs(model, photos):
    return open_session(model.SerializeToString(), 'model').run(None, {'photos': photos})[0]


@pytest.mark.parametrize(('groups', 'biased'), [(1, True), (2, True), (4, True), (1, False)])
def test_rounded_weights_keep_the_mean_of_each_channel(groups, biased):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 8 // groups, 1, 1)).astype(np.float32)
    weights[3] = 0  # a channel that nothing is left of
    before_bias = rng.normal(size=8).astype(np.float32) * biased
    model = convolution(weights, before_bias if biased else None, groups)
    photos = rng.integers(0, 256, (5, 8, 4, 4), np.uint8)
    before = outputs(model, photos)
    round_weights(model, list(photos))
    onnx.checker.check_model(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rounded, bias = (stored[name] for name in model.graph.node[1].input[1:])
    levels = rounded / np.maximum(abs(weights).max((1, 2, 3), keepdims=True), 1e-9) * 127
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    after = outputs(model, photos)
    means = (0, 2, 3)
    np.testing.assert_allclose(after.mean(means), before.mean(means), atol=1e-4)
    uncorrected = after - (bias - before_bias)[None, :, None, None]
    assert abs(uncorrected.mean(means) - before.mean(means)).max() > 0.1


def test_a_quantized_model_keeps_the_mean_of_each_channel():
    rng = np.random.default_rng(0)
    # Small weights beside a large one: all rounded to the same side.
    weights = np.full((8, 8, 1, 1), 0.0049, np.float32)
    weights[:, 0] = 1
    model = convolution(weights, np.zeros(8, np.float32))
    photos = rng.integers(0, 256, (5, 8, 4, 4), np.uint8)
    content = quantize(model.SerializeToString(), list(photos), Metadata(['rose'], Preprocessing((4, 4))))
    found = outputs(onnx.load_from_string(content), photos)
    step = outputs(model, photos).max() / 255
    np.testing.assert_allclose(found.mean((0, 2, 3)), outputs(model, photos).mean((0, 2, 3)), atol=step)


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
    monkeypatch.setattr('custom_modules.inference.onnx_file.multiplies_8_bits_exactly', lambda: exactly)
    model = convolution(np.ones((8, 8, 1, 1), np.float32), None)
    set_to = open_session(model.SerializeToString(), 'model').get_session_options()
    if exactly:
        with pytest.raises(RuntimeError):  # never set
            set_to.get_session_config_entry('session.x64quantprecision')
    else:
        assert set_to.get_session_config_entry('session.x64quantprecision') == '1'


@pytest.mark.parametrize('spin', [True, False])
def test_threads_spin_if_told_so(spin):
    model = convolution(np.ones((8, 8, 1, 1), np.float32), None)
    set_to = open_session(model.SerializeToString(), 'model', spin).get_session_options()
    assert set_to.get_session_config_entry('session.intra_op.allow_spinning') == str(int(spin))


@pytest.mark.parametrize(
    ('flags', 'exactly'), [('avx2 avx512_vnni', True), ('avx2 avx_vnni', True), ('avx2 avx512f', False), (None, False)]
)
def test_exact_kernels_are_asked_for_unless_the_processor_needs_none(tmp_path, flags, exactly):
    cpuinfo = tmp_path / 'cpuinfo'
    if flags:
        cpuinfo.write_text(f'flags\t\t: fpu {flags} sse\n')
    assert multiplies_8_bits_exactly(cpuinfo) is exactly
