"""Checks of datasets, pipelines and weights before a run is built."""

import re
import shutil
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from custom_modules.engine.preflight import (
    check_checkpoint,
    check_pipelines,
    describe_pretrained,
    is_random,
    same_content,
)
from custom_modules.engine.run import Run, prepare_run
from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'stem_channels': 4}


def prepare(root: Path, **options: object) -> Run:
    """A run of the ResNet18 config, without pretrained weights, on a dataset."""
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), options, str(root), None)
    cfg.model.backbone.pop('init_cfg')
    return prepare_run(cfg, ['train', 'val'])


def problems_of(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        prepare(root, **options)
    return str(caught.value)


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return Path(shutil.copytree(data, tmp_path / 'data'))


def test_folders_that_are_no_prepared_dataset(raw, copy, tmp_path):
    assert 'no such folder. Prepare it with: python tools/split_dataset.py RAW_PHOTOS' in problems_of(tmp_path / 'no')
    assert f'python tools/split_dataset.py {raw} data/flowers' in problems_of(raw)
    (copy / 'classes.txt').unlink()
    assert f'python tools/generate_metadata.py {copy}' in problems_of(copy)


def test_the_numbers_of_classes_follow_unless_a_person_set_them(copy, capsys):
    for subset in ('train', 'val'):
        file = copy / f'{subset}.txt'
        file.write_text(''.join(line for line in file.read_text().splitlines(True) if 'tulip' not in line))
    (copy / 'classes.txt').write_text('daisy\ndandelion\nrose\nsunflower\n')
    cfg = prepare(copy).cfg
    assert (cfg.model.head.num_classes, cfg.data_preprocessor.num_classes, cfg.num_classes) == (4, 4, 4)
    assert capsys.readouterr().out == f'4 classes, from {copy / "classes.txt"}\n'
    for chosen in ('model.head.num_classes=5', 'data_preprocessor.num_classes=1000'):  # FIELD.md, mistake 16
        (option,) = re.findall('Add: --cfg-options (.*)', problems_of(copy, **parse_options([chosen])))
        assert option == f'{chosen.partition("=")[0]}=4'


def test_a_changed_manifest_is_reported_before_training(copy):
    file = copy / 'manifest.json'
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    assert 'manifest.json: its digest is not that of its contents' in problems_of(copy)


def test_loaders_that_are_missing_or_give_no_batches(data):
    assert problems_of(data, val_dataloader=None) == (
        'val_dataloader: the config has none. Add one, or train with --no-validate.'
    )
    assert problems_of(data, **{'val_dataloader.batch_size': None}).startswith('val_dataloader.batch_size: is None')


def test_only_equal_bytes_are_a_leak(tmp_path):
    photos = [tmp_path / f'{number}.jpg' for number in range(300)]
    for number, photo in enumerate(photos):
        photo.write_bytes(f'{number:03}'.encode())  # all of one size
    paths = list(map(str, photos))
    assert same_content(paths[:150], paths[150:]) == []
    photos[299].write_bytes(photos[0].read_bytes())
    assert same_content(paths[:150], paths[150:]) == [paths[299]]


@pytest.fixture(scope='module')
def state() -> dict:
    return MODELS.build(dict(TINY)).state_dict()


def backbone(path: Path, prefix: str | None = None, **changed: object) -> dict:
    init = {'type': 'Pretrained', 'checkpoint': str(path), **({'prefix': prefix} if prefix else {})}
    return {**TINY, **changed, 'init_cfg': init}


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.', None])
def test_pretrained_weights_that_fit(prefix, state, tmp_path):
    path = tmp_path / 'w.pth'
    wanted = sum(not key.endswith('num_batches_tracked') for key in state)
    named = {f'backbone.{key}': value for key, value in state.items()}
    torch.save({'state_dict': named, 'meta': {'note': 'hm'}} if prefix else state, path)  # or a bare state dict
    described = f'{path}, {wanted}/{wanted} of the backbone' + ('; hm' if prefix else '')
    assert describe_pretrained(backbone(path, prefix)) == described


@pytest.mark.parametrize(
    ('prefix', 'changed'),
    [
        ('backbone', {}),  # not that of this checkpoint
        (None, {'depth': 34}),
        (None, {'base_channels': 8}),  # same names, other shapes
    ],
)
def test_pretrained_weights_that_do_not_fit(prefix, changed, state, tmp_path):
    torch.save(state, tmp_path / 'w.pth')
    with pytest.raises(InputError, match=r'weights of the ResNet backbone\. Import its weights'):
        describe_pretrained(backbone(tmp_path / 'w.pth', prefix, **changed))


def test_five_percent_may_be_missing(state, tmp_path):
    keys = [key for key in state if not key.endswith('num_batches_tracked')]
    allowed = len(keys) // 20
    torch.save({key: state[key] for key in keys[allowed:]}, tmp_path / 'w.pth')
    assert describe_pretrained(backbone(tmp_path / 'w.pth'))
    torch.save({key: state[key] for key in keys[allowed + 1 :]}, tmp_path / 'w.pth')
    with pytest.raises(InputError):
        describe_pretrained(backbone(tmp_path / 'w.pth'))


def test_a_trained_checkpoint_has_to_fit_whole():
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {}, None, None)
    cfg.model.backbone.update(TINY)
    cfg.model.head.in_channels = 32
    cfg.load_from = 'x'
    checkpoint = {'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'classes': ['daisy', 'rose']}}
    run = Run(cfg, {'test': None}, checkpoint)
    assert list(check_checkpoint(run)) == []
    checkpoint['state_dict'].pop('head.fc.bias')
    ((level, text),) = check_checkpoint(run)
    assert level == 'error'
    assert text.endswith('of the 102 weights of the ImageClassifier. Use the config that it was trained with.')


def test_upstreams_validation_pipelines_are_not_taken_for_random():
    folder = Path(mmpretrain.__path__[0]) / '.mim' / 'configs'
    files = [*folder.glob('_base_/datasets/imagenet*.py'), *folder.glob('_base_/datasets/cub*.py')]
    assert len(files) > 20
    for file in files:
        cfg = Config.fromfile(file)
        if 'pipeline' in (cfg.get('val_dataloader') or {}).get('dataset', {}):
            assert list(check_pipelines(Run(cfg, {}))) == [], file
            assert any(is_random(step) for step in cfg.train_dataloader.dataset.pipeline), file


@pytest.mark.parametrize(
    ('step', 'random'),
    [
        ({'type': 'RandomFlip', 'prob': 1.0}, False),  # how a test averages mirror images
        ({'type': 'RandomFlip', 'prob': 0.5}, True),
        ({'type': 'Rotate', 'angle': 3, 'prob': 0}, False),
        ({'type': 'Rotate', 'angle': 3}, True),
        ({'type': 'torchvision/RandomCrop', 'size': 3}, True),
        ({'type': 'RandAugment'}, True),
        ({'type': 'AutoAugment', 'policies': 'imagenet'}, True),
        ({'type': 'ColorJitter', 'brightness': 0.2}, True),
        ({'type': 'RandomRotateTranslate'}, True),
        ({'type': 'CenterCrop', 'crop_size': 3}, False),
    ],
)
def test_transforms_that_draw_at_random(step, random):
    assert is_random(step) is random
