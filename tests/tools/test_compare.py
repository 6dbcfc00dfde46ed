"""tools/compare.py on real tiny runs, and tools/train.py --seeds, which ends with such a comparison."""

import json
import shutil

import pytest

from custom_modules.evaluation.trained_runs import read_trained_run
from custom_modules.models.checkpoints import load_checkpoint, weights_digest


@pytest.fixture(scope='module')
def seeds(tiny_config, run_process, tmp_path_factory):
    """The work dir of two seeds, and what their training printed."""
    folder = tmp_path_factory.mktemp('seeds')
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    result = run_process('train', tiny_config, '--seeds', 3, 4, '--work-dir', folder / 'run', *options, cwd=folder)
    assert result.code == 0, result.err
    return folder / 'run', result.out


def test_seeds_end_with_their_mean(seeds):
    work_dir, out = seeds
    runs = [read_trained_run(work_dir / f'seed_{seed}') for seed in (3, 4)]
    assert [run.seed for run in runs] == [3, 4]
    assert runs[0].settings == runs[1].settings
    for run in runs:
        assert (run.model, run.recipe) == ('MobileNetV2', 'SGD lr 0.02, batch 8, max_epochs 1')
        assert (run.photos, run.epochs, run.best_epoch, run.answers) == (15, 1, 1, {})
        assert run.best == run.last == run.history[0]['val_accuracy']
        assert 0 < run.minutes < 5
        assert run.rate > 0
    mean = sum(run.last for run in runs) / 2
    (line,) = (line for line in out.splitlines() if 'mean of 2 seeds' in line)
    assert f'{mean:.2f} ± ' in line
    assert '| 3, 4 |' in line


def test_tested_runs_are_paired(seeds, tiny_config, call, tmp_path):
    runs = [shutil.copytree(seeds[0] / f'seed_{seed}', tmp_path / f'seed_{seed}') for seed in (3, 4)]
    for run in runs:
        assert call('test', tiny_config, run / 'best.pth', '--report').code == 0
    names = [f'out/c{suffix}' for suffix in ('.md', '.html', '.json', '.png')]
    result = call('compare', *runs, '--out', *names)
    assert result.code == 0, result.err
    assert 'of 15 photos, only the first is correct on ' in result.out
    assert (tmp_path / names[0]).read_text() in result.out
    page = (tmp_path / names[1]).read_text()
    assert 'photos, only the first is correct on' in page
    assert '://' not in page
    (pair,) = json.loads((tmp_path / names[2]).read_text())['pairs']
    first, second = (read_trained_run(run).best for run in runs)
    assert pair['only_first'] - pair['only_second'] == pytest.approx(15 * (first - second) / 100)
    assert (tmp_path / names[3]).read_bytes()[:4] == b'\x89PNG'

    results = json.loads((runs[0] / 'report' / 'metrics.json').read_text())
    for other in ({'weights': 'of an earlier best.pth'}, {'tta': True}):
        (runs[0] / 'report' / 'metrics.json').write_text(json.dumps({**results, **other}))
        assert read_trained_run(runs[0]).answers == {}


def test_unusable_arguments_are_one_line(call, tiny_config, tmp_path):
    for folder in ('gone', tmp_path):
        assert f'{folder}: no run (no best.pth)' in call('compare', folder).error
    (tmp_path / 'a.md').mkdir()
    (tmp_path / 'file').touch()
    assert 'is a folder. Name a file.' in call('compare', 'gone', '--out', 'a.md').error
    assert 'a file, not a folder' in call('compare', 'gone', '--out', 'file/a.md').error
    assert 'one of them is given twice' in call('train', tiny_config, '--seeds', 1, 1).error


def test_the_first_seed_that_fails_ends_it(tiny_config, call, tmp_path):
    result = call('train', tiny_config, '--seeds', 1, 2, '--cfg-options', 'optim_wrapper.optimizer.lr=1e30')
    assert result.code == 2
    assert 'error: seed 1 ended with exit code 2' in result.err
    assert not (tmp_path / 'work_dirs' / 'tiny' / 'seed_2').exists()


@pytest.fixture
def run_dir(trained, tmp_path):
    """A copy of the one tiny run, to break."""
    return shutil.copytree(trained.work_dir, tmp_path / 'a <i>run\n', ignore=shutil.ignore_patterns('report'))


@pytest.mark.parametrize('table', [b'\xff\xfe', b'path,label\na,b\n', b'path,truth,label\na,b\n'])
def test_a_broken_report_is_one_line(call, run_dir, table):
    (run_dir / 'report').mkdir()
    weights = weights_digest(load_checkpoint(run_dir / 'best.pth')['state_dict'])
    (run_dir / 'report' / 'metrics.json').write_text(json.dumps({'weights': weights, 'tta': False}))
    (run_dir / 'report' / 'predictions.csv').write_bytes(table)
    assert 'no readable report (' in call('compare', run_dir).err


def test_a_run_given_twice_is_one_and_a_line_break_in_its_name_is_escaped(call, run_dir):
    lines = call('compare', run_dir, f'{run_dir}/../{run_dir.name}').out.splitlines()
    assert r'a <i>run\n |' in lines[2]
    assert not lines[3]
