"""Rounding to 8 bits: what it leaves as it was, and that no processor computes it otherwise."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from custom_modules.inference.onnx_quantization import MOST_SCALED, centre, equalize, quantize, round_weights
from custom_modules.models.onnx_file import Metadata, multiplies_8_bits_exactly, open_session
from custom_modules.models.preprocessing import Preprocessing


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
    model = network(
        ('Conv', 'inputs weights', 'a', {}), ('Conv', 'a head', 'scores', {}),
        weights=weights, head=np.eye(8)[:, :, None, None],
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    content = quantize(model.SerializeToString(), list(photos), Metadata(['rose'], Preprocessing((6, 6))))
    found = outputs(onnx.load_from_string(content), photos)
    step = outputs(model, photos).max() / 255
    np.testing.assert_allclose(found.mean((0, 2, 3)), outputs(model, photos).mean((0, 2, 3)), atol=step)


def network(*nodes, **weights):
    """A model of nodes (kind, inputs, output, attributes) from ``inputs``, (N, 8, 6, 6), to ``scores``."""
    made = [helper.make_node('Cast', ['photos'], ['inputs'], to=TensorProto.FLOAT)]
    made += [helper.make_node(kind, reads.split(), [gives], gives, **about) for kind, reads, gives, about in nodes]
    values = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    graph = helper.make_graph(
        made,
        'network',
        [helper.make_tensor_value_info('photos', TensorProto.UINT8, ['N', 8, 6, 6])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', 'C', 'H', 'W'])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)


def inner(model, name, photos):
    """A tensor, (N, C, H, W)."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=name))
    return open_session(shown.SerializeToString(), 'model').run([name], {'photos': photos})[0]


def reaches(model, name, photos):
    """The largest absolute value of each channel of a tensor."""
    return abs(inner(model, name, photos)).max((0, 2, 3))


def means(model, name, photos):
    """The mean of each channel of a tensor."""
    return inner(model, name, photos).mean((0, 2, 3))


PADDED = {'pads': [1, 1, 1, 1]}
# Factors of a tensor's channels: one beyond the limit to scaling, one dead.
UNEVEN = np.array([1, 2, 0.5, 4, 0.25, 1, 0.01, 0])[:, None, None, None]


def weights_of(rng, *shape):
    return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))


def small_networks():
    rng = np.random.default_rng(0)
    first, second = weights_of(rng, 8, 8, 1, 1) * UNEVEN / 100, weights_of(rng, 8, 8, 3, 3)
    depthwise, bias = weights_of(rng, 8, 1, 3, 3), rng.normal(size=8) / 10
    clip = {'zero': 0, 'six': 6}
    conv = {'first': first, 'bias': bias * (UNEVEN.ravel() > 0)}
    return {
        'depthwise': network(
            ('Conv', 'inputs first bias', 'a', {}),
            ('Clip', 'a zero six', 'b', {}),
            ('Conv', 'b depthwise', 'scores', {'group': 8, **PADDED}),
            depthwise=depthwise, **conv, **clip,
        ),
        'linear': network(
            ('Conv', 'inputs first bias', 'b', {}), ('Conv', 'b second', 'scores', PADDED), second=second, **conv
        ),
        'two groups': network(
            ('Conv', 'inputs first bias', 'b', {}),
            ('Conv', 'b second', 'scores', {'group': 2, **PADDED}),
            second=second[:, :4], **conv,
        ),
        'residual': network(
            ('Conv', 'inputs first bias', 'a', {}),
            ('Relu', 'a', 'r', {}),
            ('MaxPool', 'r', 'p', {'kernel_shape': [2, 2]}),
            ('Conv', 'p second', 'c', PADDED),
            ('Add', 'c p', 's', {}),
            ('Relu', 's', 'b', {}),
            ('Conv', 'b third', 'scores', {}),
            second=second * UNEVEN, third=weights_of(rng, 3, 8, 1, 1), **conv,
        ),
    }  # fmt: skip


