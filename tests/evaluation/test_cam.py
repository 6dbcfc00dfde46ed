"""Grad-CAM on each backbone: against the map's own formula where the head is linear."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
cam = pytest.importorskip('custom_modules.evaluation.cam')

PHOTOS = torch.randint(0, 256, (3, 3, 96, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


DATASET = [{'inputs': photo, 'data_samples': DataSample()} for photo in PHOTOS]


def build(name):
    cfg = Config.fromfile(f'configs/{name}.py')
    cfg.model.backbone.pop('init_cfg')
    torch.manual_seed(0)
    model = MODELS.build({**cfg.model, 'data_preprocessor': {'type': 'ClsDataPreprocessor', **cfg.data_preprocessor}})
    model.train()
    backbone = model.backbone
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch gives the statistics that fit the random weights
    with torch.no_grad():
        backbone(torch.randn(4, 3, 96, 96))
        for weight in model.head.parameters():
            weight.normal_()
    return model.eval()


@pytest.mark.parametrize(
    'name', ['flower_mobilenetv3', 'flower_resnet18', 'flower_deit_tiny', 'flower_convnext_v2_atto']
)
def test_maps_of_each_backbone(name):
    model = build(name)
    inside = name in ('flower_deit_tiny', 'flower_convnext_v2_atto')  # their last output has no places
    wanted = {2: (1, 3), 0: (4,), 1: (0, 2)}
    explained = list(cam.explain(model, DATASET, wanted))
    assert [found.index for found in explained] == [2, 0, 1]
    for found in explained:
        assert tuple(found.maps) == wanted[found.index]
        assert np.array_equal(found.picture, PHOTOS[found.index].permute(1, 2, 0).numpy())
        data = model.data_preprocessor({'inputs': [PHOTOS[found.index]], 'data_samples': None})
        with torch.no_grad():
            features = model.backbone(data['inputs'])[-1][0]
        for label, heat in found.maps.items():
            assert heat.shape == ((96, 64) if inside else features.shape[1:])
            assert 0 <= heat.min() <= heat.max() <= 1
            if name == 'flower_resnet18':  # behind global pooling and a linear layer, the weights are the layer's
                weights = model.head.fc.weight[label].detach()
                expected = np.maximum((weights[:, None, None] * features).sum(0).numpy(), 0)
                expected = (expected - expected.min()) / max(np.ptp(expected), 1e-7)
                assert heat == pytest.approx(expected, abs=1e-3)
    assert any(heat.max() > 0.9 for found in explained for heat in found.maps.values())
    assert all(weight.grad is None for weight in model.parameters())


def test_wrapped_models_and_backbones_without_a_map():
    model = build('flower_resnet18')
    wrapped = MODELS.build({'type': 'AverageClsScoreTTA', 'module': model})
    plain, same = (next(cam.explain(one, DATASET, {0: (1,)})) for one in (model, wrapped))
    assert np.array_equal(plain.maps[1], same.maps[1])
    # Neither a transformer's class token nor a single place is a map.
    for change in (lambda features: features.mean((2, 3)), lambda features: features.mean((2, 3), keepdim=True)):
        hook = model.backbone.register_forward_hook(
            lambda module, inputs, output, change=change: (change(output[-1]),)
        )
        assert next(cam.explain(model, DATASET, {0: (1,)})).maps is None
        hook.remove()
    bare = torch.nn.Module()  # an exported model
    bare.data_preprocessor = model.data_preprocessor
    assert next(cam.explain(bare, DATASET, {0: (1,)})).maps is None


def test_heat_colours_only_the_places_of_the_map():
    picture = np.full((40, 20, 3), (200, 100, 50), np.uint8)
    heat = cam.heat(picture, np.float32([[1, 0], [0, 0]]), 20)
    assert heat.shape == (20, 10, 3)
    assert np.ptp(heat[-1, -1]) <= 1  # grey
    assert np.ptp(heat[0, 0].astype(int)) > 50


def test_tokens_lie_on_the_grid_of_the_image():
    tokens = torch.arange(2 + 3 * 2).view(1, -1, 1)
    assert cam._as_map(tokens, extra=2, ratio=96 / 64).tolist() == [[[[2, 3], [4, 5], [6, 7]]]]
