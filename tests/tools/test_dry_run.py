"""Each mistake of the field, made as people made it, and what tools/train.py --dry-run says to it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from custom_modules.engine.hooks import preflight_hook
from custom_modules.engine.run_config import read_config

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def flat_config(tiny_config: Path) -> Path:
    """The tiny config as one file: bases named ``mmpretrain::…`` cost MMEngine a second each."""
    file = tiny_config.with_name('flat.py')
    read_config(str(tiny_config), {}, None, None).dump(file)
    return file


@pytest.fixture
def dry_run(call, flat_config, tmp_path) -> Callable:
    """A function that makes a dry run of the tiny config, with ``text`` added as a user would add it, and options."""

    def run(text: str = '', *args: object, options: tuple[str, ...] = ()):
        config = tmp_path / 'mine.py'
        config.write_text(f'_base_ = {str(flat_config)!r}\n{text}\n')
        # MMEngine warns of two runs with one name, given in the same second.
        name = 'experiment_name=' + re.sub(r'\W', '_', str(tmp_path))
        result = call('train', config, '--dry-run', *args, '--cfg-options', *options, name)
        config.unlink()
        assert not list(tmp_path.glob('work_dirs*'))
        return result

    return run


FROM_SCRATCH = 'model.backbone.init_cfg: no pretrained weights, so everything is learned from 40 photos'


def warnings(result) -> list[str]:
    return re.findall(r'- WARNING - (.*)', result.out)


def test_a_good_run(dry_run, tmp_path):
    result = dry_run()
    assert result.code == 1  # one warning
    assert [line.partition(';')[0] for line in warnings(result)] == [FROM_SCRATCH]
    rows = dict(re.findall(r'^([a-z]+(?: [a-z]+)?)  +(.*)$', result.out, re.MULTILINE))
    assert rows['model'] == 'MobileNetV2 → GlobalAveragePooling → LinearClsHead'
    assert re.fullmatch(r'([\d,]+) trainable of \1', rows['parameters'])
    assert rows['weights'] == 'none: trained from scratch'
    assert rows['classes'] == '5: daisy, dandelion, rose, sunflower, tulip'
    assert rows['train photos'] == '40: daisy 8, dandelion 8, rose 8, sunflower 8, tulip 8'
    assert rows['val photos'].startswith('15: daisy 3,')
    assert rows['batch'] == '8 × 1 process × 1 accumulated = 8 photos per step'
    assert rows['optimizer'] == 'SGD, momentum 0.9, weight_decay 4e-05'
    assert rows['lr'] == 'first 0.02, peak 0.02, last 0.0196 (StepLR)'
    assert rows['length'] == '2 epochs × 5 iterations = 10'
    assert rows['train pipeline'] == 'LoadImageFromFile, RandomResizedCrop(32), RandomFlip(0.5), PackInputs'
    assert rows['metrics'] == 'accuracy/top1, nll/mean'
    assert rows['device'].startswith('cpu, float32')
    assert re.search(r's per step \(4 timed\): \d+ s without validation', rows['time'])
    assert 'note: default_hooks.logger.interval: 20 is longer than an epoch of 5 iterations' in result.out
    assert not list(tmp_path.iterdir())


def test_without_warnings_the_code_is_0(dry_run, trained):
    text = 'optim_wrapper = dict(optimizer=dict(lr=0.001))'
    result = dry_run(text, options=(f'load_from={trained.work_dir / "best.pth"}',))
    assert (result.code, warnings(result)) == (0, [])
    assert f'loaded          {trained.work_dir / "best.pth"}' in result.out


CROP = (
    'train_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadRandomResizedCrop", {}), dict(type="PackPhoto")]))'
)
VAL = 'val_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadImageFromFile"), {}, dict(type="PackInputs")]))'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        # 1: the prepared folder, read by a dataset that takes its subfolders for classes
        (
            'train_dataloader = dict(dataset=dict(_delete_=True, type="CustomDataset", data_prefix={data!r},'
            ' pipeline=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=32), dict(type="PackInputs")]))',
            'train_dataloader.dataset: its classes are train, val: the folders of a split, not kinds of photo',
        ),
        ('train_dataloader = None', 'train_dataloader: the config has none'),
        # what only a photo that goes through the pipeline shows
        (CROP.format('scale=32, aspect_ratio_range=(0, 0)'), 'photos of train_dataloader through dataset.pipeline'),
        (CROP.format('scale=32, backend="pil"'), 'backend: pil is not supported'),
        # 4: augmentation on val
        (VAL.format('dict(type="RandomResizedCrop", scale=32)'), 'RandomResizedCrop changes photos at random'),
        # 7: keys of 0.x
        ('optimizer = dict(type="SGD", lr=0.001)', "the config has no 'optimizer' (it is of 0.x): set optim_wrapper"),
        # 10: weights missing
        (
            'model = dict(backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", '
            'checkpoint="checkpoints/mobilenet_v2.pth")))',
            'checkpoints/mobilenet_v2.pth: no such file; get it with: python tools/fetch_weights.py mobilenet_v2',
        ),
        # 11: mean and std of pixels scaled to 0-1, or the other way round
        (
            'data_preprocessor = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])',
            'are for pixels of 0 to 1, but the pipeline gives 0 to 255; set mean=[123.675, 116.28, 103.53]',
        ),
        (
            'train_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadImageFromFile"), '
            'dict(type="Resize", scale=(32, 32)), dict(type="torchvision/ToTensor"), dict(type="PackInputs")]))',
            'are for pixels of 0 to 255, but the pipeline scales them to 0 to 1',
        ),
        ('data_preprocessor = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])', 'about 1 and 3 are usual'),
        # other types than are looked for
        ('data_preprocessor = dict(mean="abc")', "data_preprocessor.mean: is 'abc', a str"),
        ('param_scheduler = "abc"', 'config: TypeError: `param_scheduler` should be a'),
        ('log_level = "foo"', "log_level: KeyError: 'foo'"),
        # 12: top-5 of five classes
        ('val_evaluator = [dict(type="Accuracy", topk=(1, 5))]', 'val_evaluator.0.topk: top-5 of 5 classes is always'),
        ('model = dict(head=dict(topk=(1, 5)))', 'model.head.topk: top-5 of 5 classes is always 100 %'),
        # 14: paths to be filled in, or of somebody else's machine
        ('load_from = "/path/to/weights.pth"', "load_from: '/path/to/weights.pth' is a placeholder"),
        (
            'model = dict(backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", '
            'checkpoint="<your checkpoint>")))',
            "model.backbone.init_cfg.checkpoint: '<your checkpoint>' is a placeholder",
        ),
        (
            'train_dataloader = dict(dataset=dict(data_root="/home/nobody_here/flower_dataset"))',
            "train_dataloader.dataset.data_root: '/home/nobody_here/flower_dataset' is on somebody else's machine",
        ),
        (
            'val_dataloader = dict(dataset=dict(data_root="D:\\\\flowers"))',
            "val_dataloader.dataset.data_root: 'D:\\\\flowers' is on somebody else's machine",
        ),
        # 16: classes in the head, the preprocessor, the dataset
        ('model = dict(head=dict(num_classes=1000))', 'tulip), but model.head.num_classes is 1000'),
        ('data_preprocessor = dict(num_classes=1000)', 'tulip), but data_preprocessor.num_classes is 1000'),
        # and what else stops a run
        ('train_dataloader = dict(batch_size=39)', '39 of 40 photos leaves a batch of one, which batch'),
        ('train_dataloader = dict(batch_size=64, drop_last=True)', 'batch_size: 64 with drop_last, but there are 40'),
        (
            'custom_hooks = [dict(type="BestCheckpointHook", metric="accuracy/top-1")]',
            "BestCheckpointHook.metric: validation gives no 'accuracy/top-1', but accuracy/top1, nll/mean; did you",
        ),
        (
            'default_hooks = dict(stop=dict(type="EarlyStoppingHook", monitor="acc"))',
            "EarlyStoppingHook.monitor: validation gives no 'acc'",
        ),
        ('param_scheduler = dict(_delete_=True, type="ReduceOnPlateauLR", monitor="loss")', "gives no 'loss'"),
        (
            'train_cfg = dict(max_epochs=5)\n'
            'param_scheduler = dict(_delete_=True, type="OneCycleLR", eta_max=0.01, total_steps=3,'
            ' by_epoch=True, convert_to_iter_based=True)',
            'param_scheduler: ValueError: Tried to step',
        ),
    ],
)  # fmt: skip
def test_mistakes_that_stop_the_run(text, said, dry_run, data):
    result = dry_run(text.replace('{data!r}', repr(str(data))))
    assert result.code == 2
    assert any(said in line for line in result.err.splitlines()), result.err
    assert all(line.startswith('error: ') for line in result.err.splitlines())


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        # 9: schedules that do not fit the run of 2 epochs, 10 iterations
        (
            'param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[1, 30, 60])',
            'milestones: 30, 60 not be',
        ),
        (
            'param_scheduler = dict(_delete_=True, type="CosineAnnealingLR", T_max=100)',
            'T_max: 100, but it runs for 2 ep',
        ),
        (
            'param_scheduler = dict(_delete_=True, type="CosineAnnealingLR", T_max=1)',
            'the lr rises again; set it to 2',
        ),
        (
            'param_scheduler = dict(_delete_=True, type="StepLR", step_size=7)',
            'step_size: 7, but it runs for 2 epochs',
        ),
        ('param_scheduler = [dict(type="LinearLR", begin=3, end=9)]', 'param_scheduler.0.begin: 3, but the run has 2'),
        (
            'param_scheduler = dict(_delete_=True, type="StepLR", step_size=1, by_epoch=False)',
            'step_size: 1 looks like epochs, but it runs for 10 iterations; set by_epoch=True',
        ),
        # 11: the channels the wrong way round
        ('data_preprocessor = dict(to_rgb=False)', 'data_preprocessor.to_rgb: not set, but photos are loaded as BGR'),
        ('data_preprocessor = dict(mean=[103.53, 116.28, 123.675])', 'looks like BGR, but to_rgb turns photos to RGB'),
        # and what else is to be looked at
        ('train_dataloader = dict(batch_size=64)', 'batch_size: 64 on 1 process(es), but there are 40 photos'),
    ],
)
def test_mistakes_that_are_warned_of(text, said, dry_run):
    result = dry_run(text)
    assert result.code == 1, result
    found = [line for line in warnings(result) if FROM_SCRATCH not in line]
    assert len(found) == 1, found
    assert said in found[0]


def test_a_class_without_training_photos(dry_run):
    found = warnings(dry_run('train_dataloader = dict(dataset=dict(indices=32))'))
    assert any(line.startswith('train_dataloader.dataset: no photo of tulip to learn from') for line in found)


def test_a_folder_that_is_there_is_no_placeholder(dry_run, data, tmp_path):
    (tmp_path / 'your_photos').symlink_to(data)
    assert dry_run('', '--data-root', tmp_path / 'your_photos').code == 1


def test_all_errors_are_told_at_once(dry_run):
    result = dry_run(
        'model = dict(head=dict(topk=(1, 5)))\n'
        'data_preprocessor = dict(num_classes=7, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])\n'
        + VAL.format('dict(type="RandomFlip", prob=0.5)')
    )
    assert len(result.err.splitlines()) == 4, result.err


def test_lr_for_training_from_scratch_and_where_it_comes_from(dry_run, trained):
    """Mistake 8: the value of the base config stays."""
    options = (f'load_from={trained.work_dir / "best.pth"}',)
    (found,) = warnings(dry_run('optim_wrapper = dict(optimizer=dict(lr=0.045))', options=options))
    assert 'optim_wrapper.optimizer.lr: 0.045 (from mine.py) is for training from scratch: with SGD' in found
    result = dry_run('', options=(*options, 'optim_wrapper.optimizer.lr=0.1'))
    assert '0.1 (from --cfg-options) is for training from scratch' in result.out


def copy_of(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / 'data'))


def test_a_split_that_was_run_again_into_its_folder(dry_run, data, tmp_path):
    """Mistake 2: photos of train stand in val under other names; a single one is warned of."""
    root = copy_of(data, tmp_path)
    lines = (root / 'train.txt').read_text().splitlines()[:3]
    for number, line in enumerate(lines):
        photo = line.split(' ')[0]
        shutil.copy(root / 'train' / photo, root / 'val' / photo.replace('.', f'_again{number}.'))
        with (root / 'val.txt').open('a') as file:
            file.write(line.replace('.', f'_again{number}.') + '\n')
    result = dry_run('', '--data-root', root)
    assert result.code == 2
    assert 'val_dataloader: 3 of its 18 photos are also in train' in result.error
    assert 'python tools/split_dataset.py PHOTOS NEW_FOLDER' in result.error


def test_fine_tuning_a_checkpoint_on_another_split(dry_run, trained, tmp_path, raw):
    """Mistake 3: a fresh split before fine-tuning on, so that val was trained on."""
    from custom_modules.datasets.splitting import split_dataset

    split_dataset(raw, tmp_path / 'anew', seed=7)
    result = dry_run('', '--data-root', tmp_path / 'anew', options=(f'load_from={trained.work_dir / "best.pth"}',))
    assert result.code == 1
    assert any('was trained on another split' in line and 'means nothing' in line for line in warnings(result))


def test_a_checkpoint_of_other_classes(dry_run, trained, tmp_path):
    checkpoint = torch.load(trained.work_dir / 'best.pth', weights_only=True)
    checkpoint['meta']['classes'] = ['cat', 'dog', 'cow', 'horse', 'bird']
    torch.save(checkpoint, tmp_path / 'other.pth')
    result = dry_run('', options=(f'load_from={tmp_path / "other.pth"}',))
    assert 'was trained for cat, dog, cow, horse, bird, not for daisy' in ' '.join(warnings(result))


@pytest.mark.parametrize('side', ['train', 'val'])
def test_an_unreadable_photo_in_the_first_batch_is_named(side, dry_run, data, tmp_path):
    root = copy_of(data, tmp_path)
    photo = root / side / (root / f'{side}.txt').read_text().split(' ')[0]
    photo.write_bytes(b'no photo')
    result = dry_run('', '--data-root', root)
    assert f'{photo}: no readable photo' in result.error


@pytest.mark.parametrize(
    ('name', 'old', 'new', 'said'),
    [
        ('val.txt', 'daisy/', 'dandelion/', 'val.txt:1: '),  # 5: index and name
        ('train.txt', '0\n', '0', 'train.txt:1: annotations without line breaks'),  # 6
        ('val.txt', '.jpg 0', '.jpg 7', 'val.txt:1: index 7 is out of range'),
        ('val.txt', 'daisy_0', 'other_0', 'val.txt:1: no file '),
        ('classes.txt', 'daisy', 'daisy 0', "classes.txt:1: 'daisy 0'"),  # 6
        ('classes.txt', 'daisy', 'train', "classes.txt:1: 'train' is a part of the split"),  # 1
    ],
)
def test_broken_annotations(name, old, new, said, dry_run, data, tmp_path):
    root = copy_of(data, tmp_path)
    file = root / name
    file.write_text(file.read_text().replace(old, new))
    result = dry_run('', '--data-root', root)
    assert result.code == 2
    assert said in result.err


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_not_warned_of(path, data, call, tmp_path, monkeypatch):
    """But for the lesson, whose learning rate is the mistake."""
    monkeypatch.setattr(preflight_hook, 'TIMED', 0)  # one step
    cfg = read_config(str(path), {}, str(data), None)
    cfg.model.backbone.pop('init_cfg')
    cfg.load_from = str(tmp_path / 'start.pth')
    cfg.experiment_name = f'shipped_{path.stem}'
    cfg.default_hooks.logger.interval = 1
    for name in ('train', 'val'):
        cfg[f'{name}_dataloader'].update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2  # the preflight times ten steps
    from mmpretrain.registry import MODELS

    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {}}, cfg.load_from)
    cfg.model.pop('data_preprocessor', None)
    cfg.dump(tmp_path / path.name)
    result = call('train', tmp_path / path.name, '--dry-run')
    found = warnings(result)
    if path.stem == 'flower_mobilenetv2_as_logged':
        assert result.code == 1
        assert len(found) == 1
        assert 'optim_wrapper.optimizer.lr: 0.045' in found[0]
    else:
        assert (result.code, found) == (0, []), result
