"""Every config can be read and built, and has the settings of the reports."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.engine.run_config import read_config

MMPRETRAIN = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/models'
CONFIGS = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
ABLATIONS = sorted(path.stem for path in CONFIGS.glob('ablations/*.py'))


@cache
def settings(name: str) -> Config:
    folder = 'ablations' if name in ABLATIONS else ''
    return read_config(str(CONFIGS / folder / f'{name}.py'), {}, None, None)


def read(name: str) -> Config:
    return deepcopy(settings(name))


def values(cfg: Config) -> dict:
    """What the reports give for a run."""
    return {
        'model': cfg.model.backbone.type,
        'optimizer': {k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != '_scope_'},
        'batch': cfg.train_dataloader.batch_size,
        'epochs': cfg.train_cfg.max_epochs,
        'schedule': {k: v for k, v in cfg.param_scheduler.items() if k in ('type', 'step_size', 'gamma', 'by_epoch')},
    }


@pytest.mark.parametrize('name', NAMES)
def test_every_config(name):
    cfg = read(name)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 5
    assert cfg.model.head.get('topk', (1,)) == (1,)  # the default of MMPretrain's heads
    assert [tuple(metric.topk) for metric in cfg.val_evaluator if metric.type == 'Accuracy'] == [(1,)]
    assert 'MeanNLL' in [metric.type for metric in cfg.val_evaluator]
    assert cfg.default_hooks.best_checkpoint.type == 'BestCheckpointHook'
    assert 'TensorboardVisBackend' in [backend.type for backend in cfg.visualizer.vis_backends]
    assert f'python tools/train.py configs/{name}.py' in (CONFIGS / f'{name}.py').read_text()
    if cfg.model.backbone.type == 'TIMMBackbone':
        assert cfg.model.backbone.pop('pretrained')
    else:
        init = cfg.model.backbone.pop('init_cfg')
        assert (init.type, Path(init.checkpoint).parent) == ('Pretrained', Path('checkpoints'))
    with torch.inference_mode():
        assert MODELS.build(cfg.model).eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 5)


@pytest.mark.parametrize('name', NAMES)
def test_validation_images_are_neither_shuffled_nor_augmented(name):
    cfg = read(name)
    train, *others = (cfg[f'{part}_dataloader'] for part in ('train', 'val', 'test'))
    assert (train.sampler.shuffle, train.dataset.ann_file) == (True, 'train.txt')
    assert any('Random' in step.type for step in train.dataset.pipeline)
    for loader in others:
        assert (loader.sampler.shuffle, loader.dataset.ann_file) == (False, 'val.txt')
        steps = loader.dataset.pipeline
        assert [step.type for step in steps] == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PackInputs']
    for loader in (train, *others):
        assert loader.dataset.data_root == 'data/flowers'
        for step in loader.dataset.pipeline:
            TRANSFORMS.build(step)


@pytest.mark.parametrize(
    ('name', 'base'),
    [('flower_resnet50', 'resnet50'), ('flower_mobilenetv3_small', 'mobilenet_v3/mobilenet_v3_small_imagenet')],
)
def test_a_swapped_backbone_is_the_one_of_mmpretrains_base(name, base):
    model, upstream = read(name).model, Config.fromfile(MMPRETRAIN / f'{base}.py').model
    del model.backbone['init_cfg']
    model.head.update(num_classes=1000, topk=(1, 5))
    del model.head['cal_acc'], model['_scope_']
    assert model == upstream


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_one_part_of_the_recipe(name):
    recipe, changed = read('flower_mobilenetv2_best'), read(name)
    training, testing = {'train_pipeline', 'train_dataloader'}, {'test_pipeline', 'val_dataloader', 'test_dataloader'}
    steps, length = {'optim_wrapper'}, {'param_scheduler', 'train_cfg'}
    parts = [{'model'}, {'default_hooks'}, steps, length, training, training | testing]
    if name == 'batch_32':
        assert changed.train_dataloader.pop('batch_size') != recipe.train_dataloader.pop('batch_size')
        parts = [set()]
    if name == 'small_and_frozen':  # an earlier recipe
        parts = [{'model', 'default_hooks'} | training | testing]
    assert differing(recipe, changed) in parts
    assert changed.model.backbone.pop('init_cfg') == recipe.model.backbone.init_cfg
    MODELS.build(changed.model)


def differing(one, other):
    """The settings that differ between two configs."""
    return {key for key in {*one, *other} - {'work_dir'} if one.get(key) != other.get(key)}


def test_report_1_experiment_1():
    assert values(read('flower_mobilenetv2')) == {
        'model': 'MobileNetV2',
        'optimizer': {'type': 'SGD', 'lr': 0.001, 'momentum': 0.9, 'weight_decay': 4e-5},
        'batch': 8,
        'epochs': 20,
        'schedule': {'type': 'StepLR', 'by_epoch': True, 'step_size': 1, 'gamma': 0.98},
    }


def test_report_1_as_its_log_shows_it():
    as_written = values(read('flower_mobilenetv2'))
    optimizer = {**as_written['optimizer'], 'lr': 0.045}
    assert values(read('flower_mobilenetv2_as_logged')) == {**as_written, 'optimizer': optimizer, 'batch': 32}


def augmentations(cfg: Config) -> dict:
    steps = [dict(step) for step in cfg.train_dataloader.dataset.pipeline]
    return {(step.pop('type'), step.pop('direction', '')): step for step in steps[:-1]}


def test_report_2():
    cfg = read('flower_resnet18')
    assert values(cfg) == {
        'model': 'ResNet',
        'optimizer': {'type': 'SGD', 'lr': 0.001, 'momentum': 0.9},
        'batch': 32,
        'epochs': 15,
        'schedule': {'type': 'StepLR', 'by_epoch': True, 'step_size': 7, 'gamma': 0.1},
    }
    assert cfg.model.backbone.depth == 18
    assert augmentations(cfg) == {
        ('LoadImageFromFile', ''): {},
        ('RandomResizedCrop', ''): {'scale': 224},
        ('RandomFlip', 'horizontal'): {'prob': 0.5},
        ('RandomRotateTranslate', ''): {'degrees': 15.0, 'translate': 0.1},
        ('ColorJitter', ''): {'brightness': 0.2, 'contrast': 0.2},
    }
    assert cfg.default_hooks.early_stopping.type == 'ResumableEarlyStoppingHook'
    assert cfg.default_hooks.early_stopping.monitor == 'accuracy/top1'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == -1


def test_report_1_experiment_2():
    cfg = read('flower_resnet18_adam')
    assert {k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != '_scope_'} == {'type': 'Adam', 'lr': 0.001}
    assert set(augmentations(cfg)) == {
        ('LoadImageFromFile', ''),
        ('ResizeEdge', ''),
        ('RandomCrop', ''),
        ('RandomFlip', 'horizontal'),
        ('RandomFlip', 'vertical'),
        ('RandomRotateTranslate', ''),
        ('ColorJitter', ''),
    }
    assert cfg.model.head.loss.type == 'CrossEntropyLoss'
