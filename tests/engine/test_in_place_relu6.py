"""ReLU6 that remembers its output: torch's numbers to the bit, with less memory."""

import pytest
import torch
from torch import nn

from custom_modules.engine.in_place_relu6 import InPlaceReLU6, to_in_place_relu6
from custom_modules.engine.run_config import read_config
from custom_modules.engine.runner import TerseRunner


def trained(activation, values):
    """What activation and gradient make of values; a layer before, whose output may be changed."""
    values = values.clone().requires_grad_()
    output = activation(values * 1)
    (output * torch.arange(1, len(values) + 1)).sum().backward()
    return output.detach(), values.grad


def test_numbers_are_those_of_torch():
    infinity = float('inf')
    values = torch.tensor([-infinity, -1.0, -0.0, 0.0, 1e-45, 3.0, 5.9999995, 6.0, 7.0, infinity, float('nan')])
    activation = nn.ReLU6(inplace=True)
    expected = trained(activation, values)
    assert type(to_in_place_relu6(activation)) is InPlaceReLU6
    for found, wanted in zip(trained(activation, values), expected, strict=True):
        assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))


def test_the_input_is_changed_and_not_copied():
    photos = torch.randn(2, 8, 8, requires_grad=True) * 10
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.data_ptr()), pytest.fail):
        output = to_in_place_relu6(nn.ReLU6(inplace=True))(photos)
    assert output.data_ptr() == photos.data_ptr()
    assert saved == [output.data_ptr()]


@pytest.mark.parametrize('activation', [nn.ReLU6(), nn.Hardtanh(0, 6, inplace=True), nn.ReLU(inplace=True)], ids=str)
def test_other_activations_stay(activation):
    kind = type(activation)
    assert type(to_in_place_relu6(activation)) is kind


def test_a_view_of_another_tensor():
    found = []
    for activation in (nn.ReLU6(inplace=True), to_in_place_relu6(nn.ReLU6(inplace=True))):
        photos = torch.tensor([[-1.0, 3.0, 7.0, 5.0]], requires_grad=True)
        whole = photos * 1
        part = activation(whole[:, :3])
        (whole.sum() + 2 * part.sum()).backward()
        found.append(photos.grad.tolist())
    assert found == [[[0, 3, 0, 1]]] * 2


def test_told_not_to_it_leaves_the_input():
    activation = to_in_place_relu6(nn.ReLU6(inplace=True))
    activation.inplace = False
    before = torch.tensor([-1.0, 7.0], requires_grad=True) * 1
    assert activation(before).tolist() == [0, 6]
    assert before.tolist() == [-1, 7]


@pytest.mark.parametrize(
    ('device', 'options', 'taken'),
    [('cpu', {}, True), ('cuda', {}, False), ('cpu', {'efficient_conv_bn_eval': ['backbone']}, False)],
)
def test_trainings_on_a_cpu_take_it(device, options, taken, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr('custom_modules.engine.runner.get_device', lambda: device)
    cfg = read_config(str(tiny_config), options, None, str(tmp_path))
    cfg.experiment_name = tmp_path.name
    modules = TerseRunner.from_cfg(cfg).model.modules()
    assert any(type(module) is InPlaceReLU6 for module in modules) is taken
