"""The config of a measured run: the size is set wherever it stands, and only what is not timed is left out."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from custom_modules.benchmarks.measured_config import (
    NOT_TIMED,
    image_size,
    measured_config,
    resize,
    train_only,
    upstream_pipeline,
)
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'


def pipeline():
    return [
        {'type': 'LoadImageFromFile'},
        {'type': 'ResizeEdge', 'scale': 256, 'edge': 'short'},
        {'type': 'CenterCrop', 'crop_size': 224},
        {'type': 'PackInputs'},
    ]


def test_the_edge_grows_with_the_crop():
    steps = pipeline()
    resize(steps, 112)
    assert (steps[1]['scale'], steps[2]['crop_size'], image_size(steps)) == (128, 112, 112)


@pytest.mark.parametrize(('step', 'size'), [({'type': 'RandomResizedCrop', 'scale': 224}, 64)])
def test_a_random_crop(step, size):
    steps = [step, {'type': 'PackInputs'}]
    resize(steps, size)
    assert image_size(steps) == size


def test_a_pipeline_without_a_size():
    assert image_size([{'type': 'PackInputs'}]) == 0


def test_upstreams_transforms_in_the_place_of_ours():
    steps = [{'type': 'LoadRandomResizedCrop', 'scale': 224, 'flip_prob': 0.5}, {'type': 'PackPhoto'}]
    assert upstream_pipeline(steps) == [
        {'type': 'LoadImageFromFile'},
        {'type': 'RandomResizedCrop', 'scale': 224},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'PackInputs'},
    ]


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_every_config_has_a_stock_side(path):
    """Upstream's transforms can be built, and none of ours that it has one for is left."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        steps = upstream_pipeline(loader.dataset.pipeline)
        for step in steps:
            TRANSFORMS.build(step)
        assert not {step['type'] for step in steps} & {'LoadPhoto', 'LoadRandomResizedCrop', 'PackPhoto'}


def task(config, folder, side):
    return {
        'config': str(config),
        'options': ['train_cfg.max_epochs=3'],
        'data_root': None,
        'folder': str(folder),
        'size': 48,
        'batch_size': 4,
        'workers': None,
        'side': side,
    }


@pytest.mark.parametrize('side', ['stock', 'ours'])
def test_what_is_trained(tiny_config, tmp_path, side):
    cfg = measured_config(task(tiny_config, tmp_path, side))
    assert isinstance(cfg, Config)
    assert cfg.train_dataloader.batch_size == 4
    assert image_size(cfg.train_dataloader.dataset.pipeline) == 48
    assert image_size(cfg.test_dataloader.dataset.pipeline) == 48
    assert not cfg.train_dataloader.persistent_workers
    cfg.default_hooks['linear_probe'] = {'type': 'LinearProbeHook'}
    cfg.default_hooks['early_stopping'] = {'type': 'ResumableEarlyStoppingHook'}
    train_only(cfg, iterations=7)
    hooks = [hook['type'] for hook in cfg.custom_hooks]
    assert 'SeedHook' in hooks
    assert not {*NOT_TIMED, 'BestCheckpointHook'} & {*hooks}
    assert cfg.val_dataloader is None
    assert [name for name, hook in cfg.default_hooks.items() if hook is None] == ['checkpoint']
    assert cfg.train_cfg.max_epochs == 7


@pytest.mark.parametrize('side', ['stock', 'ours'])
def test_a_config_that_does_not_validate(tiny_config, tmp_path, side):
    config = tmp_path / 'unseen.py'
    config.write_text(f'_base_ = {str(tiny_config)!r}\nval_cfg = val_dataloader = val_evaluator = None\n')
    with pytest.raises(InputError, match=r'^val_dataloader: the config has none'):
        measured_config(task(config, tmp_path, side))
