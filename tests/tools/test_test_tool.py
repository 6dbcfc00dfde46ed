"""tools/test.py: its figures against an independent count, and what it refuses."""

import csv
import json
import math
import os
import re
import shutil
from importlib.util import find_spec

import pytest
import torch
from mmengine.registry import DefaultScope

from custom_modules.metrics.predictions import Proportion
from custom_modules.models.checkpoints import weights_digest

REPORT = ['--report'] if find_spec('pytorch_grad_cam') else []  # an extra
CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


@pytest.fixture
def best(trained, tmp_path):
    """A copy of the tiny run's best.pth, alone in a folder."""
    (tmp_path / 'tested').mkdir()
    return shutil.copy(trained.work_dir / 'best.pth', tmp_path / 'tested')


def changed(checkpoint, **meta):
    """The checkpoint with other values in its meta; None takes the key out."""
    content = torch.load(checkpoint, weights_only=True)
    content['meta'] = {key: value for key, value in {**content['meta'], **meta}.items() if value is not None}
    torch.save(content, checkpoint)
    return checkpoint


def test_figures_equal_a_recount_of_the_rows(best, tiny_config, data, call, tmp_path):
    result = call('test', tiny_config, best, '--out', 'out/rows.csv')
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / 'tested' / 'metrics.json').read_text())
    with (tmp_path / 'out' / 'rows.csv').open(newline='') as file:
        table = list(csv.DictReader(file))

    assert metrics['weights'] == weights_digest(torch.load(best, weights_only=True)['state_dict'])
    listed = [line.rpartition(' ')[0] for line in (data / 'val.txt').read_text().splitlines()]
    assert [row['path'] for row in table] == [str(data / 'val' / path) for path in listed]
    assert [row['truth'] for row in table] == [path.split('/')[0] for path in listed]
    right, nll = 0, 0.0
    for row in table:
        scores = {name: float(row[f'score_{name}']) for name in CLASSES}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row['label'] == max(CLASSES, key=scores.get)
        assert float(row['score']) == max(scores.values())
        right += row['label'] == row['truth']
        nll -= math.log(scores[row['truth']])

    top1, error = metrics['accuracy/top1'], metrics['error/top1']
    assert (top1['k'], top1['n'], top1['percent']) == (right, 15, pytest.approx(100 * right / 15))
    assert top1['wilson95'] == pytest.approx(Proportion(right, 15).interval)
    assert error['percent'] == pytest.approx(100 - top1['percent'])
    assert (error['k'], error['n']) == (15 - right, 15)
    assert metrics['nll/mean'] == pytest.approx(nll / 15, rel=1e-5)
    for name, figures in metrics['classes'].items():
        true_positives = sum(row['truth'] == row['label'] == name for row in table)
        assert figures['recall']['k'] == figures['precision']['k'] == true_positives
        assert figures['recall']['n'] == 3
        assert figures['precision']['n'] == sum(row['label'] == name for row in table)
    # It is the very checkpoint that won the training.
    assert top1['percent'] == pytest.approx(torch.load(best, weights_only=True)['meta']['value'])
    assert metrics['dataset'] == metrics['trained_on'] == json.loads((data / 'manifest.json').read_text())['digest']

    low, high = Proportion(right, 15).interval
    percent = f'{100 * right / 15:.2f} % ({right}/15, 95 % interval {low:.2f}-{high:.2f})'
    assert f'top-1 accuracy  {percent}' in result.out
    assert re.search(rf'top-1 error     {100 - 100 * right / 15:.2f} % \({15 - right}/15, ', result.out)


