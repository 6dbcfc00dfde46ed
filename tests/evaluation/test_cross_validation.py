"""Cross-validated configs: differences worked by hand, their intervals, and the table read back or refused."""

import json
import math

import numpy as np
import pytest

from custom_modules.errors import InputError
from custom_modules.evaluation.cross_validation import compare_configs, difference, read_table, write_rows
from custom_modules.metrics.predictions import Prediction, row


def predictions(**seeds):
    """Predictions of one config for two classes; every photo is of the first, and each number is its score."""
    return {
        (int(seed[1:]), f'x/{i}.jpg'): Prediction(f'x/{i}.jpg', [p, 1 - p], 0)
        for seed, scores in seeds.items()
        for i, p in enumerate(scores)
    }


def test_a_difference_worked_by_hand():
    first = predictions(s0=[0.8, 0.4, 0.8, 0.4], s1=[0.8, 0.8, 0.8, 0.4])
    other = predictions(s0=[0.8, 0.8, 0.8, 0.4], s1=[0.8, 0.8, 0.8, 0.8], s2=[0.1] * 4)
    found = difference(other, first)
    # Photo 1 is gained in one of two seeds, so is photo 3, each from 0.4 to 0.8; seed 2 has no counterpart.
    assert (found['photos'], found['seeds']) == (4, [0, 1])
    assert found['accuracy'] == pytest.approx((25, 0, 50))
    assert found['nll'][0] == pytest.approx(-math.log(2) / 4)


def test_only_photos_and_seeds_of_both_count():
    first, other = predictions(s0=[0.9, 0.1, 0.9]), predictions(s0=[0.9, 0.9], s1=[0.9])
    found = difference(other, first)
    assert (found['photos'], found['seeds'], found['accuracy'][0]) == (2, [0], 50)
    text = compare_configs({'first': first, 'other': other, 'strange': predictions(s7=[0.9])}).markdown
    assert 'other: its difference is on 2 photos and seeds 0 alone' in text
    assert 'strange: has no photo and seed in common with first' in text


def test_the_interval_is_that_of_a_mean():
    random = np.random.default_rng(1)
    one, two = (predictions(s0=random.uniform(0.3, 0.9, 400)) for _ in range(2))
    losses = [[-math.log(item.scores[0]) for item in each.values()] for each in (two, one)]
    error = 1.96 * np.subtract(*losses).std() / 20
    mean, low, high = difference(two, one)['nll']
    # 10,000 resamples place a 2.5 % quantile to within a few hundredths of the standard error.
    assert (mean - low, high - mean) == pytest.approx((error, error), rel=0.1)
    assert difference(two, one) == difference(two, one)
    assert difference(predictions(s0=[0.9]), predictions(s0=[0.1]))['accuracy'] == (100, 100, 100)


def test_the_summary():
    first, other = predictions(s0=[0.75, 0.25]), predictions(s0=[0.75, 0.75], s1=[0.75, 0.25])
    found = compare_configs({'a|b': first, 'other': other})
    lines = found.markdown.splitlines()
    nll = -(math.log(0.75) + math.log(0.25)) / 2
    # ECE: both photos have 0.75, one is right.
    assert lines[2] == rf'| a\|b | 2 | 0 | 50.00 % (1/2, 9.45–90.55) | {nll:.4f} | 25.00 % | – | – |'
    assert lines[3].startswith('| other | 2 | 0, 1 | 75.00 ± 35.36 % (2/2, 1/2) | ')
    assert '| +50.00 (+0.00 to +100.00) | −0.5493 (−1.0986 to +0.0000) |' in lines[3]
    content = json.loads(json.dumps(found.content, allow_nan=False))
    assert [each['top1'] for each in content['recipes']] == [50, 75]
    assert content['recipes'][1]['difference']['seeds'] == [0]


CLASSES = ['ro,se', 'tulip']


def rows(config='a', seed='0', paths=('ro,se/1.jpg', 'tulip/ü.jpg')):
    keys = {'config': config, 'settings': 's', 'dataset': 'd', 'seed': seed, 'fold': '1'}
    return [keys | row(Prediction(path, [0.25, 0.75], i), CLASSES) for i, path in enumerate(paths)]


def test_a_table_is_read_as_it_was_written(tmp_path):
    file = tmp_path / 'new' / 'a.csv'
    write_rows(file, [*rows('b'), *rows('a', '1'), *rows('a', '2')], CLASSES)
    table, found = read_table(file)
    assert [line['path'] for line in table] == 3 * ['ro,se/1.jpg', 'tulip/ü.jpg']
    assert {config: {seed for seed, _ in found[config]} for config in found} == {'b': {0}, 'a': {1, 2}}
    assert found['b'][0, 'tulip/ü.jpg'] == Prediction('tulip/ü.jpg', [0.25, 0.75], 1)


HEAD = 'config,settings,dataset,seed,fold,path,truth,label,score,score_r,score_t\n'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'no table of tools/cross_validate.py'),
        ('config,seed,fold,path,truth,label,score,score_r\n', 'no table of tools/cross_validate.py'),
        (HEAD, 'holds no predictions'),
        (HEAD + 'a,s,d,0,0,r/1,r,r,1,1\n', 'not as tools/cross_validate.py has written it'),
        (HEAD + 'a,s,d,x,0,r/1,r,r,1,1,0\n', 'invalid literal'),
        (HEAD + 'a,s,d,0,0,r/1,z,r,1,1,0\n', "'z' is not in list"),
        (HEAD + 'a,s,d,0,0,"r/1', 'cannot be read'),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, text, said):
    (tmp_path / 'a.csv').write_text(text)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / 'a.csv')
    (problem,) = caught.value.problems
    assert said in problem
    with pytest.raises(InputError, match=r'gone\.csv: cannot be read \(No such file'):
        read_table(tmp_path / 'gone.csv')
