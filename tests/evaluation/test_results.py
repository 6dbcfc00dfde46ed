"""Results of a test: figures, warnings, those beside a checkpoint, and those of another test, which are kept."""

import json
import os

import pytest

from custom_modules.errors import InputError
from custom_modules.evaluation.results import (
    FoundResults,
    find_results,
    format_counts,
    format_scaling,
    set_aside,
)
from custom_modules.metrics.predictions import Prediction, count
from custom_modules.models.model_file import ModelFile

BEST = {'checkpoint': 'run/best.pth', 'run': 'a', 'epoch': 3, 'dataset': 'd', 'tested': 'val.txt', 'tta': False}
ROBUST = {'robustness': {'conditions': [1], 'collapses': []}}
OOD = {'ood': {'folder': 'a'}}


@pytest.fixture
def metrics(tmp_path):
    return tmp_path / 'metrics.json'


def model(folder, digest='w', **meta):
    return ModelFile(folder / 'best.pth', ['a'], meta, digest)


def scaled(temperature, after=0.12):
    """The part of temperature scaling that decides whether the temperature is used."""
    return {'temperature': temperature, 'before': {'nll': 0.14}, 'after': {'nll': after}}


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_only_results_of_the_same_test_are_replaced(tmp_path, kind):
    path = tmp_path / ('metrics.json' if kind == 'file' else 'report')

    def write(results):
        kept = set_aside(path, results)
        if kind == 'folder':
            path.mkdir(exist_ok=True)
        (path / 'metrics.json' if kind == 'folder' else path).write_text(json.dumps(results))
        return kept and kept.relative_to(tmp_path).as_posix()

    names = ('metrics_{}.json' if kind == 'file' else 'report_{}').format
    tta = {**BEST, 'tta': True}
    assert write(BEST) is None
    assert write({**BEST, 'checkpoint': 'moved/best.pth', 'nll/mean': 1.0}) is None
    assert write({**BEST, 'epoch': 4}) == names('best')
    assert write(BEST) == names('best_2')  # best.pth of epoch 4, which is not that of epoch 3
    assert write(tta) == names('best')
    assert write(BEST) == names('best_tta')
    assert write(tta) == names('best')
    kept = [path.name, names('best'), names('best_2'), names('best_tta')]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(
    ('old', 'new', 'name'),
    [
        ({}, ROBUST, None),
        (ROBUST, {'robustness': {'conditions': [2]}}, None),
        (ROBUST, {}, 'metrics_best_robustness.json'),
        ({}, OOD, None),
        (OOD, {**OOD, **ROBUST}, None),
        ({**OOD, **ROBUST}, OOD, 'metrics_best_robustness_ood.json'),
        (OOD, {'ood': {'folder': 'b'}}, 'metrics_best_ood.json'),
        ('{', {}, 'metrics_unknown.json'),
    ],
)
def test_extra_results_and_unreadable_files_are_kept(metrics, old, new, name):
    metrics.write_text(old if isinstance(old, str) else json.dumps({**BEST, **old}))
    assert set_aside(metrics, {**BEST, **new}) == (name and metrics.with_name(name))


def test_the_table_for_the_terminal():
    scores = {0: [0.8, 0.1, 0.1], 1: [0.1, 0.8, 0.1]}
    predictions = [Prediction('', scores[label], truth) for truth, label in ((0, 0), (0, 1), (1, 1))]
    counts = count(predictions, ['daisy', 'rose, wild', 'tulip'])
    text = format_counts({**counts, 'nll/mean': 0.51234, 'ece/15_bins': 0.0123})
    for line in (
        'top-1 accuracy  66.67 % (2/3, 95 % interval 20.77-93.85)',
        'top-1 error     33.33 % (1/3, 95 % interval 6.15-79.23)',
        'balanced        75.00 % (mean recall), macro F1 66.67 %',
        'mean NLL        0.5123',
        'ECE, 15 bins    1.23 %',
    ):
        assert line in text.splitlines()
    *_, daisy, _, tulip = text.splitlines()
    assert daisy.split() == ['daisy', '50.00', '%', '(1/2)', '100.00', '%', '(1/1)', '66.67', '%']
    assert tulip.split() == ['tulip', '-', '(0/0)', '-', '(0/0)', '-']