def test_tta_averages_each_photo_with_its_mirror_image(best, tiny_config, call, tmp_path, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})  # as in a new process
    mirrored = tmp_path / 'mirrored.py'
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (32, 32)},
        {'type': 'RandomFlip', 'prob': 1.0},
        {'type': 'PackInputs'},
    ]
    mirrored.write_text(
        f'_base_ = {str(tiny_config)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n'
    )
    tables = {}
    for name, argv in {'plain': [tiny_config], 'mirror': [mirrored], 'tta': [tiny_config, '--tta']}.items():
        result = call('test', argv[0], best, *argv[1:], '--out', f'{name}.json')
        assert result.code == 0, result.err
        tables[name] = json.loads((tmp_path / f'{name}.json').read_text())
    metrics = json.loads((tmp_path / 'tested' / 'metrics.json').read_text())
    assert metrics['tta'] is True
    assert metrics['accuracy/top1']['n'] == 15
    for plain, mirror, tta in zip(*tables.values(), strict=True):
        assert plain['path'] == tta['path']
        assert plain['score_rose'] != mirror['score_rose']
        for name in CLASSES:
            mean = (plain[f'score_{name}'] + mirror[f'score_{name}']) / 2
            assert tta[f'score_{name}'] == pytest.approx(mean, abs=1e-6)


def test_the_report_of_the_tiny_run(best, tiny_config, data, call, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
    result = call('test', tiny_config, best, '--report', '--tta', '--out', 'rows.json')
    assert result.code == 0, result.err
    folder = tmp_path / 'tested' / 'report'
    assert f'written     {folder / "index.html"} (' in result.out
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert (folder / 'metrics.json').read_bytes() == (tmp_path / 'tested' / 'metrics.json').read_bytes()
    table = json.loads((tmp_path / 'rows.json').read_text())
    with (folder / 'predictions.csv').open(newline='') as file:
        assert list(csv.DictReader(file)) == [{key: str(value) for key, value in row.items()} for row in table]
    page = (folder / 'index.html').read_text()
    gallery = page[page.index('id="errors"') : page.index('id="calibration"')].partition('id="right"')[0]
    wrong = [row['path'] for row in table if row['label'] != row['truth']]
    assert sorted(re.findall('<div class="path">(.*)</div>', gallery)) == sorted(
        os.path.relpath(path, data) for path in wrong
    )
    assert gallery.count('<img src="data:image/jpeg;base64,') == len(wrong)  # 32 pixels leave no map
    card = (folder / 'best.pth.MODEL_CARD.md').read_text()
    assert metrics['weights'] in card
    assert f'({metrics["accuracy/top1"]["k"]}/15, ' in card
    assert 'averaged with those of the mirror image' in card
    assert 'No curves: ' in page  # best.pth is alone
    assert 'optimizer=dict(' in page
    assert 'test-time augmentation' in page


def test_the_report_has_the_curves_of_the_run_and_keeps_that_of_another_test(trained, tiny_config, call, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
    work_dir = shutil.copytree(trained.work_dir, tmp_path / 'run')
    config = (work_dir / 'tiny.py').read_text()
    assert call('test', work_dir / 'tiny.py', work_dir / 'epoch_1.pth', '--report').code == 0
    assert (work_dir / 'tiny.py').read_text() == config
    first = (work_dir / 'report' / 'index.html').read_bytes()
    assert b'over the epochs' in first
    assert (work_dir / 'report' / 'figures' / 'curves.png').is_file()
    result = call('test', tiny_config, work_dir / 'epoch_2.pth', '--report')
    assert f'kept        {work_dir / "metrics_epoch_1.json"}, the results of another test' in result.out
    assert (work_dir / 'report_epoch_1' / 'index.html').read_bytes() == first
    assert json.loads((work_dir / 'report' / 'metrics.json').read_text())['epoch'] == 2


def test_robustness_is_that_of_pipelines_with_the_change(best, tiny_config, call, tmp_path):
    """One condition against a config of its own; that a random model collapses under some is reported."""
    rotated = tmp_path / 'rotated.py'
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (32, 32)},
        {'type': 'Rotate', 'angle': 90, 'prob': 1.0, 'random_negative_prob': 0.0},
        {'type': 'PackInputs'},
    ]
    rotated.write_text(f'_base_ = {str(tiny_config)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n')
    assert call('test', rotated, best).code == 0
    expected = json.loads((tmp_path / 'tested' / 'metrics.json').read_text())

    result = call('test', tiny_config, best, '--robustness', *REPORT)
    metrics = json.loads((tmp_path / 'tested' / 'metrics.json').read_text())
    conditions = {found['condition']: found for found in metrics['robustness']['conditions']}
    assert next(iter(conditions)) == 'unchanged'
    assert len(conditions) == 7
    plain, found = conditions['unchanged'], conditions['rotated by 90°']
    assert plain['accuracy/top1'] == metrics['accuracy/top1']
    assert plain['calibration']['nll'] == pytest.approx(metrics['nll/mean'], rel=1e-5)
    assert found['accuracy/top1'] == expected['accuracy/top1']
    assert found['calibration']['ece'] == pytest.approx(expected['ece/15_bins'], rel=1e-5)
    assert found['lost'] == pytest.approx(plain['accuracy/top1']['percent'] - found['accuracy/top1']['percent'])
    printed = [line.removeprefix('warning: ') for line in result.out.splitlines() if line.startswith('warning: ')]
    assert printed == metrics['robustness']['collapses']
    assert result.code == bool(printed)
    assert re.search(r'^unchanged .*\n(.*\n){5}rotated by 90° ', result.out, re.MULTILINE)
    # MMEngine's own log of the test is still that of the unchanged images.
    log = max((tmp_path / 'tested').glob('2*/2*.json'))
    assert json.loads(log.read_text())['test/accuracy/top1'] == pytest.approx(metrics['accuracy/top1']['percent'])
    if REPORT:
        page = (tmp_path / 'tested' / 'report' / 'index.html').read_text()
        section = page[page.index('<section id="robustness">') : page.index('<section id="training">')]
        assert section.count('<tr>') == 8
        assert section.count('<img src="data:image/jpeg;base64,') == 7
        assert all(line[1:] in section for line in printed)


