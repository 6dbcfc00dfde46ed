"""Weight gradients by matrix products: they are torch's own, for those layers alone that they are made for."""

import copy
import io

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from custom_modules.engine import gemm_gradients
from custom_modules.engine.gemm_gradients import GemmGradientConv2d, gemm_gradients_pay, to_gemm_gradients
from custom_modules.engine.run_config import read_config
from custom_modules.engine.runner import TerseRunner


def gradients(conv, photos, layout):
    """Of the sum of squares of what a convolution makes of photos: the photos' and the weights'."""
    photos = photos.to(memory_format=layout).requires_grad_()
    conv.zero_grad()
    conv(photos).square().sum().backward()
    return photos.grad, conv.weight.grad.clone()


@pytest.mark.parametrize('size', [(13, 10), (10, 13)])
@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('values', [1, 200_000, 2**23])  # five photos one by one; two by two, most; together
@pytest.mark.parametrize(
    ('kernel', 'stride', 'padding'),
    [
        (3, 1, 1),
        (3, 1, 0),
        (3, 1, (2, 0)),
        (3, 2, 1),
        (3, 2, 0),
        (7, 2, 3),
        ((1, 3), (1, 2), (0, 1)),
        ((5, 2), (3, 1), (2, 0)),
        (2, 3, 0),
    ],
)
def test_gradients_are_those_of_torch(kernel, stride, padding, values, layout, size, monkeypatch):
    conv = nn.Conv2d(64, 72, kernel, stride, padding, bias=False).double().to(memory_format=layout)
    photos = torch.randn(5, 64, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = gradients(conv, photos, layout)
    monkeypatch.setattr(gemm_gradients, 'VALUES', values)
    assert type(to_gemm_gradients(conv)) is GemmGradientConv2d
    torch.testing.assert_close(gradients(conv, photos, layout), expected)


def test_three_by_three_is_not_left_to_im2col(monkeypatch):
    monkeypatch.setattr(gemm_gradients, '_by_im2col', pytest.fail)
    to_gemm_gradients(nn.Conv2d(64, 64, 3, padding=1, bias=False))(torch.randn(2, 64, 5, 5)).sum().backward()


class Operators(TorchDispatchMode):
    """Notes the operators that run within."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.seen.append(operator)
        return operator(*args, **(kwargs or {}))


def test_only_what_is_asked_for_is_computed(monkeypatch):
    conv = to_gemm_gradients(nn.Conv2d(64, 64, 3, bias=False))
    photos = torch.randn(2, 64, 5, 5)
    with Operators() as operators:
        conv(photos).sum().backward()
    assert torch.ops.aten.convolution_backward.default not in operators.seen
    monkeypatch.setattr(gemm_gradients, 'weight_gradient', pytest.fail)
    conv.requires_grad_(False)
    conv(photos.requires_grad_()).sum().backward()
    assert photos.grad is not None


@pytest.mark.parametrize(
    ('stride', 'values'),
    [
        (1, 9 * 16 * (64 + 72)),  # for each of 9 tiles, 4 x 4 of the input's channels and of the output's
        (2, 9 * 9 * 64),  # for each of 9 places, a patch of 3 x 3
    ],
)
def test_no_more_is_laid_out_at_once_than_allowed(stride, values, monkeypatch):
    conv = to_gemm_gradients(nn.Conv2d(64, 72, 3, stride, 1, bias=False))
    photos = torch.randn(5, 64, 5, 6, requires_grad=True)
    monkeypatch.setattr(gemm_gradients, 'VALUES', 2 * values)
    with Operators() as operators:
        conv(photos).sum().backward()
    products = {1: torch.ops.aten.baddbmm_.default, 2: torch.ops.aten.addmm_.default}
    assert operators.seen.count(products[stride]) == 3  # two photos, two, one


def test_it_can_be_traced_without_gradients():
    conv = to_gemm_gradients(nn.Conv2d(64, 64, 3, bias=False))
    photos = torch.randn(2, 64, 5, 5)
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(conv, photos), io.BytesIO())


def test_a_bias_given_later_counts():
    model = nn.Sequential(to_gemm_gradients(nn.Conv2d(64, 64, 3, bias=False)), nn.BatchNorm2d(64)).eval()
    nn.init.uniform_(model[1].bias, 1, 2)
    photos = torch.randn(2, 64, 5, 5)
    torch.testing.assert_close(fuse_conv_bn(copy.deepcopy(model))(photos), model(photos))


def test_autocast_is_left_to_torch():
    conv, photos = nn.Conv2d(64, 64, 3, bias=False), torch.randn(2, 64, 5, 5)
    found = []
    for layer in (conv, to_gemm_gradients(copy.deepcopy(conv))):
        with torch.autocast('cpu', torch.bfloat16):
            output = layer(photos)
        output.float().sum().backward()
        found.append(layer.weight.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    'settings',
    [
        {'in_channels': 63},
        {'out_channels': 63},
        {'kernel_size': 1},
        {'bias': True},
        {'groups': 64},
        {'dilation': 2},
        {'padding': 'same'},
        {'padding': 1, 'padding_mode': 'reflect'},
    ],
    ids=str,
)
def test_other_convolutions_stay(settings):
    conv = nn.Conv2d(**{'in_channels': 64, 'out_channels': 64, 'kernel_size': 3, 'bias': False, **settings})
    assert type(to_gemm_gradients(conv)) is nn.Conv2d


@pytest.mark.parametrize(
    ('name', 'count'), [('resnet18', 16), ('resnet50', 16), ('mobilenetv2', 0), ('mobilenetv3', 0)]
)
def test_it_is_for_resnets(name, count):
    model = MODELS.build(read_config(f'configs/flower_{name}.py', {}, None, None).model)
    names = list(model.state_dict())
    assert sum(type(module) is GemmGradientConv2d for module in to_gemm_gradients(model).modules()) == count
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    ('device', 'processor', 'pays'),
    [('cpu', 'AVX2', True), ('cpu', 'AVX512', False), ('cpu', 'DEFAULT', False), ('cuda', 'AVX2', False)],
)
def test_where_it_pays(device, processor, pays, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: processor)
    assert gemm_gradients_pay(device) is pays


@pytest.mark.parametrize(
    ('processor', 'options', 'pays'),
    [('AVX2', {}, True), ('AVX512', {}, False), ('AVX2', {'efficient_conv_bn_eval': ['backbone']}, False)],
)
def test_trainings_take_it_where_it_pays(processor, options, pays, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: processor)
    cfg = read_config(str(tiny_config), options, None, str(tmp_path))
    cfg.experiment_name = tmp_path.name
    cfg.model.backbone = {'type': 'ResNet', 'depth': 18}
    cfg.model.head.in_channels = 512
    modules = TerseRunner.from_cfg(cfg).model.modules()
    assert any(type(module) is GemmGradientConv2d for module in modules) is pays
