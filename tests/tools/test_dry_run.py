"""Each common mistake, made as people made it, and the message of tools/train.py --dry-run."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from custom_modules.datasets.splitting import split_dataset
from custom_modules.engine.hooks import preflight_hook
from custom_modules.engine.hooks.preflight_hook import DryRunDone, PreflightHook
from custom_modules.engine.run import prepare_run
from custom_modules.engine.run_config import read_config
from custom_modules.engine.runner import PreparedRunner

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
    assert [line.partition('. ')[0] for line in warnings(result)] == [FROM_SCRATCH]
    rows = dict(re.findall(r'^([a-z]+(?: [a-z]+)?)  +(.*)$', result.out, re.MULTILINE))
    assert rows['model'] == 'MobileNetV2 → GlobalAveragePooling → LinearClsHead'
    assert re.fullmatch(r'([\d,]+) trainable of \1', rows['parameters'])
    assert rows['weights'] == 'none: trained from scratch'
    assert rows['classes'] == '5: daisy, dandelion, rose, sunflower, tulip'
    assert rows['train photos'] == '40: daisy 8, dandelion 8, rose 8, sunflower 8, tulip 8'
    assert rows['val photos'].startswith('15: daisy 3,')
    assert rows['batch'] == '8 × 1 process(es) × 1 accumulated = 8 photos per step'
    assert rows['optimizer'] == 'SGD, momentum 0.9, weight_decay 4e-05'
    assert rows['lr'] == 'first 0.02, peak 0.02, last 0.0196 (StepLR)'
    assert rows['length'] == '2 epochs × 5 iterations = 10'
    assert rows['train pipeline'].startswith('LoadRandomResizedCrop(scale=(32, 32)), RandomFlip(prob=0.5), PackInputs')
    assert rows['metrics'] == 'accuracy/top1, nll/mean'
    assert rows['device'].startswith('cpu, float32')
    assert re.search(r's per step \(4 timed\): 0:00:\d\d h without validation', rows['time'])
    assert not list(tmp_path.iterdir())


def test_without_warnings_the_code_is_0(dry_run, trained):
    text = 'optim_wrapper = dict(optimizer=dict(lr=0.001))'
    result = dry_run(text, options=(f'load_from={trained.work_dir / "best.pth"}',))
    assert (result.code, warnings(result)) == (0, [])
    assert f'weights         {trained.work_dir / "best.pth"}' in result.out


VAL = 'val_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadImageFromFile"), {}, dict(type="PackInputs")]))'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        # 1: the prepared folder, read by a dataset that takes its subfolders for classes
        (
            'train_dataloader = dict(dataset=dict(_delete_=True, type="CustomDataset", data_prefix={data!r},'
            ' pipeline=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=32), dict(type="PackInputs")]))',
            'train_dataloader.dataset: its classes are train, val: the folders of a split',
        ),
        # an error that only an image in the pipeline shows
        (
            'train_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadRandomResizedCrop", scale=32, '
            'aspect_ratio_range=(0, 0)), dict(type="PackPhoto")]))',
            'photos of train_dataloader through dataset.pipeline',
        ),
        # 4: augmentation on val
        (VAL.format('dict(type="RandomResizedCrop", scale=32)'), 'RandomResizedCrop changes photos at random'),
        # 10: weights missing
        (
            'model = dict(backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", '
            'checkpoint="checkpoints/mobilenet_v2.pth")))',
            'checkpoints/mobilenet_v2.pth: no such file. Get it with: python tools/fetch_weights.py mobilenet_v2',
        ),
        # 11: mean and std of pixels scaled to 0-1, or the other way round
        (
            'data_preprocessor = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])',
            'values up to 1.1',
        ),
        (
            'train_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadImageFromFile"), '
            'dict(type="Resize", scale=(32, 32)), dict(type="torchvision/ToTensor"), dict(type="PackInputs")]))',
            'data_preprocessor: the input has standard deviation 0.0',
        ),
        ('data_preprocessor = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])', 'about 1 and 3 are usual'),
        ('log_level = "foo"', "log_level: KeyError: 'foo'"),
        (
            'visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="WandbVisBackend")])',
            'WandbVisBackend: wandb not installed. Run: pip install wandb',
        ),
        # 12: top-5 of five classes
        ('val_evaluator = [dict(type="Accuracy", topk=(1, 5))]', 'val_evaluator.0.topk: top-5 of 5 classes is always'),
        # 14: paths to be filled in, or of somebody else's machine
        ('load_from = "/path/to/weights.pth"', "load_from: '/path/to/weights.pth' is a placeholder"),
        (
            'train_dataloader = dict(dataset=dict(data_root="/home/nobody_here/flower_dataset"))',
            "train_dataloader.dataset.data_root: '/home/nobody_here/flower_dataset' is on somebody else's machine",
        ),
        # 16: classes in the head and the dataset
        ('model = dict(head=dict(num_classes=1000))', 'head.num_classes: is 1000, but the dataset has 5 classes'),
        # and other errors
        ('train_dataloader = dict(batch_size=39)', '39 of 40 photos leaves a batch of one: ValueError'),
        ('train_dataloader = dict(batch_size=64, drop_last=True)', 'batch_size: 64 with drop_last, but there are 40'),
        (
            'custom_hooks = [dict(type="BestCheckpointHook", metric="accuracy/top-1")]',
            "BestCheckpointHook.metric: validation gives no 'accuracy/top-1'. Choose one of: accuracy/top1, nll/mean",
        ),
        (
            'default_hooks = dict(stop=dict(type="EarlyStoppingHook", monitor="acc"))\n'
            'param_scheduler = dict(_delete_=True, type="ReduceOnPlateauLR", monitor="loss")',
            "EarlyStoppingHook.monitor: validation gives no 'acc'",
        ),
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
        # 9: a schedule that does not fit the run of 2 epochs
        (
            'param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[1, 30, 60])',
            'param_scheduler: MultiStepLR.milestones [30, 60] are not before the end of 2 epochs',
        ),
        # 11: the channels the wrong way round
        ('data_preprocessor = dict(to_rgb=False)', 'to_rgb=False gives BGR, but the mean [123.675'),
        ('data_preprocessor = dict(mean=[103.53, 116.28, 123.675])', 'to_rgb=True gives RGB, but the mean [103.53'),
        # and other warnings
        ('train_dataloader = dict(dataset=dict(indices=32))', 'train_dataloader.dataset: no photo of tulip to learn'),
    ],
)
def test_mistakes_that_are_warned_of(text, said, dry_run):
    result = dry_run(text)
    assert result.code == 1, result
    (found,) = [line for line in warnings(result) if 'no pretrained weights' not in line]
    assert said in found


def test_a_folder_that_is_there_is_no_placeholder(dry_run, data, tmp_path):
    (tmp_path / 'your_photos').symlink_to(data)
    assert dry_run('', '--data-root', tmp_path / 'your_photos').code == 1


def test_lr_for_training_from_scratch(dry_run, trained):
    """Mistake 8: the value of the base config stays."""
    options = (f'load_from={trained.work_dir / "best.pth"}',)
    (found,) = warnings(dry_run('optim_wrapper = dict(optimizer=dict(lr=0.045))', options=options))
    assert 'optim_wrapper.optimizer.lr: 0.045, peak 0.045, is for training from scratch: SGD' in found


def copy_of(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / 'data'))


def test_a_split_that_was_run_again_into_its_folder(dry_run, data, tmp_path):
    """Mistake 2: photos of train are in val under other names."""
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
    split_dataset(raw, tmp_path / 'again', seed=7)
    result = dry_run('', '--data-root', tmp_path / 'again', options=(f'load_from={trained.work_dir / "best.pth"}',))
    assert result.code == 1
    assert any('was trained on another split' in line for line in warnings(result))


def test_a_checkpoint_of_other_classes(dry_run, trained, tmp_path):
    checkpoint = torch.load(trained.work_dir / 'best.pth', weights_only=True)
    checkpoint['meta']['classes'] = ['cat', 'dog', 'cow', 'horse', 'bird']
    torch.save(checkpoint, tmp_path / 'other.pth')
    result = dry_run('', options=(f'load_from={tmp_path / "other.pth"}',))
    assert 'was trained for cat, dog, cow, horse, bird, but ' in ' '.join(warnings(result))


@pytest.mark.parametrize('side', ['train', 'val'])
def test_an_unreadable_photo_in_the_first_batch_is_named(side, dry_run, data, tmp_path):
    root = copy_of(data, tmp_path)
    photo = root / side / (root / f'{side}.txt').read_text().split(' ')[0]
    photo.write_bytes(b'no photo')
    result = dry_run('', '--data-root', root)
    assert f'{photo}: no readable photo' in result.error


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_not_warned_of(path, data, tmp_path, monkeypatch):
    """Except the recipe whose learning rate is the mistake."""
    monkeypatch.setattr(preflight_hook, 'try_batches', lambda runner: {})
    monkeypatch.setattr(preflight_hook, '_time', lambda runner: '')
    cfg = read_config(str(path), {}, str(data), str(tmp_path))
    for key in ('init_cfg', 'pretrained'):
        cfg.model.backbone.pop(key, None)
    cfg.pretrained = 'weights'  # as if loaded
    cfg.experiment_name = f'shipped_{path.stem}'
    cfg.train_dataloader.batch_size = 32
    for name in ('train', 'val'):
        cfg[f'{name}_dataloader'].update(num_workers=0, persistent_workers=False)
    run = prepare_run(cfg, ['train', 'val'])
    runner = PreparedRunner.from_run(run)
    runner.register_hook(PreflightHook(run, dry_run=True))
    with pytest.raises(DryRunDone):
        runner.train()
    expected = ['optim_wrapper.optimizer.lr: 0.045'] if path.stem == 'flower_mobilenetv2_as_logged' else []
    assert [warning[:33] for warning in run.warnings] == expected