def test_photos_of_none_of_the_classes_are_scored_as_photos_of_a_test_are(best, tiny_config, data, call, tmp_path):
    """The folder holds test photos under other names, so what the model says of them is known."""
    others = tmp_path / 'others' / 'deep'
    others.mkdir(parents=True)
    for number, photo in enumerate(sorted((data / 'val').glob('rose/*'))):
        shutil.copy(photo, others / f'{number}.png')
    (tmp_path / 'others' / 'text.jpg').write_text('no picture')
    result = call('test', tiny_config, best, '--ood', 'others', '--tta', '--out', 'rows.json', *REPORT)
    assert result.code == 1
    assert result.err.splitlines()[-1] == 'error: others/text.jpg: broken picture, or none that can be read'
    metrics = json.loads((tmp_path / 'tested' / 'metrics.json').read_text())
    table = json.loads((tmp_path / 'rows.json').read_text())
    assert len(table) == 15
    scores = [row['score'] for row in table]
    known = [row['score'] for row in table if row['truth'] == 'rose']
    found = metrics['ood']
    assert (found['folder'], found['photos'], found['unreadable']) == ('others', 3, 1)
    higher = [(one > other) + (one == other) / 2 for one in scores for other in known]
    assert found['auroc'] == pytest.approx(sum(higher) / 45)
    assert found['called_at_0.9']['k'] == sum(score >= 0.9 for score in known)
    assert '3 OOD images in others\n  AUROC of the highest score' in result.out
    if REPORT:
        page = (tmp_path / 'tested' / 'report' / 'index.html').read_text()
        section = page[page.index('<section id="ood">') : page.index('<section id="training">')]
        shown = re.findall(r'deep/(\d)\.png', section)
        rows = [row for row in table if row['truth'] == 'rose']
        assert shown == sorted('012', key=lambda number: -rows[int(number)]['score'])
        assert section.count('<img src="data:image/jpeg;base64,') == 3
    # Its results are not replaced by those of a test without.
    assert 'metrics_best_tta_ood.json, the results of another test' in call('test', tiny_config, best).out


