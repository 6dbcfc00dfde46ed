"""The model card: every figure has its source, unknown values are called so, and it renders."""

import html
import json
import re
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from custom_modules.evaluation.model_card import card_path, find_manifest, model_card
from custom_modules.evaluation.out_of_distribution import ood_figures
from custom_modules.evaluation.results import figures
from custom_modules.evaluation.robustness import PLAIN, robustness_figures
from custom_modules.metrics.predictions import Prediction
from custom_modules.models.model_file import ModelFile
from custom_modules.models.weights_catalogue import LICENCES

HEADINGS = [
    *('Model details', 'Intended use', 'Training data', 'Recipe', 'Metrics', 'Calibration'),
    *('Robustness', 'Out of distribution', 'Limits', 'Licences'),
]
CLASSES = ['daisy', 'a|b', '<b>_x_*y*`z`']  # names that a table, HTML or Markdown would take for something else
CONFIG = """
model = dict(backbone=dict(type='MobileNetV2', widen_factor=1.0), head=dict(num_classes=3))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(ema=dict(type='EMAHook', momentum=0.02))
pretrained = None
train_cfg = dict(max_epochs=20)
train_dataloader = dict(dataset=dict(data_root='data/flowers'))
"""
META = {
    'classes': CLASSES,
    'config': CONFIG,
    'metric': 'accuracy/top1',
    'value': 75.0,
    'photos': 12,
    'epoch': 3,
    'seed': 7,
    'dataset_digest': 'd' * 64,
    'run': 'flowers_20260101',
    'versions': {'torch': '2.14'},
}
MANIFEST = {
    'classes': CLASSES,
    'seed': 5,
    'ratio': 0.8,
    'counts': {
        'train': dict(zip(CLASSES, (40, 30, 20), strict=True)),
        'val': dict(zip(CLASSES, (4, 5, 6), strict=True)),
    },
    'files': {'train/daisy/a.jpg': {'sha256': '0', 'phash': '0'}},
    'groups': [['a', 'b']],
    'left_out': [],
    'digest': 'd' * 64,
}


@pytest.fixture(scope='module')
def results():
    """Of 12 images, 9 of them correct, of their darker versions, and of 4 OOD images."""
    scores = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
    predictions = [Prediction(str(i), scores[i % 3], i % 3 if i < 9 else (i + 1) % 3) for i in range(12)]
    dark = [prediction._replace(scores=[0.95, 0.04, 0.01]) for prediction in predictions]
    others = [Prediction(str(i), [score, 1 - score, 0.0]) for i, score in enumerate([0.55, 0.65, 0.75, 0.98])]
    return {
        **figures(predictions, CLASSES),
        'nll/mean': 0.75,
        'dataset': 'd' * 64,
        'tested': 'val.txt',
        'tta': False,
        'robustness': robustness_figures({PLAIN: predictions, 'dark': dark}, CLASSES),
        'ood': ood_figures(predictions, others, None, '/somewhere/furniture'),
    }


def model(meta=META):
    """A checkpoint of 2230277 parameters."""
    weights = {'w': torch.zeros(2230277), 'bn.running_mean': torch.zeros(3)}
    return ModelFile(Path('best.pth'), meta['classes'], meta, 'e' * 64, {'meta': meta, 'state_dict': weights})


def sections(card):
    """The text under each heading."""
    names = re.findall(r'^## (.*)$', card, re.MULTILINE)
    return dict(zip(names, re.split(r'^## .*$', card, flags=re.MULTILINE)[1:], strict=True))


def test_known_values(results):
    files = [('a.onnx', bytes(9_200_000), 'top-1 identical')]
    card = model_card('best.pth', model(), results, MANIFEST, files)
    assert card.startswith('# Model card: flowers_20260101, best.pth\n')
    found = sections(card)
    assert list(found) == HEADINGS
    low, high = results['accuracy/top1']['wilson95']
    scaling = results['temperature_scaling']
    expected = {
        'Model details': [
            *('2,230,277', '`flowers_20260101`', '3 of at most 20', '| 7 |', 'trained from scratch'),
            *('e' * 64, sha256(files[0][1]).hexdigest(), '9.2 MB'),
        ],
        'Training data': ['| all | 90 | 15 |', 'seed 5, 80 %', '1 groups of near-duplicates'],
        'Recipe': ['`SGD(lr=0.001)`', '`EMAHook(momentum=0.02)`'],
        'Metrics': [
            f'| top-1 accuracy | 75.00 % (9/12, {low:.2f}–{high:.2f}) |',
            'Epoch 3 was chosen for its `accuracy/top1` on the validation images of this dataset',
            'somewhat too high',
        ],
        'Calibration': [f'{100 * scaling["after"]["ece"]:.2f} %', f'{scaling["temperature"]:.3f}'],
        'Robustness': ['| dark | ', *(line.partition(' images ')[0] for line in results['robustness']['collapses'])],
        'Out of distribution': [
            '4 images of `furniture`',
            '| 0.9 | 0.00 % (0/12, 0.00–24.25) | 25.00 % (1/4, ',
            '| 0.5000 | at least 95 % | 100.00 % (4/4, ',
        ],
        'Limits': ['20 of &#60;b&#62;'],
        'Licences': [f'| torch {version("torch")} | '],
    }
    for heading, values in expected.items():
        assert [value for value in values if value not in found[heading]] == []
    assert 'not known' not in found['Metrics'] + found['Calibration'] + found['Robustness']


