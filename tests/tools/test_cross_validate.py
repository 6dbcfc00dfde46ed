"""tools/cross_validate.py: one tiny real table, interrupted and gone on with; what it comes to; what it refuses."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from custom_modules.evaluation.cross_validation import read_table
from custom_modules.evaluation.training_log import read_history

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def folds(raw, tmp_path_factory) -> Path:
    """The drawn photos, prepared with two folds of 20 photos."""
    from custom_modules.datasets.splitting import split_dataset

    folder = tmp_path_factory.mktemp('folds') / 'data'
    split_dataset(raw, folder, folds=2)
    return folder


@pytest.fixture(scope='module')
def configs(tiny_config, folds) -> list[Path]:
    """Two recipes of one epoch, the second with averaged weights; the first would come last in the alphabet."""
    plain, averaged = folds.parent / 'plain.py', folds.parent / 'averaged.py'
    plain.write_text(f'_base_ = {str(tiny_config)!r}\ntrain_cfg = dict(max_epochs=1)\n')
    averaged.write_text("_base_ = 'plain.py'\ndefault_hooks = dict(ema=dict(type='EMAHook', momentum=0.2))\n")
    return [plain, averaged]


@pytest.fixture(scope='module')
def table(configs, folds, tool_environment):
    """A finished table, what the interrupted start printed, what stood in the table then, and the second start."""
    folder = folds.parent
    command = [sys.executable, str(ROOT / 'tools' / 'cross_validate.py'), *map(str, configs), '--data-root', 'data']
    command += ['--work-dir', 'runs', '--out', 'out/answers.csv', '--jobs', '2']
    with subprocess.Popen(
        command, cwd=folder, env=tool_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = ''
        while not re.search('^1/4', printed, re.MULTILINE):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        process.send_signal(signal.SIGINT)
        printed += process.stdout.read()
    assert process.returncode == 130, printed
    before = (folder / 'out' / 'answers.csv').read_text()
    again = subprocess.run(command, cwd=folder, env=tool_environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    return folder, printed, before, again.stdout


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_an_interrupted_table_goes_on(table, folds):
    folder, printed, before, after = table
    assert printed.startswith('4 runs: 2 configs, 2 folds, 1 seeds; 0 finished already; 2 at a time, threads each: ')
    assert printed.endswith('go on with the same command\n')
    done = len(rows(before)) // 20
    assert 1 <= done <= 4
    assert f' {done} finished already; ' in after
    assert re.findall(r'^(\d)/4 ', after, re.MULTILINE) == [str(number) for number in range(done + 1, 5)]
    found = rows((folder / 'out' / 'answers.csv').read_text())
    assert [row for row in found if row in rows(before)] == rows(before)
    expected = [
        line.rpartition(' ')[0] for fold in (0, 1) for line in (folds / f'fold{fold}/val.txt').read_text().splitlines()
    ]
    for config, part in (('plain', found[:40]), ('averaged', found[40:])):
        assert {(row['config'], row['seed']) for row in part} == {(config, '0')}
        assert [row['path'] for row in part] == expected
        assert [row['fold'] for row in part] == ['0'] * 20 + ['1'] * 20
        assert all(row['path'].startswith(row['truth'] + '/') for row in part)


def test_the_last_epochs_weights_answer_as_they_were_validated(table):
    for recipe in read_table(table[0] / 'out' / 'answers.csv'):
        losses = [
            read_history(table[0] / 'runs' / recipe.name / f'fold{fold}_seed0')[-1]['val_loss'] for fold in (0, 1)
        ]
        assert recipe.mean('nll') == pytest.approx(sum(losses) / 2)


def test_the_table_is_compared(table, call, tmp_path):
    result = call('compare', table[0] / 'out' / 'answers.csv', '--out', 'c.md', 'c.html', 'c.json')
    assert result.code == 0, result.err
    assert '| plain | 40 | 0 | ' in result.out
    assert (tmp_path / 'c.md').read_text() in result.out
    assert 'Differences are to plain, ' in (tmp_path / 'c.html').read_text()
    found = json.loads((tmp_path / 'c.json').read_text())['recipes']
    assert [each['config'] for each in found] == ['plain', 'averaged']
    assert found[1]['difference']['nll'][0] == pytest.approx(found[1]['nll'] - found[0]['nll'])


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [(['a.csv', 'run'], 'a table stands alone'), (['a.csv', '--out', 'c.png'], '--out c.png: a table has no curves')],
)
def test_what_a_table_cannot_be_compared_with(call, capfd, arguments, said):
    with pytest.raises(SystemExit):
        call('compare', *arguments)
    assert said in capfd.readouterr().err


@pytest.fixture
def start(call, configs, folds, table):
    """A function that starts the finished table again, with other arguments."""

    def run(*arguments, names=configs):
        common = ['--data-root', folds, '--work-dir', table[0] / 'runs', '--out', 'a.csv']
        return call('cross_validate', *names, *common, *arguments)

    return run


def test_a_finished_table_is_written_without_training(start, table, tmp_path):
    result = start('--folds', 1)
    assert (result.code, result.err) == (0, '')
    assert ' 2 finished already; ' in result.out
    assert {row['fold'] for row in rows((tmp_path / 'a.csv').read_text())} == {'1'}


def test_what_was_trained_otherwise_is_refused(start, folds, tmp_path):
    result = start('--cfg-options', 'train_cfg.max_epochs=2')
    assert result.code == 2
    first, second = result.err.splitlines()
    assert 'plain/fold0_seed0 and 1 more: holds a run with another config or --cfg-options (train_cfg); ' in first
    assert 'averaged/fold0_seed0 and 1 more: ' in second
    moved = Path(shutil.copytree(folds, tmp_path / 'moved'))
    assert start('--data-root', moved).code == 0
    lists = (moved / 'fold1' / 'train.txt').read_text().splitlines(keepends=True)
    (moved / 'fold1' / 'train.txt').write_text(''.join(lists[1:]))
    lines = start('--data-root', moved).err.splitlines()
    assert [line.partition(': holds')[2] for line in lines] == [
        ' a run with another dataset or folds; name another --work-dir, or delete it'
    ] * 2


def test_a_run_of_something_else_is_not_taken_for_one(call, configs, folds, trained, tmp_path):
    shutil.copytree(trained.work_dir, tmp_path / 'runs' / 'plain' / 'fold1_seed3')
    error = call('cross_validate', configs[0], '--data-root', folds, '--work-dir', 'runs', '--seeds', 3).error
    assert 'fold1_seed3: holds a run that is not of such a table (no recipe.json)' in error


def test_what_cannot_be_begun_is_one_line(call, configs, folds, data, tmp_path):
    same = Path(shutil.copy(configs[0], tmp_path / 'plain.py'))
    root = ['--data-root', folds]
    assert 'holds no folds; prepare the photos with some: ' in call('cross_validate', configs[0]).error
    assert '--folds 5: ' in call('cross_validate', configs[0], *root, '--folds', 5).error
    assert 'have one name, which would be one row' in call('cross_validate', configs[0], same, *root).error
    assert 'gone.py: no such config' in call('cross_validate', 'gone.py', *root).error
    assert 'one of them stands there twice' in call('cross_validate', configs[0], *root, '--seeds', 1, 1).error
    assert '--seeds -1: must be 0 to 4294967295' in call('cross_validate', configs[0], *root, '--seeds', 0, -1).error
    assert 'not of the form KEY=VALUE' in call('cross_validate', configs[0], *root, '--cfg-options', 'x').error
    (tmp_path / 'a.csv').mkdir()
    assert 'is a folder; name a file' in call('cross_validate', configs[0], *root, '--out', 'a.csv').error
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--out', 'a.json'], 'the name must end in .csv'),
        (['--jobs', 0], 'one or more'),
        (['--cfg-options', 'randomness.seed=3'], 'randomness.seed=3: is set for each run'),
        (['--cfg-options', 'val_dataloader.dataset.ann_file=a.txt'], 'is set for each run'),
    ],
)
def test_arguments_that_cannot_be_used(call, capfd, arguments, said):
    with pytest.raises(SystemExit):
        call('cross_validate', 'a.py', *arguments)
    assert said in capfd.readouterr().err
