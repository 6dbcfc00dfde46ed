"""Convolutions by im2col: the gradients are torch's own, for those layers alone that they are made for."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from custom_modules.engine import im2col_convolution, launch
from custom_modules.engine.im2col_convolution import Im2colConv2d, im2col_pays, to_im2col
from custom_modules.engine.launch import TerseRunner
from custom_modules.engine.run_config import read_config


def gradients(conv, photos, layout):
    """Of the sum of squares of what a convolution makes of photos: the photos' and the weights'."""
    photos = photos.to(memory_format=layout).requires_grad_()
    conv.zero_grad()
    conv(photos).square().sum().backward()
    return photos.grad, conv.weight.grad.clone()


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('together', [1, 3, 5])  # of five photos: one by one, with a rest, all
@pytest.mark.parametrize(
    ('kernel', 'stride', 'padding'),
    [(3, 1, 1), (3, 2, 1), (3, 2, 0), (7, 2, 3), ((1, 3), (1, 2), (0, 1)), ((5, 2), (3, 1), (2, 0)), (2, 3, 0)],
)
def test_gradients_are_those_of_torch(kernel, stride, padding, together, layout, monkeypatch):
    conv = nn.Conv2d(16, 6, kernel, stride, padding, bias=False).double().to(memory_format=layout)
    photos = torch.randn(5, 16, 13, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = conv(photos)[0, 0].numel()
    expected = gradients(conv, photos, layout)
    monkeypatch.setattr(im2col_convolution, 'PATCHES', together * places * conv.weight[0].numel())
    assert type(to_im2col(conv)) is Im2colConv2d
    torch.testing.assert_close(gradients(conv, photos, layout), expected)


@pytest.mark.parametrize('trained', ['photos', 'weight', 'neither'])
def test_only_what_is_asked_for_is_computed(trained, monkeypatch):
    conv = to_im2col(nn.Conv2d(16, 4, 3, bias=False)).requires_grad_(trained == 'weight')
    photos = torch.randn(2, 16, 5, 5, requires_grad=trained == 'photos')
    if trained != 'weight':
        monkeypatch.setattr(im2col_convolution, 'weight_gradient', pytest.fail)
    output = conv(photos).sum()
    assert output.requires_grad is (trained != 'neither')
    if output.requires_grad:
        output.backward()
    assert [photos.grad is not None, conv.weight.grad is not None] == [trained == 'photos', trained == 'weight']


@pytest.mark.parametrize(
    'settings',
    [
        {'in_channels': 3},
        {'kernel_size': 1},
        {'bias': True},
        {'groups': 16},
        {'dilation': 2},
        {'padding': 'same'},
        {'padding': 1, 'padding_mode': 'reflect'},
    ],
    ids=str,
)
def test_other_convolutions_stay(settings):
    conv = nn.Conv2d(**{'in_channels': 16, 'out_channels': 16, 'kernel_size': 3, 'bias': False, **settings})
    assert type(to_im2col(conv)) is nn.Conv2d


@pytest.mark.parametrize(
    ('name', 'count'), [('resnet18', 16), ('resnet50', 16), ('mobilenetv2', 0), ('mobilenetv3', 0)]
)
def test_it_is_for_resnets(name, count):
    model = MODELS.build(read_config(f'configs/flower_{name}.py', {}, None, None).model)
    names = list(model.state_dict())
    assert sum(type(module) is Im2colConv2d for module in to_im2col(model).modules()) == count
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    ('device', 'processor', 'pays'),
    [('cpu', 'AVX2', True), ('cpu', 'AVX512', False), ('cpu', 'DEFAULT', False), ('cuda', 'AVX2', False)],
)
def test_where_it_pays(device, processor, pays, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: processor)
    assert im2col_pays(device) is pays


@pytest.mark.parametrize('pays', [True, False])
def test_trainings_take_it_where_it_pays(pays, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, 'im2col_pays', lambda device: pays)
    cfg = read_config(str(tiny_config), {}, None, str(tmp_path))
    cfg.experiment_name = f'{tmp_path.name}_{pays}'
    cfg.model.backbone = {'type': 'ResNet', 'depth': 18}
    cfg.model.head.in_channels = 512
    modules = TerseRunner.from_cfg(cfg).model.modules()
    assert any(type(module) is Im2colConv2d for module in modules) is pays
