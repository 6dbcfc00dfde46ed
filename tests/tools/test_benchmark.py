"""tools/benchmark.py: one tiny real measurement, and what is refused before anything is measured."""

import json

import pytest

QUICK = ['--rounds', 1, '--iterations', 1, '--warm-up', 1]


@pytest.fixture(scope='module')
def measured(tiny_config, run_process, tmp_path_factory):
    """The results of both sides' training and of the time to a score; the other parts are tested in this process."""
    folder = tmp_path_factory.mktemp('benchmark')
    parts = ['--only', 'training', 'time-to', '--levels', 1, 100]
    result = run_process('benchmark', tiny_config, *QUICK, *parts, '--device', 'cpu', '--out', 'out', cwd=folder)
    assert result.code == 0, result
    return folder / 'out', json.loads((folder / 'out' / 'benchmark.json').read_text()), result.out


def test_both_sides_train_the_same(measured):
    _, results, _ = measured
    (training,) = results['training'].values()
    stock, ours = training['sides']['stock'], training['sides']['ours']
    assert (stock['memory_format'], ours['memory_format']) == ('contiguous', 'channels last')
    assert len(stock['losses']) == len(ours['losses']) == 2
    assert stock['losses'][0] == pytest.approx(ours['losses'][0], rel=1e-4)  # later ones drift apart
    assert all(rate > 0 for side in (stock, ours) for rate in side['photos_per_s'])


def test_the_time_to_a_score(measured):
    ((run,),) = measured[1]['time_to'].values()
    first, *_, last = run['validations']
    assert len(run['validations']) == 2  # 100 % is not reached: it trains both epochs
    assert 0 < first['seconds'] < last['seconds'] <= run['seconds']
    assert run['ended'] == 0


def test_what_is_written_and_shown(measured):
    folder, results, out = measured
    assert (folder / 'benchmark.md').read_text() in out
    assert (folder / 'benchmark.png').read_bytes()[:4] == b'\x89PNG'
    assert results['failed'] == []


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['gone.py'], 'gone.py: no such config'),
        (['{config}', '--data-root', 'gone'], 'gone'),
        (['{config}', '--rounds', 0], '--rounds 0: must be more than 0'),
        (['{config}', '--iterations', -1], '--iterations -1: must be more than 0'),
        (['{config}', '--seconds', 'nan'], '--seconds nan: must be more than 0 and finite'),
        (['{config}', '--seconds', 'inf'], '--seconds inf: must be more than 0 and finite'),
        (['{config}', '--levels', 101], '--levels 101: must be over 0 and at most 100'),
        (['{config}', '--seeds', 1, 1], 'one of them stands there twice'),
        (['{config}', '--seeds', -1], '--seeds -1: must be 0 to 4294967295'),
        (['{config}', '{config}'], 'tiny: two configs of that name'),
        (['{config}', '--out', '.'], '.: exists already; name another --out'),
        (['{config}', '--device', 'cuda'], '--device cuda: torch finds no CUDA device here'),
        (['{config}', '--cfg-options', 'no.such=1'], 'no.such'),
    ],
)
def test_bad_input_is_one_line(call, tiny_config, monkeypatch, arguments, said):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    filled = [str(argument).format(config=tiny_config) for argument in arguments]
    assert said in call('benchmark', *filled).error


def test_all_problems_at_once(call, tiny_config):
    result = call('benchmark', tiny_config, '--rounds', 0, '--workers', -1)
    assert result.code == 2
    assert len(result.err.splitlines()) == 2
