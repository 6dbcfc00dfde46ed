"""Backbones besides MobileNetV2: those that load weights of their own, and every tool on one from the matrix."""

import importlib.util
import re
from pathlib import Path

import huggingface_hub
import pytest
import timm

ROOT = Path(__file__).parents[2]
TIMM = """
_base_ = [{base!r}]
model = dict(_delete_=True, type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
    backbone=dict(type='TIMMBackbone', pretrained=True, {backbone}),
    head=dict(type='LinearClsHead', num_classes=5, in_channels={features}))
"""
TRANSFORMER = "model_name='test_vit', features_only=True, out_indices=[-1], img_size=32"


@pytest.fixture(params=[("model_name='test_efficientnet'", 256), (TRANSFORMER, 64)], ids=['cnn', 'vit'])
def timm_config(request, tiny_config, tmp_path):
    """The tiny config with a small backbone of timm."""
    config = tmp_path / 'timm.py'
    backbone, features = request.param
    config.write_text(TIMM.format(base=str(tiny_config), backbone=backbone, features=features))
    return config


def test_weights_of_timm_are_loaded_by_a_new_run_alone(timm_config, data, call, tmp_path, monkeypatch):
    """Everything later takes them from the checkpoint, without a network."""
    create, asked = timm.create_model, []

    def offline(**settings):
        asked.append(settings.pop('pretrained'))
        return create(**settings, pretrained=False)

    monkeypatch.setattr(timm, 'create_model', offline)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    done = call('train', timm_config, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1')
    assert done.code == 0, done.err
    assert re.search(r'weights +test_\w+, loaded by timm', done.out)
    assert all(asked)
    monkeypatch.setattr(timm, 'create_model', create)  # fails if asked for weights
    for command in (
        ('train', timm_config, '--work-dir', 'run', '--resume'),
        ('test', timm_config, 'run/best.pth'),
        ('predict', data / 'val', '--checkpoint', 'run/best.pth'),
        ('publish', 'run/best.pth', '--out', 'published'),
    ):
        done = call(*command)
        assert done.code == 0, done
    assert 'feature_info' not in done.out


def test_weights_that_timm_cannot_load_are_named(timm_config, call, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    error = call('train', timm_config, '--work-dir', 'run').error
    assert 'model.backbone: timm cannot load test_' in error
    assert 'fetch it once with a network' in error
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_the_matrix_of_tools_on_one_backbone(tmp_path):
    spec = importlib.util.spec_from_file_location('backbones', ROOT / 'docs/backbones.py')
    backbones = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backbones)
    page = tmp_path / 'backbones.md'
    arguments = '--configs', 'flower_mobilenetv3_small', '--work-dir', str(tmp_path / 'runs'), '--out', str(page)
    assert backbones.main(arguments) == 0
    assert '| flower_mobilenetv3_small | ✓ |' in page.read_text()
