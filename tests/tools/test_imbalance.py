"""Three classes of 40, 10 and 4 photos: class weights, MMPretrain's ClassBalancedDataset and its CustomDataset."""

import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from custom_modules.datasets.splitting import split_dataset

COUNTS = {'a': 40, 'b b': 10, 'ç': 4}


@pytest.fixture(scope='module')
def prepared(make_once):
    """The prepared dataset of noise pictures: 32, 8 and 3 photos to train on."""

    def fill(folder):
        random = np.random.default_rng(0)
        for label, (name, count) in enumerate(COUNTS.items()):
            (folder / 'raw' / name).mkdir(parents=True)
            for number in range(count):
                small = random.integers(60 * label, 60 * label + 100, (12, 12, 3), np.uint8)
                Image.fromarray(small).resize((48, 48)).save(folder / 'raw' / name / f'{number}.png')
        split_dataset(folder / 'raw', folder / 'data')

    return make_once('imbalanced', fill) / 'data'


@pytest.fixture
def write(tiny_config, tmp_path):
    """A function that writes a config of three classes and one epoch with other settings of datasets."""

    def make(train, val=None, wrapper=''):
        text = f"""
_base_ = {str(tiny_config)!r}
model = dict(head=dict(num_classes=3))
data_preprocessor = dict(num_classes=3)
train_cfg = dict(max_epochs=1)
train = dict({train}, pipeline={{{{_base_.train_pipeline}}}})
train_dataloader = dict(dataset=dict({wrapper}dataset=train) if {bool(wrapper)} else dict(_delete_=True, **train))
"""
        if val:
            text += f"""
val_dataloader = dict(dataset=dict(_delete_=True, {val}, pipeline={{{{_base_.test_pipeline}}}}))
test_dataloader = val_dataloader
"""
        (tmp_path / 'own.py').write_text(text)
        return 'own.py'

    return make


def settings_of(out):
    """The table of effective settings."""
    return dict(re.findall(r'^(\w[\w ]*?)  +(.*)$', out, re.MULTILINE))


def test_balanced_weights_and_repeated_photos(prepared, write, call, tmp_path):
    flowers, wrapper = "type='FlowerDataset'", "_delete_=True, type='ClassBalancedDataset', oversample_thr=0.4, "
    config = write(flowers, wrapper=wrapper)
    flags = ['--class-weights', 'balanced', '--cfg-options', 'train_dataloader.batch_size=9']
    result = call('train', config, '--data-root', prepared, '--work-dir', 'run', *flags)
    assert result.code == 0, result.err
    shown = settings_of(result.out)
    assert shown['train photos'] == '57: a 32, b b 16, ç 9'  # each twice or three times
    assert shown['class weights'] == 'a 0.594, b b 1.19, ç 2.11'
    assert shown['data'] == str(prepared)
    expected = [57 / (3 * count) for count in (32, 16, 9)]
    meta = torch.load(tmp_path / 'run' / 'best.pth', weights_only=True)['meta']
    for saved in (Config.fromfile(tmp_path / 'run' / 'own.py'), Config.fromstring(meta['config'], '.py')):
        assert saved.model.head.loss.class_weight == pytest.approx(expected)
    assert meta['dataset_digest'] == json.loads((prepared / 'manifest.json').read_text())['digest']
    result = call('test', 'run/own.py', 'run/best.pth')
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    recalls = [found['recall']['percent'] for found in metrics['classes'].values()]
    assert metrics['accuracy/balanced'] == pytest.approx(sum(recalls) / 3)
    assert f'balanced        {sum(recalls) / 3:.2f} % (mean recall), macro F1' in result.out


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ("model['head']['loss'] = dict(_delete_=True, type='FocalLoss')", 'a FocalLoss takes no class weights'),
        ("train['indices'] = 20", 'no photo of b b, ç, so the loss cannot be balanced'),
        ('', "is 'balance'. Give 'balanced', or a number for each class"),
    ],
)
def test_a_loss_that_cannot_be_balanced(line, said, prepared, write, call, tmp_path):
    config = tmp_path / write("type='FlowerDataset'")
    config.write_text(config.read_text().replace('train_dataloader', f'{line}\ntrain_dataloader'))
    flags = ['--class-weights', 'balanced'] if line else ['--cfg-options', 'model.head.loss.class_weight=balance']
    assert said in call('train', config, '--data-root', prepared, '--work-dir', 'run', *flags).error
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'settings',
    [
        "data_root='{0}', data_prefix='{1}'",
        "data_prefix='{0}/{1}'",
        "data_root='{0}', ann_file='{1}.txt', data_prefix='{1}', classes=['a', 'b b', 'ç']",
    ],
    ids=['data_root', 'data_prefix', 'ann_file'],
)
def test_custom_dataset_in_every_tool(settings, prepared, write, call, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
    train, val = (f"type='CustomDataset', {settings.format(prepared, side)}" for side in ('train', 'val'))
    result = call('train', write(train, val), '--work-dir', 'run')
    assert result.code == 0, result.err
    assert settings_of(result.out)['classes'] == '3: a, b b, ç'
    assert settings_of(result.out)['data'].startswith(str(prepared))
    result = call('test', 'run/own.py', 'run/best.pth', '--report')
    assert result.code == 0, result
    assert 'top-1 accuracy  ' in result.out
    assert 'No manifest.json, so no digest' in (tmp_path / 'run' / 'report' / 'index.html').read_text()
    assert call('predict', prepared / 'val' / 'a', '--checkpoint', 'run/best.pth').code == 0
    result = call('test', write(train, train), 'run/best.pth', '--work-dir', 'other')
    assert 'warning: tested on the training images' in result.out


def test_unusable_custom_datasets(prepared, write, call, tmp_path):
    def error(train, val, *arguments):
        config = write(*(f"type='CustomDataset', {text}" for text in (train, val)))
        return call('train', config, '--work-dir', 'run', *arguments).error

    here = f"data_prefix='{prepared}/val'"
    assert "No such file or directory: 'nowhere'" in error("data_prefix='nowhere'", here)
    assert f'has its folder in data_prefix ({prepared}/val). Set that.' in error(here, here, '--data-root', tmp_path)
    assert 'photos without labels. Set with_label=True' in error(
        f"data_prefix='{prepared}/train', with_label=False", here
    )
    for name in 'abc':
        (tmp_path / 'own' / name).mkdir(parents=True)
        (tmp_path / 'own' / name / '0.png').write_text(f'no picture of {name}')
    assert 'own/a/0.png: ' in error("data_root='own'", here)
    assert not (tmp_path / 'run' / 'best.pth').exists()