def test_pixels_that_cannot_be_changed_are_reported_before_the_test(best, tiny_config, call, tmp_path):
    config = tmp_path / 'normalised.py'
    pipeline = [
        {'type': 'LoadImageFromFile', 'to_float32': True},
        {'type': 'Resize', 'scale': (32, 32)},
        {'type': 'PackInputs'},
    ]
    config.write_text(f'_base_ = {str(tiny_config)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n')
    assert 'here it gets float32 of shape (32, 32, 3)' in call('test', config, best, '--robustness').error
    assert os.listdir(tmp_path / 'tested') == ['best.pth']


def test_what_a_report_needs_is_asked_before_the_test(best, tiny_config, call, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr('custom_modules.evaluation.report.find_spec', lambda name: None)
        error = call('test', tiny_config, best, '--report').error
    assert error.endswith("--report: grad-cam<2, Jinja2 not installed: pip install 'grad-cam<2' Jinja2")
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


def test_unusable_checkpoints(best, trained, tiny_config, call, tmp_path):
    def refusal(checkpoint, *options) -> str:
        before = sorted(tmp_path.rglob('*'))
        result = call('test', tiny_config, checkpoint, *options)
        assert sorted(tmp_path.rglob('*')) == before
        return result.error

    swapped = ['dandelion', 'daisy', 'rose', 'sunflower', 'tulip']
    best = tmp_path / 'tested' / 'best.pth'
    assert 'was trained for dandelion, daisy, rose' in refusal(changed(best, classes=swapped))
    assert 'names and order must be the same' in refusal(best)
    assert 'holds no class names' in refusal(changed(best, classes=None))
    shutil.copy(trained.work_dir / 'best.pth', best)
    assert 'use the config that it was trained with' in refusal(
        best, '--cfg-options', 'model.backbone.widen_factor=0.5'
    )
    assert 'no such file' in refusal(tmp_path / 'absent.pth')
    assert 'no such folder' in refusal(best, '--data-root', 'nowhere')
    for name, content in {
        'text.pth': b'no checkpoint at all',
        'empty.pth': b'',
        'torn.pth': best.read_bytes()[:-1000],
        'half.pth': best.read_bytes()[: best.stat().st_size // 2],
    }.items():
        (tmp_path / name).write_bytes(content)
        assert f'{name}: ' in refusal(tmp_path / name)
    torch.save([1, 2], tmp_path / 'list.pth')
    assert 'holds a list, not a checkpoint' in refusal(tmp_path / 'list.pth')
    torch.save(torch.load(best, weights_only=True)['state_dict'], tmp_path / 'bare.pth')
    assert 'holds no class names' in refusal(tmp_path / 'bare.pth')


def test_out_needs_a_known_suffix(tiny_config, call, capfd):
    with pytest.raises(SystemExit) as caught:
        call('test', tiny_config, 'best.pth', '--out', 'rows.txt')
    assert caught.value.code == 2
    assert 'the name must end in .csv, .json, .jsonl' in capfd.readouterr().err
    assert not os.listdir()


def test_a_table_that_cannot_be_written_is_reported_before_the_test(best, tiny_config, call, tmp_path):
    (tmp_path / 'folder.csv').mkdir()
    (tmp_path / 'file').touch()
    (tmp_path / 'mine.csv').write_text('mine')
    assert (
        '--out folder.csv: is a folder. Name a file.' in call('test', tiny_config, best, '--out', 'folder.csv').error
    )
    said = call('test', tiny_config, best, '--out', 'mine.csv').error
    assert '--out mine.csv: exists already. Name another file, or delete it.' in said
    assert (tmp_path / 'mine.csv').read_text() == 'mine'
    assert 'file: is a file, not a folder' in call('test', tiny_config, best, '--out', 'file/rows.csv').error
    assert os.listdir(tmp_path / 'tested') == ['best.pth']
