"""Config validation: what MMEngine would ignore is refused, and what it honours is accepted."""

import textwrap
from pathlib import Path
from typing import Any

import mmpretrain
import pytest
from mmengine.config import Config

from custom_modules.engine.config_validation import check_config, parameters
from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
UPSTREAM = Path(mmpretrain.__path__[0]) / '.mim' / 'configs'


@pytest.fixture(scope='module')
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flower_resnet18.py as one file: bases named ``mmpretrain::…`` cost MMEngine a second each."""
    file = tmp_path_factory.mktemp('configs') / 'flat.py'
    read_config(str(CONFIGS / 'flower_resnet18.py'), {}, None, None).dump(file)
    return file


@pytest.mark.parametrize(
    'given',
    [
        'train_cfg.max_epochs=5 val_cfg.fp16=True compile.mode=max-autotune sync_bn=torch log_processor.window_size=5',
        'compile=True load_from=x.pth randomness.seed=3 auto_scale_lr.enable=True data_preprocessor.to_rgb=False',
        'env_cfg.cudnn_benchmark=True env_cfg.mp_cfg.mp_start_method=spawn val_dataloader=None',
        'train_dataloader.prefetch_factor=4 train_dataloader.num_batch_per_epoch=2',
        'train_dataloader.dataset.indices=10 train_dataloader.dataset.pipeline.1.crop_ratio_range=(0.5,1)',
        'train_dataloader.collate_fn.type=pseudo_collate train_cfg.val_interval=2',
        'optim_wrapper.optimizer.nesterov=True optim_wrapper.clip_grad.max_norm=1 param_scheduler.end=10',
        'optim_wrapper.paramwise_cfg.norm_decay_mult=0 param_scheduler.convert_to_iter_based=True',
        'model.backbone.init_cfg.checkpoint=x.pth model.head.loss.loss_weight=2 model.train_cfg.augments.type=Mixup',
        'default_hooks.checkpoint.save_optimizer=False default_hooks.visualization.enable=True',
        'default_hooks.curves.filename=c.png val_evaluator.0.topk=(1,) visualizer.vis_backends.0.type=LocalVisBackend',
        'optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16 optim_wrapper.loss_scale=dynamic',
        'optim_wrapper.optimizer._delete_=True optim_wrapper.optimizer.type=AdamW',
        'default_hooks.ema.type=EMAHook default_hooks.ema.momentum=0.01',
        'model.head.loss.type=LabelSmoothLoss model.head.loss.label_smooth_val=0.1',
    ],
)
def test_options_that_upstream_honours_are_accepted(given, flat):
    read_config(str(flat), parse_options(given.split()), None, None)


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('optim_wrapper.optimizer.lrr=1', "has no 'lrr'. Did you mean optim_wrapper.optimizer.lr?"),
        ('optimizer.lr=1', "the config has no 'optimizer'"),
        ('train_dataloader.dataset.pipeline.1.scal=x', 'Did you mean train_dataloader.dataset.pipeline.1.scale?'),
        ('train_dataloader.dataset.pipeline.17.scale=1', "Index 17 exceeds the length"),
        ('model.head.num_classes.x=3', "num_classes={'x': 3} in child config cannot inherit"),
        ('train_cfg.max_epoch=5', 'Did you mean train_cfg.max_epochs?'),
        ('learning_rate=5', "the config has no 'learning_rate'. Did you mean optim_wrapper.optimizer.lr?"),
        ('default_hooks.chekpoint.interval=2', 'Did you mean default_hooks.checkpoint?'),
        ('param_scheduler.milestones=[3]', "param_scheduler has no 'milestones'"),
        ("default_hooks.best_checkpoint.metrics=x", "Did you mean default_hooks.best_checkpoint.metric?"),
        ('optim_wrapper.optimizer.type=Sgd', "nothing is registered as 'Sgd'. Did you mean SGD?"),
        ('train_dataloader=3', 'train_dataloader: is 3, a int. Give Union[DataLoader, Dict, NoneType].'),
        # Variables of the config, whose values are already in use.
        ('data_root=x', 'has no effect, it is only a variable of the config. Set --data-root DIR'),
        ('num_classes=3', 'Set data_preprocessor.num_classes, model.head.num_classes'),
        ('train_pipeline.1.scale=64', 'Set train_dataloader.dataset.pipeline'),
    ],
)  # fmt: skip
def test_options_that_nothing_reads_are_refused(given, said, flat):
    with pytest.raises(InputError) as caught:
        read_config(str(flat), parse_options([given]), None, None)
    (line,) = caught.value.problems
    assert line.startswith('--cfg-options')
    assert said in line


def written(folder: Path, base: Path, text: str) -> Config:
    """A config file that inherits ``base`` and adds ``text``, as a user writes one."""
    file = folder / 'mine.py'
    file.write_text(f'_base_ = {str(base)!r}\n{text}\n')
    return read_config(str(file), {}, None, None)


def pipeline(step: str) -> str:
    return f'train_dataloader = dict(dataset=dict(pipeline=[{step}]))'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        # Keys of 0.x, which 1.x ignores.
        ('optimizer = dict(lr=0.001)', "optimizer: the config has no 'optimizer' (it is of 0.x): set optim"),
        ('data = dict(samples_per_gpu=8)', 'set train_dataloader'),
        ('total_epochs = 5', 'set train_cfg.max_epochs'),
        # Misspelt keys, or keys in the wrong place.
        ('optim_wraper = dict(optimizer=dict(lr=1))', 'Did you mean optim_wrapper?'),
        ('lr = 0.01', 'lr: nothing reads it here. Did you mean optim_wrapper.optimizer.lr?'),
        ('optim_wrapper = dict(lr=0.1)', "optim_wrapper.lr: optim_wrapper has no 'lr'"),
        ('optim_wrapper = dict(optimizer=dict(learning_rate=0.1))', 'Did you mean optim_wrapper.optimizer.lr?'),
        ('learning_rate = 0.1', 'learning_rate: nothing reads it here. Did you mean optim_wrapper.optimizer.lr?'),
        ('max_epoch = 3', 'Did you mean train_cfg.max_epochs?'),
        ('optim_wrapper = dict(optimizer=dict(weight_deacy=1))', 'Did you mean optim_wrapper.optimizer.weight_decay?'),
        ('optim_wrapper = dict(clip_grad=dict(max_nrom=1))', 'Did you mean optim_wrapper.clip_grad.max_norm?'),
        ('optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mutl=0))', 'paramwise_cfg.norm_decay_mult?'),
        ('param_scheduler = [dict(type="StepLR", step_size=3, gama=0.1)]', 'Did you mean param_scheduler.0.gamma?'),
        ('model = dict(head=dict(loss=dict(loss_wieght=2)))', 'Did you mean model.head.loss.loss_weight?'),
        ('model = dict(train_cfg=dict(augments=dict(type="Mixup", alhpa=1)))', 'model.train_cfg.augments.alpha?'),
        ('custom_hooks = [dict(type="EMAHook", momentun=0.1)]', 'Did you mean custom_hooks.0.momentum?'),
        ('val_evaluator = [dict(type="Accuracy", top_k=(1,))]', 'Did you mean val_evaluator.0.topk?'),
        ('env_cfg = dict(mp_cfg=dict(mp_start="fork"))', 'Did you mean env_cfg.mp_cfg.mp_start_method?'),
        # Keys of a base class, and of the class in a wrapper.
        (pipeline('dict(type="Rotate", angel=3)'), 'Did you mean train_dataloader.dataset.pipeline.0.angle?'),
        (pipeline('dict(type="torchvision/ColorJitter", brighness=0.1)'), 'dataset.pipeline.0.brightness?'),
        (pipeline('dict(type="RandomFlipp")'), 'Did you mean RandomFlip?'),
        ('model = dict(backbone=dict(type="ResNet19"))', "model.backbone.type: nothing is registered as 'ResNet19'"),
        # Values of a wrong type.
        ('optim_wrapper = dict(optimizer=dict(lr="abc"))', "optimizer.lr: is 'abc', a str. Give float"),
        ('train_dataloader = dict(batch_size="8")', "train_dataloader.batch_size: is '8', a str. Give int"),
        ('param_scheduler = dict(gamma="x")', "param_scheduler.gamma: is 'x', a str. Give float"),
        ('param_scheduler = [dict(type="MultiStepLR", milestones=["3"])]', "is ['3'], a list. Give List[int]"),
        ('model = dict(backbone=dict(drop_path_rate="0.1"))', "drop_path_rate: is '0.1', a str. Give float"),
        ('randomness = dict(deterministic="no")', "randomness.deterministic: is 'no', a str. Give bool"),
        ('load_from = 3', 'load_from: is 3, a int. Give Optional[str]'),
        ('train_cfg = dict(max_epochs=2.5)', 'train_cfg.max_epochs: is 2.5, a float. Give int'),
        ('val_cfg = dict(fp16=2)', 'val_cfg.fp16: is 2, a int. Give bool'),
    ],
)  # fmt: skip
def test_configs_that_set_what_nothing_reads_are_refused(text, said, flat, tmp_path):
    with pytest.raises(InputError) as caught:
        written(tmp_path, flat, text)
    (line,) = caught.value.problems
    assert said in line


def test_all_problems_are_reported_at_once_each_with_its_key(flat, tmp_path):
    text = 'optim_wrapper = dict(optimizer=dict(lr="abc", momentun=0.9))\noptimizer = dict(lr=1)'
    with pytest.raises(InputError) as caught:
        written(tmp_path, flat, text)
    keys = [line.partition(': ')[0] for line in caught.value.problems]
    assert sorted(keys) == ['optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.momentun', 'optimizer']


@pytest.mark.parametrize(
    'text',
    [
        'base_lr = 0.01\noptim_wrapper = dict(optimizer=dict(lr=base_lr))',
        'bgr_mean = {{_base_.data_preprocessor.mean}}[::-1]',
        'optimizer = dict(type="SGD", lr=0.02)\noptim_wrapper = dict(optimizer=optimizer)',
        'steps = [dict(type="LoadPhoto")]\ntrain_dataloader = dict(dataset=dict(pipeline=steps))',
        'img_norm_cfg = dict(mean=[1.0] * 3, std=[1.0] * 3)\n' + pipeline('dict(type="Normalize", **img_norm_cfg)'),
        'dataset_type = "FlowerDataset"',  # says what is so already
        'experiment_name = "mine"',
        'train_cfg = dict(max_epochs=20.0)',
        'optim_wrapper = dict(type="AmpOptimWrapper", loss_scale=512.0)',
        'optim_wrapper = dict(clip_grad=dict(max_norm=1.0), accumulative_counts=4)',
        'custom_hooks = [dict(type="EMAHook", momentum=1e-4, update_buffers=True, priority="ABOVE_NORMAL")]',
        'param_scheduler = [dict(type="CosineAnnealingLR", T_max=13, begin=2, convert_to_iter_based=True)]',
        'model = dict(head=dict(init_cfg=[dict(type="Normal", layer="Linear", std=0.01)]))',
        'model = dict(train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]))',
        'default_hooks = dict(logger=None)',
    ],
)
def test_configs_that_upstream_honours_are_accepted(text, flat, tmp_path):
    written(tmp_path, flat, text)


def test_own_variables_that_look_like_settings_are_not_saved(flat, tmp_path):
    """So a saved config is accepted whatever changes on top of them."""
    text = """
        optimizer = dict(type='SGD', lr=0.02)
        dataset = dict(data_root='mine')
        backbone = dict(depth=34)
        evaluator = [dict(type='Accuracy', topk=(1,))]
        pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
        max_epochs = 3
        my_value = 7
        optim_wrapper = dict(optimizer=optimizer)
        train_dataloader = dict(dataset=dict(pipeline=pipeline, **dataset))
        model = dict(backbone=backbone)
        val_evaluator = evaluator
        train_cfg = dict(max_epochs=max_epochs)
    """
    written(tmp_path, flat, textwrap.dedent(text))
    changes = parse_options(['optim_wrapper.optimizer.lr=1', 'train_cfg.max_epochs=9', 'model.backbone.depth=18'])
    cfg = read_config(str(tmp_path / 'mine.py'), changes, None, None)
    cfg.dump(tmp_path / 'saved.py')
    saved = read_config(str(tmp_path / 'saved.py'), {}, None, None)
    assert set(cfg) == set(saved)
    assert set(cfg) & {'optimizer', 'backbone', 'pipeline', 'max_epochs', 'my_value'} == {'my_value'}


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_the_shipped_configs_are_accepted(path, tmp_path):
    cfg = read_config(str(path), {}, 'anywhere', None)
    cfg.pretrained = 'checkpoints/x.pth, 260/260 of the backbone'  # what tools/train.py writes into a work dir
    cfg.dump(tmp_path / 'dumped.py')
    read_config(str(tmp_path / 'dumped.py'), parse_options(['model.head.num_classes=3']), 'elsewhere', None)


IMAGENET = [
    *('mobilenet-v2_8xb32', 'resnet50_32xb64-warmup-coslr', 'resnet50_8xb256-rsb-a1-600e', 'resnet50_8xb32-fp16'),
    *('resnet50_8xb32-coslr-preciseBN', 'resnet50_8xb32-lbs', 'resnet50_8xb32-mixup'),
]


@pytest.mark.parametrize('name', IMAGENET)
def test_upstreams_imagenet_configs_on_our_dataset_are_accepted(name):
    (path,) = UPSTREAM.glob(f'*/{name}_in1k.py')
    cfg = Config.fromfile(path)
    for part, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset.pop('split')
        dataset.update(type='FlowerDataset', data_root='data/flowers', ann_file=f'{split}.txt', data_prefix=split)
    check_config(cfg)
    # A wrong letter deep inside is found.
    cfg.model.head.loss.los_weight = cfg.model.head.loss.pop('loss_weight', 1.0)
    with pytest.raises(InputError, match=r'Did you mean model\.head\.loss\.loss_weight'):
        check_config(cfg)


class Base:
    def __init__(self, below: int = 0) -> None: ...


class UsersOwn(Base):
    def __init__(self, own: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


@pytest.mark.parametrize(('module', 'is_open'), [('mmpretrain.models', False), ('users', True)])
def test_parameters_of_a_class_are_its_own_and_those_of_its_bases(module, is_open, monkeypatch):
    monkeypatch.setattr(UsersOwn, '__module__', module)  # it is not known where a user's class passes **kwargs to
    parameters.cache_clear()
    named, more = parameters(UsersOwn)
    assert (sorted(named), more) == (['below', 'own'], is_open)
