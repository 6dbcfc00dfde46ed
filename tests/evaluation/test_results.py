"""Results of different tests do not replace each other."""

import json
import os

import pytest

from custom_modules.errors import InputError
from custom_modules.evaluation.results import (
    Known,
    figures,
    find_results,
    format_scaling,
    found_in,
    know,
    set_aside,
    split_warning,
)
from custom_modules.metrics.predictions import Prediction, count


def scaled(temperature, after=0.12):
    """What a test finds by scaling, as far as it decides whether the temperature is used."""
    return {'temperature': temperature, 'before': {'nll': 0.14}, 'after': {'nll': after}}


BEST = {'checkpoint': 'run/best.pth', 'run': 'a', 'epoch': 3, 'dataset': 'd', 'tested': 'val.txt', 'tta': False}


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
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [path.name, names('best'), names('best_2'), names('best_tta')]
    )


def test_what_cannot_be_read_is_kept(tmp_path):
    (tmp_path / 'metrics.json').write_text('{')
    assert set_aside(tmp_path / 'metrics.json', BEST) == tmp_path / 'metrics_unknown.json'
    assert (tmp_path / 'metrics_unknown.json').read_text() == '{'


def test_figures_are_plain_and_agree_with_each_other():
    predictions = [Prediction(str(i), [0.7, 0.3] if i % 3 else [0.2, 0.8], i % 2) for i in range(12)]
    found = json.loads(json.dumps(figures(predictions, count(predictions, ['a', 'b'])), allow_nan=False))
    assert found['coverage'][0]['right'] == found['accuracy/top1']
    assert found['temperature_scaling']['before']['ece'] == found['ece/15_bins']
    assert found['temperature_scaling']['after']['n'] == 12
    assert 0 <= found['ece/15_bins'] <= 1
    assert (
        found['classes']['a']['f1_wilson95'][0] < found['classes']['a']['f1'] < found['classes']['a']['f1_wilson95'][1]
    )


def test_scores_that_are_not_finite_are_refused():
    broken = [Prediction('a.jpg', [0.5, 0.5], 0), Prediction('b.jpg', [float('nan')] * 2, 0)]
    with pytest.raises(InputError, match=r'b\.jpg: its scores are not finite'):
        figures(broken, count(broken, ['a', 'b']))


def test_temperature_scaling_in_words():
    before = {'n': 9, 'ece': 0.028, 'ece_interval95': (0.0, 0.0353), 'ece_by_chance': 0.0215, 'nll': 0.1374}
    after = {**before, 'ece': 0.0317}
    fault = '  do not use it on other images: it does not lower the NLL'
    scaling = {'temperature': 1.075, 'fold_temperatures': (1.018, 1.126), 'seed': 0, 'before': before, 'after': after}
    assert format_scaling(scaling).splitlines() == [
        'temperature     1.075, fitted on all images; cross-fitted in 2 folds: 1.018-1.126',
        '  before        ECE 2.80 % (95 % interval 0.00-3.53; by chance alone 2.15 %), mean NLL 0.1374',
        '  after         ECE 3.17 % (95 % interval 0.00-3.53; by chance alone 2.15 %), mean NLL 0.1374',
        fault,
    ]
    better = {**scaling, 'after': {**after, 'nll': 0.1373}}
    assert fault not in format_scaling(better)


def test_a_test_without_robustness_does_not_replace_one_with_it(tmp_path):
    file = tmp_path / 'metrics.json'
    file.write_text(json.dumps(BEST))
    robust = {**BEST, 'robustness': {'conditions': [1], 'collapses': []}}
    assert set_aside(file, robust) is None  # it has all that was there
    file.write_text(json.dumps(robust))
    assert set_aside(file, {**robust, 'robustness': {'conditions': [2]}}) is None
    assert set_aside(file, BEST) == tmp_path / 'metrics_best_robustness.json'


