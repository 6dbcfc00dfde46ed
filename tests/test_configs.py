"""Every config loads, builds, and says what the reports say."""

from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.engine.run_config import read_config

MMPRETRAIN = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/models'
CONFIGS = sorted(path for path in Path(__file__).parents[1].glob('configs/*.py'))

ABLATIONS = sorted(path for path in Path(__file__).parents[1].glob('configs/ablations/*.py'))


def read(name: str) -> Config:
    (path,) = [path for path in [*CONFIGS, *ABLATIONS] if path.stem == name]
    return read_config(str(path), {}, None, None)


def values(cfg: Config) -> dict:
    """What the reports give for a run."""
    return {
        'model': cfg.model.backbone.type,
        'optimizer': {k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != '_scope_'},
        'batch': cfg.train_dataloader.batch_size,
        'epochs': cfg.train_cfg.max_epochs,
        'schedule': {k: v for k, v in cfg.param_scheduler.items() if k in ('type', 'step_size', 'gamma', 'by_epoch')},
    }


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config(path):
    cfg = read(path.stem)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 5
    assert cfg.model.head.topk == (1,)
    assert [tuple(metric.topk) for metric in cfg.val_evaluator if metric.type == 'Accuracy'] == [(1,)]
    assert 'MeanNLL' in [metric.type for metric in cfg.val_evaluator]
    assert 'BestCheckpointHook' in [hook.type for hook in cfg.custom_hooks]
    assert 'TensorboardVisBackend' in [backend.type for backend in cfg.visualizer.vis_backends]
    init = cfg.model.backbone.init_cfg
    assert init.type == 'Pretrained'
    assert Path(init.checkpoint).parent == Path('checkpoints')
    assert cfg.val_dataloader.sampler.shuffle is False
    assert cfg.train_dataloader.sampler.shuffle is True
    assert cfg.train_dataloader.dataset.ann_file == 'train.txt'
    assert cfg.val_dataloader.dataset.ann_file == cfg.test_dataloader.dataset.ann_file == 'val.txt'
    assert {cfg[f'{name}_dataloader'].dataset.data_root for name in ('train', 'val', 'test')} == {'data/flowers'}
    assert f'python tools/train.py configs/{path.name}' in path.read_text()

    del cfg.model.backbone['init_cfg']
    model = MODELS.build(cfg.model).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_validation_is_not_augmented(path):
    cfg = read(path.stem)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        types = [step.type for step in loader.dataset.pipeline]
        assert types == ['LoadPhoto', 'ResizeEdge', 'CenterCrop', 'PackPhoto']
        assert loader.dataset.pipeline[0].min_short_edge == loader.dataset.pipeline[1].scale
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for step in loader.dataset.pipeline:
            TRANSFORMS.build(step)
    assert any('Random' in step.type for step in cfg.train_dataloader.dataset.pipeline)


@pytest.mark.parametrize(
    ('name', 'base'),
    [
        ('flower_resnet50', 'resnet50.py'),
        ('flower_mobilenetv3_small', 'mobilenet_v3/mobilenet_v3_small_imagenet.py'),
    ],
)
def test_a_swapped_backbone_is_the_one_of_mmpretrains_base(name, base):
    model, upstream = read(name).model, Config.fromfile(MMPRETRAIN / base).model
    del model.backbone['init_cfg']
    model.head.update(num_classes=1000, topk=(1, 5))
    del model.head['cal_acc'], model['_scope_']
    assert model == upstream


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_changes_one_part_of_the_recipe(path):
    recipe, changed = read('flower_mobilenetv2_best'), read(path.stem)
    training, testing = {'train_pipeline', 'train_dataloader'}, {'test_pipeline', 'val_dataloader', 'test_dataloader'}
    steps, length = {'optim_wrapper'}, {'param_scheduler', 'train_cfg'}
    parts = [{'model'}, {'default_hooks'}, steps, length, training, training | testing]
    if path.stem == 'batch_32':
        assert changed.train_dataloader.pop('batch_size') != recipe.train_dataloader.pop('batch_size')
        parts = [set()]
    if path.stem == 'small_and_frozen':  # what the recipe was before, beside what it is
        parts = [{'model', 'default_hooks'} | training | testing]
    assert differing(recipe, changed) in parts
    init = changed.model.backbone.pop('init_cfg')
    assert init == recipe.model.backbone.init_cfg
    MODELS.build(changed.model)


def test_the_recipe_before_was_the_fast_one_for_longer():
    before, fast = read('small_and_frozen'), read('flower_mobilenetv2_fast')
    assert before.train_dataloader.pop('drop_last') is False
    assert differing(before, fast) == {'default_hooks', 'param_scheduler', 'train_cfg'}


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
    # What the log reads, of the schedule itself.
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], optimizer['lr'])
    schedule = read('flower_mobilenetv2_as_logged').param_scheduler
    scheduler = PARAM_SCHEDULERS.build({**(schedule[0] if isinstance(schedule, list) else schedule), 'optimizer': sgd})
    rates = []
    for _ in range(3):
        rates.append(round(sgd.param_groups[0]['lr'], 5))
        sgd.step()
        scheduler.step()
    assert rates == [0.045, 0.0441, 0.04322]


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
        ('LoadRandomResizedCrop', ''): {'scale': 224, 'flip_prob': 0.5},
        ('RandomRotateTranslate', ''): {'degrees': 15.0, 'translate': 0.1},
        ('ColorJitter', ''): {'brightness': 0.2, 'contrast': 0.2},
    }
    assert cfg.default_hooks.early_stopping.type == 'ResumableEarlyStoppingHook'
    assert cfg.default_hooks.early_stopping.monitor == 'accuracy/top1'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == -1
    assert cfg.data_preprocessor['mean'] == [123.675, 116.28, 103.53]
    assert cfg.data_preprocessor['std'] == [58.395, 57.12, 57.375]
    assert cfg.data_preprocessor['to_rgb'] is True


def test_report_1_experiment_2():
    cfg = read('flower_resnet18_adam')
    assert {k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != '_scope_'} == {'type': 'Adam', 'lr': 0.001}
    assert set(augmentations(cfg)) == {
        ('LoadPhoto', ''),
        ('ResizeEdge', ''),
        ('RandomCrop', ''),
        ('RandomFlip', 'horizontal'),
        ('RandomFlip', 'vertical'),
        ('RandomRotateTranslate', ''),
        ('ColorJitter', ''),
    }
    assert cfg.model.head.loss.type == 'CrossEntropyLoss'