def test_temperature_scaling_for_a_terminal():
    before = {'n': 9, 'ece': 0.028, 'ece_interval95': (0.0, 0.0353), 'ece_by_chance': 0.0215, 'nll': 0.1374}
    after = {**before, 'ece': 0.0317}
    scaling = {'temperature': 1.075, 'fold_temperatures': (1.018, 1.126), 'seed': 0, 'before': before, 'after': after}
    *lines, fault = format_scaling(scaling).splitlines()
    assert lines == [
        'temperature     1.075, fitted on all images; cross-fitted in 2 folds: 1.018-1.126',
        '  before        ECE 2.80 % (95 % interval 0.00-3.53; by chance alone 2.15 %), mean NLL 0.1374',
        '  after         ECE 3.17 % (95 % interval 0.00-3.53; by chance alone 2.15 %), mean NLL 0.1374',
    ]
    assert fault == '  do not use it on other images: it does not lower the NLL'
    assert fault not in format_scaling({**scaling, 'after': {**after, 'nll': 0.1373}})


def test_results_are_found_by_the_digest_of_the_weights(metrics):
    def write(file, **results):
        file.write_text(json.dumps({**BEST, **results}))

    def found(digest='w'):
        return find_results(model(metrics.parent, digest)).file

    assert found() is None
    write(metrics)  # a test before the weights were named
    assert found() is None
    write(metrics, weights='w')
    assert found() == metrics
    assert found('v') is None
    aside, newer = metrics.with_name('metrics_best.json'), metrics.with_name('metrics_best_2.json')
    metrics.rename(aside)
    write(metrics, weights='w', tta=True)
    assert found() == aside
    write(newer, weights='w')
    os.utime(aside, (1, 1))
    assert found() == newer


def test_the_temperature_of_the_test_comes_before_that_of_the_checkpoint(metrics):
    carrying = model(metrics.parent, temperature=2.0)
    assert find_results(carrying) == FoundResults(None, None, 2.0, f'2.000, of {carrying.path}')
    for scaling, temperature, source in (
        (scaled(1.25), 1.25, f'1.250, of {metrics}'),
        (None, 2.0, f'2.000, of {carrying.path}'),
    ):
        tested = {'weights': 'w', 'temperature_scaling': scaling}
        metrics.write_text(json.dumps(tested))
        assert find_results(carrying) == FoundResults(metrics, tested, temperature, source)
    assert find_results(model(metrics.parent, 'v')).source.endswith(f'python tools/test.py CONFIG {carrying.path}')
    metrics.write_text(json.dumps({'weights': 'w', 'temperature_scaling': [1.25]}))
    with pytest.raises(InputError, match=r'metrics\.json: not as a test has written it'):
        find_results(carrying)


@pytest.mark.parametrize(
    ('scaling', 'about', 'fault'),
    [
        (scaled(1.075, after=0.15), {}, 'it does not lower the NLL'),
        (scaled(0.05), {}, 'the limit of its search range'),
        (scaled(1.25), {'trained_on': 'a', 'dataset': 'b'}, 'trained on another split'),
        (scaled(1.25), {'tested': 'train.txt', 'trained_list': 'train.txt'}, 'tested on the training images'),
    ],
    ids=['no better', 'at a bound', 'another split', 'training images'],
)
def test_a_temperature_with_a_fault_is_not_used(metrics, scaling, about, fault):
    tested = {'weights': 'w', 'temperature_scaling': scaling, **about}
    metrics.write_text(json.dumps(tested))
    found = find_results(model(metrics.parent, temperature=2.0))
    assert (found.results, found.temperature) == (tested, None)
    assert found.source.startswith('none: the ')
    assert fault in found.source
