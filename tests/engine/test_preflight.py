"""Before the first step: options that nothing reads, datasets and weights that do not fit."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.preflight import (
    check_classes,
    check_dataset,
    check_options,
    check_pretrained,
    check_resume,
    check_weights,
)
from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'stem_channels': 4}


def config(name: str = 'flower_resnet18') -> Config:
    return read_config(str(CONFIGS / f'{name}.py'), {}, None, None)


@pytest.mark.parametrize(
    'given',
    [
        'train_cfg.max_epochs=5',
        'train_cfg.val_begin=3',
        'train_cfg.val_interval=2',
        'val_cfg.fp16=True',
        'compile=True',
        'compile.mode=max-autotune',
        'sync_bn=torch',
        'find_unused_parameters=True',
        'experiment_name=mine',
        'log_level=WARNING',
        'log_processor.window_size=5',
        'load_from=x.pth',
        'work_dir=there',
        'randomness.seed=3',
        'randomness.diff_rank_seed=True',
        'env_cfg.cudnn_benchmark=True',
        'env_cfg.mp_cfg.mp_start_method=spawn',
        'auto_scale_lr.enable=True',
        'data_preprocessor.to_rgb=False',
        'train_dataloader.batch_size=4',
        'train_dataloader.persistent_workers=False',
        'train_dataloader.drop_last=True',
        'train_dataloader.prefetch_factor=4',
        'train_dataloader.num_batch_per_epoch=2',
        'train_dataloader.sampler.seed=1',
        'train_dataloader.dataset.indices=10',
        'train_dataloader.dataset.pipeline.0.type=LoadImageFromFile',
        'train_dataloader.dataset.pipeline.1.crop_ratio_range=(0.5,1)',
        'val_dataloader.dataset.pipeline.1.interpolation=bicubic',
        'optim_wrapper.optimizer.lr=0.1',
        'optim_wrapper.optimizer.nesterov=True',
        'optim_wrapper.accumulative_counts=2',
        'optim_wrapper.clip_grad.max_norm=1',
        'optim_wrapper.paramwise_cfg.norm_decay_mult=0',
        'param_scheduler.gamma=0.5',
        'param_scheduler.end=10',
        'param_scheduler.convert_to_iter_based=True',
        'model.backbone.frozen_stages=1',
        'model.backbone.init_cfg.checkpoint=x.pth',
        'model.head.loss.loss_weight=2',
        'model.head.cal_acc=False',
        'model.train_cfg.augments.type=Mixup',
        'default_hooks.logger.interval=5',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.checkpoint.save_optimizer=False',
        'default_hooks.early_stopping.patience=3',
        'default_hooks.visualization.enable=True',
        'custom_hooks.0.filename=top.pth',
        'custom_hooks.1.filename=c.png',
        'val_evaluator.0.topk=(1,)',
        'train_dataloader.collate_fn.type=pseudo_collate',
        'val_dataloader=None',
        'visualizer.vis_backends.0.type=LocalVisBackend',
    ],
)
def test_options_that_upstream_honours_are_accepted(given):
    check_options(config(), parse_options([given]))


def test_options_that_go_together_are_accepted():
    for pairs in (
        ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.dtype=bfloat16', 'optim_wrapper.loss_scale=dynamic'],
        ['optim_wrapper.optimizer._delete_=True', 'optim_wrapper.optimizer.type=AdamW',
         'optim_wrapper.optimizer.betas=(0.9,0.99)'],
        ['default_hooks.ema.type=EMAHook', 'default_hooks.ema.momentum=0.01'],
        ['model.head.loss.type=LabelSmoothLoss', 'model.head.loss.label_smooth_val=0.1'],
    ):  # fmt: skip
        check_options(config(), parse_options(pairs))


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('optim_wrapper.optimizer.lrr=1', "has no 'lrr'; did you mean optim_wrapper.optimizer.lr?"),
        ('optim_wrapper.lr=1', "optim_wrapper has no 'lr'"),
        ('optimizer.lr=1', "the config has no 'optimizer'"),
        ('train_dataloder.batch_size=1', 'did you mean train_dataloader?'),
        ('train_dataloader.batchsize=1', 'did you mean train_dataloader.batch_size?'),
        ('train_dataloader.samples_per_gpu=1', "train_dataloader has no 'samples_per_gpu'"),
        ('train_dataloader.dataset.ann_fil=x', 'did you mean train_dataloader.dataset.ann_file?'),
        ('train_dataloader.dataset.pipeline.1.scal=x', 'did you mean train_dataloader.dataset.pipeline.1.scale?'),
        ('train_dataloader.dataset.pipeline.17.scale=1', "train_dataloader.dataset.pipeline has no '17'"),
        ('model.backbone.dept=50', 'did you mean model.backbone.depth?'),
        ('model.head.num_class=3', 'did you mean model.head.num_classes?'),
        ('model.head.num_classes.x=3', "model.head.num_classes has no 'x'"),
        ('train_cfg.max_epoch=5', 'did you mean train_cfg.max_epochs?'),
        ('max_epochs=5', "the config has no 'max_epochs'"),
        ('total_epochs=5', "the config has no 'total_epochs'"),
        ('default_hooks.chekpoint.interval=2', 'did you mean default_hooks.checkpoint?'),
        ('default_hooks.logger.intervall=2', 'did you mean default_hooks.logger.interval?'),
        ('randomness.sed=2', 'did you mean randomness.seed?'),
        ('param_scheduler.milestones=[3]', "param_scheduler has no 'milestones'"),
        ('custom_hooks.0.metrics=x', 'did you mean custom_hooks.0.metric?'),
        ('log_processor.window=2', 'did you mean log_processor.window_size?'),
        ('optim_wrapper.optimizer.type=Sgd', "nothing is registered as 'Sgd'; did you mean SGD?"),
        ('model.backbone.type=ResNett', 'did you mean ResNet?'),
        ('model=3', 'holds settings, of which 3 is none; set model.KEY'),
        ('train_dataloader=3', 'set train_dataloader.KEY'),
        # A config's own variables have been put in place: changing them changes nothing.
        ('data_root=x', 'has no effect any more; set --data-root DIR'),
        ('num_classes=3', 'has no effect any more; set model.head.num_classes'),
        ('train_pipeline.1.scale=64', 'has no effect any more; set train_dataloader.dataset.pipeline'),
    ],
)  # fmt: skip
def test_options_that_nothing_reads_are_refused(given, said):
    with pytest.raises(InputError) as caught:
        check_options(config(), parse_options([given]))
    (line,) = caught.value.problems
    assert line.startswith(f'--cfg-options {given.partition("=")[0]}: ')
    assert said in line


def test_all_unknown_options_are_told_at_once():
    with pytest.raises(InputError) as caught:
        check_options(config(), parse_options(['a=1', 'train_cfg.max_epochs=1', 'b=2']))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_every_key_that_a_config_has_may_be_overridden(path):
    cfg = read_config(str(path), {}, None, None)
    variables = {'data_root', 'num_classes', 'train_pipeline', 'test_pipeline', 'vis_backends', 'custom_imports'}

    def leaves(node, path):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        inner = [leaf for key, value in items for leaf in leaves(value, [*path, str(key)])]
        return inner or ['.'.join(path)]

    given = [leaf for leaf in leaves(cfg._cfg_dict, []) if leaf.split('.')[0] not in variables]
    assert len(given) > 50
    check_options(cfg, dict.fromkeys(given, 1))


def test_a_good_dataset(data):
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {}, str(data), None)
    assert check_dataset(cfg, ['train', 'val']) == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


def problems_of(root, **options) -> str:
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), options, str(root), None)
    with pytest.raises(InputError) as caught:
        check_dataset(cfg, ['train', 'val'])
    return str(caught.value)


def test_folders_that_are_no_prepared_dataset(raw, data, tmp_path):
    assert 'no such folder; prepare it with: python tools/split_dataset.py RAW_PHOTOS' in problems_of(tmp_path / 'no')
    assert f'python tools/split_dataset.py {raw} data/flowers' in problems_of(raw)
    shutil.copytree(data, tmp_path / 'data')
    (tmp_path / 'data' / 'classes.txt').unlink()
    assert f'python tools/generate_metadata.py {tmp_path / "data"}' in problems_of(tmp_path / 'data')


def test_another_number_of_classes_gives_the_options_to_add(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    for side in ('train', 'val'):
        file = tmp_path / 'data' / f'{side}.txt'
        file.write_text(''.join(line for line in file.read_text().splitlines(True) if 'tulip' not in line))
    (tmp_path / 'data' / 'classes.txt').write_text('daisy\ndandelion\nrose\nsunflower\n')
    said = problems_of(tmp_path / 'data')
    options = said.partition('add: --cfg-options ')[2]
    assert options == 'model.head.num_classes=4 data_preprocessor.num_classes=4'
    cfg = read_config(
        str(CONFIGS / 'flower_resnet18.py'), parse_options(options.split()), str(tmp_path / 'data'), None
    )
    assert len(check_dataset(cfg, ['train', 'val'])) == 4


def test_a_photo_in_train_and_val(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    photo = (tmp_path / 'data' / 'val.txt').read_text().split(' ')[0]
    shutil.copy(tmp_path / 'data' / 'val' / photo, tmp_path / 'data' / 'train' / photo)
    with (tmp_path / 'data' / 'train.txt').open('a') as file:
        file.write(f'{photo} 0\n')
    assert f'{photo!r} is in train and in val' in problems_of(tmp_path / 'data')


@pytest.fixture
def backbone():
    from mmpretrain.registry import MODELS

    return MODELS.build(dict(TINY))


def model(path=None, prefix=None, **backbone):
    init = {'type': 'Pretrained', 'checkpoint': str(path), **({'prefix': prefix} if prefix else {})}
    return Config({'model': {'backbone': {**TINY, **backbone, **({'init_cfg': init} if path else {})}}}).model


def test_pretrained_weights_that_fit(backbone, tmp_path):
    path = tmp_path / 'w.pth'
    state = backbone.state_dict()
    wanted = sum(not key.endswith('num_batches_tracked') for key in state)
    torch.save(
        {'state_dict': {f'backbone.{key}': value for key, value in state.items()}, 'meta': {'note': 'hm'}}, path
    )
    assert check_pretrained(model(path, 'backbone')) == f'{path}, {wanted}/{wanted} of the backbone; hm'
    assert check_pretrained(model(path, 'backbone.')) == f'{path}, {wanted}/{wanted} of the backbone; hm'
    torch.save(state, path)  # a bare state dict
    assert check_pretrained(model(path)) == f'{path}, {wanted}/{wanted} of the backbone'
    assert check_pretrained(model()) is None


def test_pretrained_weights_that_do_not(backbone, tmp_path):
    path = tmp_path / 'w.pth'
    state = backbone.state_dict()
    for content, given in [
        ({f'backbone.{key}': value for key, value in state.items()}, model(path)),  # the prefix is missing
        (state, model(path, 'backbone')),
        (state, model(path, depth=34)),
        (state, model(path, base_channels=8)),  # same names, other shapes
        ({}, model(path)),
    ]:
        torch.save(content, path)
        with pytest.raises(InputError, match=r'has \d+ of the \d+ weights of the ResNet backbone: of another archi'):
            check_pretrained(given)


def test_five_percent_may_be_missing(backbone, tmp_path):
    keys = [key for key in backbone.state_dict() if not key.endswith('num_batches_tracked')]
    allowed = len(keys) // 20
    for missing, fits in ((allowed, True), (allowed + 1, False)):
        kept = {key: backbone.state_dict()[key] for key in keys[missing:]}
        torch.save(kept, tmp_path / 'w.pth')
        if fits:
            assert f'{len(kept)}/{len(keys)}' in check_pretrained(model(tmp_path / 'w.pth'))
        else:
            with pytest.raises(InputError):
                check_pretrained(model(tmp_path / 'w.pth'))


def test_a_trained_checkpoint_has_to_fit_whole():
    from mmpretrain.registry import MODELS

    cfg = config()
    cfg.model.backbone.update(TINY)
    cfg.model.head.in_channels = 32
    plain = {**cfg.model, 'backbone': {k: v for k, v in cfg.model.backbone.items() if k != 'init_cfg'}}
    state = MODELS.build(plain).state_dict()
    check_weights(cfg.model, {'state_dict': state}, 'x')
    state.pop('head.fc.bias')
    with pytest.raises(InputError, match=r'x: has .* of this ResNet model; use the config that it was trained with'):
        check_weights(cfg.model, {'state_dict': state}, 'x')


def test_classes_and_their_order():
    checkpoint = {'meta': {'classes': ['a', 'b']}}
    check_classes(checkpoint, 'x', ['a', 'b'], 'data')
    check_classes(checkpoint, 'x', [], 'data')  # a dataset of another kind, which names none
    for other in (['b', 'a'], ['a', 'c'], ['a', 'b', 'c']):
        with pytest.raises(InputError, match='x was trained for a, b; data has'):
            check_classes(checkpoint, 'x', other, 'data')


def test_resuming_without_an_optimizer_names_what_to_give_instead():
    with pytest.raises(InputError, match=r'best\.pth: holds weights alone, .* give an epoch_N\.pth'):
        check_resume(config(), {'state_dict': {}, 'meta': {}}, 'best.pth', [])


def test_resuming_on_another_split_would_validate_on_photos_learned(data, monkeypatch):
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {}, str(data), None)
    monkeypatch.setattr('custom_modules.engine.preflight.check_weights', lambda *args: None)

    def resume(digest):
        meta = {'classes': ['a', 'b'], 'epoch': 1}
        check_resume(cfg, {'optimizer': {}, 'meta': meta, 'BestCheckpointHook': digest}, 'epoch_1.pth', ['a', 'b'])

    resume({'dataset_digest': read_manifest_digest(data)})
    resume({'dataset_digest': None})  # trained on data without a manifest
    resume({})  # written by an earlier version
    with pytest.raises(InputError, match=r'epoch_1\.pth: was trained on another split \(0123456789ab\) than'):
        resume({'dataset_digest': '0123456789abcdef'})


def test_a_changed_manifest_is_told_before_training(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    file = tmp_path / 'data' / 'manifest.json'
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    assert 'manifest.json: its digest is not that of its contents' in problems_of(tmp_path / 'data')


def test_a_loader_that_the_config_lacks(data):
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {'val_dataloader': None}, str(data), None)
    with pytest.raises(InputError, match='val_dataloader: the config has none; --no-validate trains without one'):
        check_dataset(cfg, ['train', 'val'])