def test_unknown_values():
    card = model_card('epoch_3.pth', model({'classes': ['a', 'b']}))
    found = sections(card)
    assert list(found) == HEADINGS
    assert found['Model details'].count('not known') == 6
    assert 'The number of images per class is not known' in found['Training data']
    assert 'The settings are not known' in found['Recipe']
    for heading in ('Metrics', 'Calibration', 'Robustness', 'Out of distribution'):
        assert found[heading].strip().startswith('Not tested')
    assert not re.search(r'\bNone\b|\d %', card)


def test_an_untested_best_epoch_gives_its_own_score_and_temperature():
    found = sections(model_card('best.pth', model({**META, 'temperature': 1.25})))
    assert 'top-1 accuracy of 75.00 % (9/12, ' in found['Metrics']
    assert 'by which its epoch was chosen' in found['Metrics']
    assert 'carry the temperature 1.250' in found['Calibration']


def test_limits_of_the_figures(results):
    other = sections(model_card('best.pth', model(), {**results, 'dataset': 'c' * 64, 'tta': True}))
    assert 'somewhat too high' not in other['Metrics']
    assert 'mirror image' in other['Metrics']
    assert 'may have been trained on' in other['Limits']
    not_compared = {**MANIFEST, 'files': {'train/daisy/a.jpg': {'sha256': '0'}}}
    assert 'were not compared' in model_card('a', model(), results, not_compared)
    epoch = {key: value for key, value in META.items() if key != 'metric'}
    assert 'is not known' in sections(model_card('epoch_3.pth', model(epoch), results))['Metrics']
    scaling = results['temperature_scaling']
    worse = {**scaling, 'after': {**scaling['after'], 'nll': 9.0}}
    for found, text in ((worse, 'on other images: it does not lower the NLL.'), (None, 'too few images')):
        assert text in model_card('a', model(), {**results, 'temperature_scaling': found})


def test_names_survive_as_they_are(results):
    markdown = pytest.importorskip('markdown_it', reason='rich brings it')
    card = model_card('best.pth', model(), results, MANIFEST)
    page = markdown.MarkdownIt('commonmark').enable('table').render(card)
    assert page.count('<table>') == 9
    for table in page.split('<table>')[1:]:
        assert len({row.count('<t') for row in re.findall('<tr>.*?</tr>', table, re.DOTALL)}) == 1
    shown = html.unescape(re.sub('<[^>]+>', '', page))
    assert ', '.join(CLASSES) in shown
    assert '**' not in shown


def test_the_manifest_is_found_by_its_digest(data, tmp_path):
    digest = json.loads((data / 'manifest.json').read_text())['digest']
    config = f'train_dataloader = dict(dataset=dict(data_root={str(data)!r}))\n'
    meta = {'classes': ['a'], 'dataset_digest': digest, 'config': config}
    bare = {'classes': ['a'], 'dataset_digest': digest}
    assert find_manifest(model(meta), tmp_path)['digest'] == digest
    assert find_manifest(model(bare), data)['digest'] == digest
    assert find_manifest(model(bare)) is None
    assert find_manifest(model({**meta, 'dataset_digest': 'd' * 64}), data) is None
    (tmp_path / 'manifest.json').write_text('{')
    assert find_manifest(model(bare), tmp_path) is None


def test_path_and_licences():
    assert card_path(Path('out/a.b.onnx')) == Path('out/a.b.onnx.MODEL_CARD.md')
    readme = ' '.join((Path(__file__).parents[2] / 'checkpoints' / 'README.md').read_text().split())
    assert f'Licences: {LICENCES}' in readme
    for weights, licensed in {'checkpoints/resnet18.pth, 120/120 of the backbone': True, 'mine.pth': False}.items():
        assert (LICENCES in model_card('a', model({'classes': ['a'], 'pretrained': weights}))) == licensed
