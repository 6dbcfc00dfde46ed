"""tools/test.py: its figures against an independent count, and what it refuses."""

import csv
import json
import math
import os
import re
import shutil

import pytest
import torch
from mmengine.registry import DefaultScope

from custom_modules.metrics.predictions import Proportion
from custom_modules.models.checkpoints import weights_digest

CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
LOAD, RESIZE = {'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (32, 32)}


@pytest.fixture
def best(trained, tmp_path):
    """A copy of the tiny run's best.pth, alone in a folder."""
    (tmp_path / 'tested').mkdir()
    return shutil.copy(trained.work_dir / 'best.pth', tmp_path / 'tested')


@pytest.fixture
def others(data, tmp_path):
    """A folder of OOD images: test images under other names, so that their scores are known."""
    (tmp_path / 'others' / 'deep').mkdir(parents=True)
    for number, photo in enumerate(sorted((data / 'val').glob('rose/*'))):
        shutil.copy(photo, tmp_path / 'others' / 'deep' / f'{number}.png')
    return 'others'


@pytest.fixture
def metrics(tmp_path):
    """A function that reads the metrics.json of the test before."""
    return lambda: json.loads((tmp_path / 'tested' / 'metrics.json').read_text())


@pytest.fixture
def with_steps(tiny_config, tmp_path):
    """A function that writes the tiny config with these transforms between loading and packing."""

    def write(*steps):
        config, pipeline = tmp_path / 'changed.py', [*steps, {'type': 'PackInputs'}]
        text = f'_base_ = {str(tiny_config)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n'
        config.write_text(text)
        return config

    return write


def changed(checkpoint, **meta):
    """The checkpoint with other values in its meta; None takes the key out."""
    content = torch.load(checkpoint, weights_only=True)
    content['meta'] = {key: value for key, value in {**content['meta'], **meta}.items() if value is not None}
    torch.save(content, checkpoint)
    return checkpoint


def test_figures_equal_a_recount_of_the_rows(best, tiny_config, data, call, tmp_path, metrics):
    result = call('test', tiny_config, best, '--out', 'out/rows.csv')
    assert result.code == 0, result.err
    with (tmp_path / 'out' / 'rows.csv').open(newline='') as file:
        table = list(csv.DictReader(file))
    listed = [line.rpartition(' ')[0] for line in (data / 'val.txt').read_text().splitlines()]
    assert [row['path'] for row in table] == [str(data / 'val' / path) for path in listed]
    assert [row['truth'] for row in table] == [path.split('/')[0] for path in listed]
    for row in table:
        scores = {name: float(row[f'score_{name}']) for name in CLASSES}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row['label'] == max(CLASSES, key=scores.get)
        assert float(row['score']) == max(scores.values())

    found, checkpoint = metrics(), torch.load(best, weights_only=True)
    right = sum(row['label'] == row['truth'] for row in table)
    top1, error = found['accuracy/top1'], found['error/top1']
    assert (top1['k'], top1['n'], top1['percent']) == (right, 15, pytest.approx(100 * right / 15))
    assert top1['percent'] == pytest.approx(checkpoint['meta']['value'])  # as in the training
    assert (error['k'], error['n'], error['percent']) == (15 - right, 15, pytest.approx(100 - top1['percent']))
    losses = [-math.log(float(row[f'score_{row["truth"]}'])) for row in table]
    assert found['nll/mean'] == pytest.approx(sum(losses) / 15, rel=1e-5)
    for name, figures in found['classes'].items():
        true_positives = sum(row['truth'] == row['label'] == name for row in table)
        assert (figures['recall']['k'], figures['recall']['n']) == (true_positives, 3)
        predicted = sum(row['label'] == name for row in table)
        assert (figures['precision']['k'], figures['precision']['n']) == (true_positives, predicted)
    assert found['weights'] == weights_digest(checkpoint['state_dict'])
    assert found['dataset'] == found['trained_on'] == json.loads((data / 'manifest.json').read_text())['digest']
    assert f'top-1 accuracy  {Proportion(right, 15)}\ntop-1 error     {Proportion(15 - right, 15)}' in result.out


def test_tta_averages_each_image_with_its_mirror_image(best, tiny_config, call, tmp_path, monkeypatch, with_steps):
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})  # as in a new process
    mirrored = with_steps(LOAD, RESIZE, {'type': 'RandomFlip', 'prob': 1.0})
    tables = []
    for config, *flags in ([tiny_config], [mirrored], [tiny_config, '--tta']):
        result = call('test', config, best, *flags, '--out', f'{len(tables)}.json')
        assert result.code == 0, result.err
        tables.append(json.loads((tmp_path / f'{len(tables)}.json').read_text()))
    for plain, mirror, tta in zip(*tables, strict=True):
        assert plain['path'] == tta['path']
        assert plain['score_rose'] != mirror['score_rose']
        for key in (f'score_{name}' for name in CLASSES):
            assert tta[key] == pytest.approx((plain[key] + mirror[key]) / 2, abs=1e-6)