@pytest.mark.parametrize('kind', small_networks())
def test_equalized_channels_use_more_of_their_tensor_and_the_model_computes_the_same(kind):
    model = small_networks()[kind]
    photos = np.random.default_rng(1).integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, reached = outputs(model, photos), reaches(model, 'b', photos)
    equalize(model, list(photos))
    onnx.checker.check_model(model)
    np.testing.assert_allclose(outputs(model, photos), before, atol=1e-4 * abs(before).max())
    after, alive = reaches(model, 'b', photos), reached > 0
    grown, missing = after[alive] / reached[alive], reached.max() / reached[alive]
    if kind == 'residual':  # scaled by the reach of the pooled channels too
        assert after[alive].min() / after.max() > 2 / missing.max()
    else:
        np.testing.assert_allclose(
            grown, np.minimum(missing ** (1 if kind == 'depthwise' else 0.5), MOST_SCALED), rtol=1e-4
        )
        assert grown.max() > 2


def test_relu6_does_not_cut_what_the_photos_reach():
    """A sum makes a tensor wider than 6; its channels that went through ReLU6 may not be scaled beyond."""
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first', 'a', {}),
        ('Clip', 'a zero six', 'c', {}),
        ('Conv', 'inputs wide', 'w', {}),
        ('Add', 'c w', 'b', {}),
        ('Conv', 'b second', 'scores', {}),
        first=np.eye(8)[:, :, None, None] / 100, second=weights_of(rng, 8, 8, 1, 1),
        wide=np.diag([1, 0, 0, 0, 0, 0, 0, 0])[:, :, None, None], zero=0, six=6,
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, reached = outputs(model, photos), reaches(model, 'b', photos)
    equalize(model, list(photos))
    np.testing.assert_allclose(outputs(model, photos), before, atol=1e-4 * abs(before).max())
    scaled = np.sqrt(6 / reached[1:])
    np.testing.assert_allclose(reaches(model, 'b', photos)[1:] / reached[1:], scaled, rtol=1e-4)


@pytest.mark.parametrize(
    'between',
    [
        ('Sigmoid', 'a', 'b', {}),
        ('Clip', 'a minus six', 'b', {}),
        ('Clip', 'a zero', 'b', {}),
        ('Add', 'a six', 'b', {}),
        ('Add', 'a inputs', 'b', {}),
    ],
)
@pytest.mark.parametrize('change', [centre, equalize])
def test_channels_that_something_else_reads_or_writes_stay(between, change):
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first', 'a', {}),
        between,
        ('Conv', 'b second', 'scores', {}),
        first=weights_of(rng, 8, 8, 1, 1) * UNEVEN, second=weights_of(rng, 8, 8, 1, 1), zero=0, minus=-1, six=6,
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, kept = outputs(model, photos), inner(model, 'a', photos)
    change(model, list(photos))
    np.testing.assert_array_equal(inner(model, 'a', photos), kept)
    np.testing.assert_array_equal(outputs(model, photos), before)


@pytest.mark.parametrize('change', [centre, equalize])
def test_channels_that_something_else_reads_too_stay(change):
    rng = np.random.default_rng(0)
    first, second = weights_of(rng, 8, 8, 1, 1) * UNEVEN, weights_of(rng, 8, 8, 1, 1)
    branch = network(
        ('Conv', 'inputs first', 'a', {}),
        ('Conv', 'a second', 'b', {}),
        ('Sigmoid', 'a', 'gate', {}),
        ('Mul', 'b gate', 'scores', {}),
        first=first, second=second,
    )  # fmt: skip
    shown = network(
        ('Conv', 'inputs first', 'a', {}), ('Conv', 'a second', 'scores', {}), first=first, second=second
    )  # fmt: skip
    shown.graph.output.append(helper.make_tensor_value_info('a', TensorProto.FLOAT, ['N', 8, 6, 6]))
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    for model in (branch, shown):
        found = [open_session(model.SerializeToString(), 'model').run(None, {'photos': photos})]
        change(model, list(photos))
        found.append(open_session(model.SerializeToString(), 'model').run(None, {'photos': photos}))
        for kept, now in zip(*found, strict=True):
            np.testing.assert_array_equal(now, kept)


