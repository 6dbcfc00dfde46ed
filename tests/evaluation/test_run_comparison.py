"""Two runs on the same photos, several seeds of one recipe, and the table of all runs."""

from dataclasses import replace

from custom_modules.evaluation.run_comparison import TrainedRun, compare_pairs, compare_runs


def run(name, labels, truths='rrttt', **more):
    answers = {f'x/{i}.jpg': (truth, label) for i, (truth, label) in enumerate(zip(truths, labels, strict=True))}
    return TrainedRun(name, answers=answers, **more)


def test_a_pair_counts_on_the_photos_of_both():
    first, second = run('a', 'rrtrr'), run('b', 'rtttr')
    del second.answers['x/0.jpg']
    (pair,) = compare_pairs([first, second, TrainedRun('untested')])
    assert (pair['photos'], pair['only_first'], pair['only_second'], pair['p_value']) == (4, 1, 1, 1)
    assert pair['differing'] == [('x/1.jpg', 'r', 'r', 't'), ('x/3.jpg', 't', 'r', 't')]
    assert 'no evidence of a difference' in pair['verdict']
    assert compare_pairs([first, TrainedRun('c', answers={'y/0.jpg': ('r', 'r')})]) == []
    truths = 'r' * 20
    (pair,) = compare_pairs([run('a', truths, truths), run('b', 'r' * 10 + 't' * 10, truths)])
    assert pair['verdict'].endswith('p = 0.00195: a difference')


def test_seeds_of_one_recipe_are_summed_up():
    seeds = [
        TrainedRun(f'run_{s}', settings='x', seed=s, best=best, last=best - 1, photos=400, epochs=9, best_epoch=7)
        for s, best in enumerate([95.0, 96.0, 97.0])
    ]
    other = TrainedRun('other', settings='y', seed=0, best=90.0)
    rows = compare_runs([*seeds[:2], other, seeds[2]]).rows
    assert [row['run'] for row in rows] == ['run_0', 'run_1', 'run_2', 'mean of 3 seeds', 'other']
    assert rows[0]['best top-1'].startswith('95.00 % (380/400, 92.4')
    assert rows[0]['best top-1'].endswith('), epoch 7')
    assert rows[3]['best top-1'] == '96.00 ± 1.00 %'
    assert rows[3]['last top-1'] == '95.00 ± 1.00 %'
    assert rows[4]['best top-1'] == '90.00 %'
    assert rows[4]['last top-1'] == '–'


def test_what_differs_in_more_than_the_seed_has_no_mean():
    first = TrainedRun('a', settings='x', recipe='batch 8', seed=0)
    for other in (replace(first, recipe='batch 8 × 4', seed=1), first, replace(first, seed=None)):
        assert [row['run'] for row in compare_runs([first, replace(other, name='b')]).rows] == ['a', 'b']


def test_the_markdown_names_the_limits_of_the_table():
    runs = [run(name, 'rrttt') for name in 'abc']
    assert 'of 3 pairs, 0.1 are below 0.05 by chance alone' in compare_runs(runs).markdown
    assert 'by chance alone' not in compare_runs(runs[:2]).markdown
    first = run('a', 'rrttt', dataset='1', pretrained='weights; PARTLY pretrained')
    text = compare_runs([first, TrainedRun('b|c', dataset='2')]).markdown
    assert 'validated on different splits' in text
    assert 'a: began with weights; PARTLY pretrained' in text
    assert r'b\|c' in text
    assert 'no paired test: b|c' in text