def test_results_are_found_by_the_weights_they_are_of(tmp_path):
    checkpoint, file, aside = (tmp_path / name for name in ('renamed.pth', 'metrics.json', 'metrics_best.json'))
    of_these = {**BEST, 'weights': 'w'}
    assert find_results(checkpoint, 'w') is None
    file.write_text(json.dumps(BEST))  # of before the weights were named
    assert find_results(checkpoint, 'w') is None
    file.write_text(json.dumps(of_these))
    assert find_results(checkpoint, 'w') == (file, of_these)
    assert find_results(checkpoint, 'v') is None
    set_aside(file, {**of_these, 'tta': True})
    file.write_text(json.dumps({**of_these, 'tta': True}))
    assert find_results(checkpoint, 'w') == (aside, of_these)
    newer = tmp_path / 'metrics_best_2.json'
    newer.write_text(json.dumps({**of_these, 'epoch': 9}))
    os.utime(aside, (1, 1))
    assert find_results(checkpoint, 'w') == (newer, {**of_these, 'epoch': 9})
    for broken in ('{', '[]'):
        file.write_text(broken)
        with pytest.raises(InputError, match=r'metrics\.json: cannot be read as results'):
            find_results(checkpoint, 'w')


def test_the_temperature_is_that_of_the_test_or_else_the_one_carried(tmp_path):
    checkpoint, file = tmp_path / 'best.pth', tmp_path / 'metrics.json'
    assert know(checkpoint, 'w', {'temperature': 2}) == Known(None, None, 2.0, f'2.000, of {checkpoint}')
    for scaling, temperature, source in (
        (scaled(1.25), 1.25, f'1.250, of {file}'),
        (None, 2.0, f'2.000, of {checkpoint}'),
    ):
        tested = {'weights': 'w', 'temperature_scaling': scaling}
        file.write_text(json.dumps(tested))
        assert know(checkpoint, 'w', {'temperature': 2}) == Known(file, tested, temperature, source)
    found = know(checkpoint, 'v', {})
    assert (found.file, found.results, found.temperature) == (None, None, None)
    assert found.source.endswith(f'python tools/test.py CONFIG {checkpoint}')
    file.write_text(json.dumps({'weights': 'w', 'temperature_scaling': [1.25]}))
    with pytest.raises(InputError, match=r'metrics\.json: not as a test has written it'):
        know(checkpoint, 'w', {})


@pytest.mark.parametrize(
    ('scaling', 'about', 'fault'),
    [
        (scaled(1.075, after=0.15), {}, 'it does not lower the NLL'),
        (scaled(0.05), {}, 'an end of the searched range'),
        (scaled(1.25), {'trained_on': 'a', 'dataset': 'b'}, 'trained on another split'),
        (scaled(1.25), {'tested': 'train.txt', 'trained_list': 'train.txt'}, 'tested on the training images'),
    ],
    ids=['no better', 'all right', 'another split', 'photos trained on'],
)
def test_a_temperature_with_a_fault_is_not_used(tmp_path, scaling, about, fault):
    tested = {'weights': 'w', 'temperature_scaling': scaling, **about}
    (tmp_path / 'metrics.json').write_text(json.dumps(tested))
    found = know(tmp_path / 'best.pth', 'w', {'temperature': 2})
    assert (found.results, found.temperature) == (tested, None)
    assert found.source.startswith('none: the ')
    assert fault in found.source


def test_what_goes_wrong_without_results_is_not_blamed_on_them(tmp_path):
    with pytest.raises(KeyError), found_in(None):
        raise KeyError('value')
    said = r'metrics\.json: not as a test has written it'
    with pytest.raises(InputError, match=said), found_in(tmp_path / 'metrics.json'):
        raise KeyError('value')


def test_figures_of_photos_that_were_trained_on_are_warned_of():
    assert split_warning('a', 'a') == split_warning(None, 'a') == ''
    assert split_warning('a', 'b').startswith('trained on another split')
    assert split_warning('a', 'b', same_list=True) == split_warning('a', 'b')  # its photos are others
    assert split_warning('a', 'a', same_list=True).startswith('tested on the training images')


def test_other_photos_of_none_of_the_classes_are_another_test(tmp_path):
    file = tmp_path / 'metrics.json'
    file.write_text(json.dumps(BEST))
    assert set_aside(file, {**BEST, 'ood': {'folder': 'a'}}) is None
    file.write_text(json.dumps({**BEST, 'ood': {'folder': 'a'}}))
    both = {**BEST, 'ood': {'folder': 'a'}, 'robustness': {'conditions': [1]}}
    assert set_aside(file, both) is None
    file.write_text(json.dumps(both))
    assert set_aside(file, {**BEST, 'ood': {'folder': 'a'}}) == tmp_path / 'metrics_best_robustness_ood.json'
    file.write_text(json.dumps({**BEST, 'ood': {'folder': 'a'}}))
    assert set_aside(file, {**BEST, 'ood': {'folder': 'b'}}) == tmp_path / 'metrics_best_ood.json'
