"""Before the first step: datasets and weights that do not fit."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.preflight import (
    check_begins,
    check_classes,
    check_dataset,
    check_pipelines,
    check_pretrained,
    check_resume,
    check_weights,
    is_random,
)
from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'stem_channels': 4}


def config(name: str = 'flower_resnet18') -> Config:
    return read_config(str(CONFIGS / f'{name}.py'), {}, None, None)


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
    cfg.train_dataloader.dataset = {'type': 'RepeatDataset', 'times': 2, 'dataset': cfg.train_dataloader.dataset}
    resume({'dataset_digest': '0123456789abcdef'})  # which a wrapper has nothing to compare with


def test_a_changed_manifest_is_told_before_training(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    file = tmp_path / 'data' / 'manifest.json'
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    assert 'manifest.json: its digest is not that of its contents' in problems_of(tmp_path / 'data')


def test_a_loader_that_the_config_lacks(data):
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {'val_dataloader': None}, str(data), None)
    with pytest.raises(InputError, match='val_dataloader: the config has none; --no-validate trains without one'):
        check_dataset(cfg, ['train', 'val'])


def test_what_is_wrong_with_both_lists_and_the_classes_is_told_at_once(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    for side in ('train', 'val'):
        (tmp_path / 'data' / f'{side}.txt').write_text('rose/absent.jpg 0\n')
    told = problems_of(tmp_path / 'data', **{'model.head.num_classes': 3})
    for part in ('train.txt:1', 'val.txt:1', 'model.head.num_classes is 3'):
        assert part in told


def test_a_dataset_may_leave_out_what_has_a_default(data):
    cfg = read_config(str(CONFIGS / 'flower_resnet18.py'), {}, str(data), None)
    del cfg.train_dataloader.dataset['ann_file']
    cfg.train_dataloader.dataset.data_prefix = {'img_path': 'train'}
    assert len(check_dataset(cfg, ['train', 'val'])) == 5


def test_a_loader_without_batches(data):
    told = problems_of(data, **{'val_dataloader.batch_size': None})
    assert told.startswith('val_dataloader.batch_size: is None')


def test_schedules_that_begin_when_the_run_is_over():
    found = {
        epochs: check_begins(
            read_config(str(CONFIGS / 'flower_mobilenetv2_fast.py'), {'train_cfg.max_epochs': epochs}, None, None)
        )
        for epochs in (1, 2)
    }
    assert [line.partition(':')[0] for line in found[1]] == ['param_scheduler.1.begin']
    assert 'the run has 1 epochs' in found[1][0]
    assert found[2] == []


def test_upstreams_validation_pipelines_are_not_taken_for_random():
    import mmpretrain

    folder = Path(mmpretrain.__path__[0]) / '.mim' / 'configs'
    files = [*folder.glob('_base_/datasets/imagenet*.py'), *folder.glob('_base_/datasets/cub*.py')]
    assert len(files) > 20
    for file in files:
        cfg = Config.fromfile(file)
        if 'pipeline' in (cfg.get('val_dataloader') or {}).get('dataset', {}):
            assert check_pipelines(cfg) == [], file
            assert any(is_random(step) for step in cfg.train_dataloader.dataset.pipeline), file


@pytest.mark.parametrize(
    ('step', 'random'),
    [
        ({'type': 'RandomFlip', 'prob': 1.0}, False),  # how a test averages mirror images
        ({'type': 'RandomFlip', 'prob': 0.0}, False),
        ({'type': 'RandomFlip', 'prob': 0.5}, True),
        ({'type': 'Rotate', 'angle': 3, 'prob': 0}, False),
        ({'type': 'Rotate', 'angle': 3}, True),
        ({'type': 'torchvision/RandomCrop', 'size': 3}, True),
        ({'type': 'RandAugment'}, True),
        ({'type': 'CenterCrop', 'crop_size': 3}, False),
        ({'type': 'Resize', 'scale': 3}, False),
        ({'type': 'Pad'}, False),
    ],
)
def test_transforms_that_draw_at_random(step, random):
    assert is_random(step) is random