def test_a_weight_that_convolutions_share_is_scaled_for_one_alone():
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first', 'a', {}),
        ('Conv', 'a shared', 'b', {}),
        ('Sigmoid', 'b', 'c', {}),
        ('Conv', 'c shared', 'scores', {}),
        first=weights_of(rng, 8, 8, 1, 1) * UNEVEN / 100, shared=weights_of(rng, 8, 8, 1, 1),
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, reached = outputs(model, photos), reaches(model, 'a', photos)
    equalize(model, list(photos))
    np.testing.assert_allclose(outputs(model, photos), before, atol=1e-5 * abs(before).max())
    assert (reaches(model, 'a', photos) / np.maximum(reached, 1e-9)).max() > 2


FAR_APART = np.array([0, 20, -20, 5, 0, 0, -5, 0])


@pytest.mark.parametrize(
    ('middle', 'last', 'shifted'),
    [
        ([], {}, True),
        ([('Add', 'a a', 'b', {})], {}, True),
        ([('Conv', 'a second', 'c', {}), ('Add', 'a c', 'b', {})], {}, True),
        ([('Conv', 'inputs one', 'c', {}), ('Add', 'a c', 'b', {})], {}, True),
        ([], {'pads': [0, 0, 0, 0], 'auto_pad': 'NOTSET'}, True),
        ([], PADDED, False),
        ([], {'pads': [0, 0, 0, 1]}, False),
        ([], {'auto_pad': 'SAME_UPPER'}, False),
        ([], {'auto_pad': 'SAME_LOWER'}, False),
        ([('Conv', 'a third', 'c', PADDED), ('Add', 'a a', 'b', {})], {}, False),
        ([('Conv', 'a second', 'c', {}), ('Add', 'a c', 'b', {})], PADDED, False),
        ([('Relu', 'a', 'b', {})], {}, False),
        ([('MaxPool', 'a', 'b', {'kernel_shape': [2, 2]})], {}, False),
    ],
)
def test_channels_get_a_mean_of_zero_unless_padded_or_cut(middle, last, shifted):
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first far', 'a', {}),
        *middle,
        ('Conv', 'b third' if middle else 'a third', 'scores', last),
        first=weights_of(rng, 8, 8, 1, 1) / 100, far=FAR_APART, second=weights_of(rng, 8, 8, 1, 1),
        third=weights_of(rng, 3, 8, 3, 3), one=weights_of(rng, 1, 8, 1, 1) / 100,
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, names = outputs(model, photos), ['a', 'b'] if middle else ['a']
    far_apart = [means(model, name, photos) for name in names]
    centre(model, list(photos))
    onnx.checker.check_model(model)
    np.testing.assert_allclose(outputs(model, photos), before, atol=1e-5 * abs(before).max())
    for name, kept in zip(names, far_apart, strict=True):
        assert abs(kept).max() > 5
        if shifted:
            np.testing.assert_allclose(means(model, name, photos), 0, atol=1e-4)
        else:
            np.testing.assert_array_equal(means(model, name, photos), kept)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('factor', [0, 1e-42])