def test_the_report(trained, tiny_config, data, others, call, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
    run = shutil.copytree(trained.work_dir, tmp_path / 'run')
    folder, config = run / 'report', (run / 'tiny.py').read_text()
    extras = ['--report', '--tta', '--robustness', '--ood', others, '--out', 'rows.json']
    assert f'written     {folder / "index.html"} (' in call('test', run / 'tiny.py', run / 'epoch_1.pth', *extras).out
    assert (run / 'tiny.py').read_text() == config
    assert (folder / 'metrics.json').read_bytes() == (run / 'metrics.json').read_bytes()
    table = json.loads((tmp_path / 'rows.json').read_text())
    with (folder / 'predictions.csv').open(newline='') as file:
        assert list(csv.DictReader(file)) == [{key: str(value) for key, value in row.items()} for row in table]

    page = (folder / 'index.html').read_text()
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL))
    wrong = [os.path.relpath(row['path'], data) for row in table if row['label'] != row['truth']]
    assert sorted(re.findall('<div class="path">(.*)</div>', sections['errors'])) == sorted(wrong)
    image = '<img src="data:image/jpeg;base64,'
    assert sections['errors'].count(image) == len(wrong)  # 32 pixels have no map
    assert sections['robustness'].count(image) == 7
    assert sections['ood'].count(image) == 3
    scores = [row['score'] for row in table if row['truth'] == 'rose']
    shown = re.findall(r'deep/(\d)\.png', sections['ood'])
    assert shown == sorted('012', key=lambda number: -scores[int(number)])
    assert 'optimizer=dict(' in page
    assert 'over the epochs' in page
    assert 'test-time augmentation' in page
    assert (folder / 'figures' / 'curves.png').is_file()
    card = (folder / 'epoch_1.pth.MODEL_CARD.md').read_text()
    metrics = json.loads((run / 'metrics.json').read_text())
    for text in (metrics['weights'], f'({metrics["accuracy/top1"]["k"]}/15, ', 'averaged with those of the mirror'):
        assert text in card

    result = call('test', tiny_config, run / 'epoch_2.pth', '--report')
    kept = 'epoch_1_tta_robustness_ood'
    assert f'kept        {run / f"metrics_{kept}.json"}, the results of another test' in result.out
    assert (run / f'report_{kept}' / 'index.html').read_text() == page
    assert json.loads((folder / 'metrics.json').read_text())['epoch'] == 2


def test_robustness_equals_a_test_of_changed_images(best, tiny_config, call, tmp_path, with_steps, metrics):
    turn = {'type': 'Rotate', 'angle': 90, 'prob': 1.0, 'random_negative_prob': 0.0}
    assert call('test', with_steps(LOAD, RESIZE, turn), best).code == 0
    expected = metrics()
    result = call('test', tiny_config, best, '--robustness')
    figures = metrics()
    conditions = {found['condition']: found for found in figures['robustness']['conditions']}
    assert (len(conditions), next(iter(conditions))) == (7, 'unchanged')
    plain, found = conditions['unchanged'], conditions['rotated by 90°']
    assert plain['accuracy/top1'] == figures['accuracy/top1']
    assert plain['calibration']['nll'] == pytest.approx(figures['nll/mean'], rel=1e-5)
    assert found['accuracy/top1'] == expected['accuracy/top1']
    assert found['calibration']['ece'] == pytest.approx(expected['ece/15_bins'], rel=1e-5)
    printed = [line.removeprefix('warning: ') for line in result.out.splitlines() if line.startswith('warning: ')]
    assert printed == figures['robustness']['collapses']
    assert result.code == bool(printed)
    assert re.search(r'^unchanged .*\n(.*\n){5}rotated by 90° ', result.out, re.MULTILINE)
    # MMEngine's own log of the test is still that of the unchanged images.
    log = max((tmp_path / 'tested').glob('2*/2*.json'))
    assert json.loads(log.read_text())['test/accuracy/top1'] == pytest.approx(figures['accuracy/top1']['percent'])


def test_ood_images_are_scored_as_test_images(best, tiny_config, others, call, tmp_path, metrics):
    (tmp_path / 'others' / 'text.jpg').write_text('no picture')
    result = call('test', tiny_config, best, '--ood', others, '--tta', '--out', 'rows.json')
    assert result.code == 1
    assert result.err.splitlines()[-1] == 'error: others/text.jpg: corrupt image, or not an image'
    table, found = json.loads((tmp_path / 'rows.json').read_text()), metrics()['ood']
    rows = [row for row in table if row['truth'] == 'rose']
    assert (found['folder'], found['photos'], found['unreadable']) == ('others', 3, 1)
    pairs = [(one['score'], other['score']) for one in table for other in rows]
    assert found['auroc'] == pytest.approx(sum((one > other) + (one == other) / 2 for one, other in pairs) / 45)
    assert '3 OOD images in others\n  AUROC of the highest score' in result.out
    # A test without OOD images keeps these results.
    assert 'metrics_best_tta_ood.json, the results of another test' in call('test', tiny_config, best).out


def test_pixels_that_cannot_be_changed_are_reported_before_the_test(best, call, tmp_path, with_steps):
    config = with_steps({**LOAD, 'to_float32': True}, RESIZE)
    assert 'here it gets float32 of shape (32, 32, 3)' in call('test', config, best, '--robustness').error
    assert os.listdir(tmp_path / 'tested') == ['best.pth']


def test_what_cannot_be_written_is_reported_before_the_test(best, tiny_config, call, monkeypatch, tmp_path):
    (tmp_path / 'mine.csv').write_text('mine')
    error = call('test', tiny_config, best, '--out', 'mine.csv').error
    assert error.endswith('--out mine.csv: exists already. Name another file, or delete it.')
    assert (tmp_path / 'mine.csv').read_text() == 'mine'
    with monkeypatch.context() as patch:
        patch.setattr('custom_modules.errors.find_spec', lambda name: None)
        error = call('test', tiny_config, best, '--report').error
    assert error.endswith("--report: grad-cam<2, Jinja2 not installed. Run: pip install 'grad-cam<2' Jinja2")
    (tmp_path / 'tested' / 'report').touch()
    assert 'is a file, not a folder' in call('test', tiny_config, best, '--report').error
    assert sorted(os.listdir(tmp_path / 'tested')) == ['best.pth', 'report']


def test_another_split_is_a_warning_and_exit_code_1(best, tiny_config, call, monkeypatch):
    loads = []
    load = torch.load
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs))
    result = call('test', tiny_config, changed(best, dataset_digest='0' * 64), '--amp')
    assert result.code == 1
    assert 'warning: trained on another split (000000000000)' in result.out
    assert 'top-1 accuracy' in result.out
    assert '--amp: no accelerator here, testing in full precision' in result.out
    assert len(loads) == 2  # one by changed(), one by the test


def test_unusable_checkpoints(best, tiny_config, call, tmp_path):
    best = tmp_path / 'tested' / 'best.pth'
    whole = best.read_bytes()

    def refusal(checkpoint=best, *options) -> str:
        before = sorted(tmp_path.rglob('*'))
        error = call('test', tiny_config, checkpoint, *options).error
        assert sorted(tmp_path.rglob('*')) == before
        best.write_bytes(whole)
        return error

    swapped = ['dandelion', 'daisy', 'rose', 'sunflower', 'tulip']
    error = refusal(changed(best, classes=swapped))
    assert 'was trained for dandelion, daisy, rose' in error
    assert 'Use the same names and order' in error
    assert 'holds no class names' in refusal(changed(best, classes=None, dataset_meta=None))
    narrow = ['--cfg-options', 'model.backbone.widen_factor=0.5']
    assert 'Use the config that it was trained with' in refusal(best, *narrow)
    assert 'no such file' in refusal(tmp_path / 'absent.pth')
    assert 'no such folder' in refusal(best, '--data-root', 'nowhere')