def test_a_dead_tensor_and_denormal_channels_are_no_trouble(factor):
    rng = np.random.default_rng(0)
    factors = np.full(8, factor)
    factors[0] = factor > 0
    model = network(
        ('Conv', 'inputs first', 'a', {}),
        ('Conv', 'a depthwise', 'scores', {'group': 8}),
        first=weights_of(rng, 8, 8, 1, 1) * factors[:, None, None, None], depthwise=weights_of(rng, 8, 1, 3, 3),
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before = outputs(model, photos)
    equalize(model, list(photos))
    np.testing.assert_allclose(outputs(model, photos), before, atol=1e-5 * abs(before).max())


def test_a_sum_of_one_channel_with_many_is_not_scaled():
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first', 'a', {}),
        ('Conv', 'inputs one', 'o', {}),
        ('Add', 'a o', 'b', {}),
        ('Conv', 'b second', 'scores', {}),
        first=weights_of(rng, 8, 8, 1, 1) * UNEVEN, one=weights_of(rng, 1, 8, 1, 1),
        second=weights_of(rng, 8, 8, 1, 1),
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before = outputs(model, photos)
    equalize(model, list(photos))
    np.testing.assert_array_equal(outputs(model, photos), before)


@pytest.mark.parametrize(
    ('change', 'factors', 'biases', 'between', 'pads'),
    [
        ('equalize', [8, 1, 1, 1, 1, 1, 1, 1], 0, ('Clip', 'a zero six', 'b', {}), PADDED),
        ('centre', 1, FAR_APART, ('Add', 'a a', 'b', {}), {}),
    ],
)
def test_channels_lose_less_in_8_bits_when_changed(monkeypatch, change, factors, biases, between, pads):
    rng = np.random.default_rng(0)
    factors = np.broadcast_to(factors, 8)[:, None, None, None]
    model = network(
        ('Conv', 'inputs first biases', 'a', {}),
        between,
        ('Conv', 'b depthwise', 'c', {'group': 8, **pads}),
        ('Conv', 'c head', 'scores', {}),
        first=weights_of(rng, 8, 8, 1, 1) * factors / 300, biases=np.broadcast_to(biases, 8),
        depthwise=weights_of(rng, 8, 1, 3, 3) / factors, head=np.eye(8)[:, :, None, None], zero=0, six=6,
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    before, errors = outputs(model, photos), []
    for changing in (True, False):
        if not changing:
            monkeypatch.setattr(f'custom_modules.inference.onnx_quantization.{change}', lambda model, photos: None)
        content = quantize(model.SerializeToString(), list(photos), Metadata(['rose'], Preprocessing((6, 6))))
        errors.append(abs(outputs(onnx.load_from_string(content), photos) - before).mean())
    assert errors[0] < errors[1] / 1.5


@pytest.mark.parametrize(
    'head',
    [
        [('Conv', 'a head', 'scores', {})],
        [('MatMul', 'a columns', 'm', {}), ('Add', 'm bias', 'l', {}), ('Softmax', 'l', 'scores', {'axis': 1})],
        [('Conv', 'a head', 'c', {}), ('GlobalAveragePool', 'c', 'l', {}), ('Softmax', 'l', 'scores', {'axis': 1})],
        [('Conv', 'a head', 'c', {}), ('Conv', 'a second', 'd', {}), ('Add', 'c d', 'scores', {})],
    ],
)
def test_all_is_rounded_but_the_layer_that_gives_the_logits(head):
    rng = np.random.default_rng(0)
    model = network(
        ('Conv', 'inputs first', 'f', {}), ('Relu', 'f', 'r', {}), ('Conv', 'r hidden', 'a', {}), *head,
        columns=weights_of(rng, 6, 6), bias=1,
        **{name: weights_of(rng, 8, 8, 1, 1) for name in ('first', 'hidden', 'head', 'second')},
    )  # fmt: skip
    photos = rng.integers(0, 256, (5, 8, 6, 6), np.uint8)
    content = quantize(model.SerializeToString(), list(photos), Metadata(['rose'], Preprocessing((6, 6))))
    nodes = onnx.load_from_string(content).graph.node
    kinds = {output: node.op_type for node in nodes for output in node.output}
    rounded = {node.name: kinds.get(node.input[1]) for node in nodes if node.op_type in ('Conv', 'MatMul')}
    layers = [output for kind, _, output, _ in head if kind in ('Conv', 'MatMul')]
    assert rounded == {'f': 'DequantizeLinear', 'a': 'DequantizeLinear', **dict.fromkeys(layers)}
    assert kinds['scores'] == head[-1][0]  # not DequantizeLinear


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
    model = convolution(np.ones((8, 8, 1, 1), np.float32), None)
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
