"""tools/cross_validate.py: one tiny real table, interrupted and continued; its comparison; what it refuses."""

import csv
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from custom_modules.evaluation import fold_runs
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
    """A finished table, the output of the interrupted start, the table at that time, and the output of the second."""
    folder = folds.parent
    command = [sys.executable, str(ROOT / 'tools' / 'cross_validate.py'), *map(str, configs), '--data-root', 'data']
    command += ['--folds', '0', '--work-dir', 'runs', '--out', 'out/predictions.csv']
    with subprocess.Popen(
        command, cwd=folder, env=tool_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = ''
        while not re.search('^started: averaged fold0 seed0\n.', printed, re.MULTILINE):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        process.send_signal(signal.SIGINT)
        printed += process.stdout.read()
    assert process.returncode == 130, printed
    before = (folder / 'out' / 'predictions.csv').read_text()
    again = subprocess.run(command, cwd=folder, env=tool_environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    return folder, printed, before, again.stdout


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_an_interrupted_table_is_continued(table, folds):
    folder, printed, before, after = table
    assert printed.startswith('2 runs, 0 of them finished in ')
    assert printed.endswith('continue with the same command\n')
    assert re.findall(r'^(\d)/2  plain fold0 seed0  top-1 ', printed, re.MULTILINE) == ['1']
    assert len(rows(before)) == 20
    assert after.startswith('2 runs, 1 of them finished in ')
    assert re.findall(r'^(\d)/2  averaged fold0 seed0  top-1 ', after, re.MULTILINE) == ['2']
    text = (folder / 'out' / 'predictions.csv').read_text()
    assert text.startswith(before)
    expected = [line.rpartition(' ')[0] for line in (folds / 'fold0' / 'val.txt').read_text().splitlines()]
    for config in ('plain', 'averaged'):
        part = [row for row in rows(text) if row['config'] == config]
        assert [row['path'] for row in part] == expected
        assert all(row['path'].startswith(row['truth'] + '/') for row in part)
    assert len({(row['config'], row['settings']) for row in rows(text)}) == 2
    assert len({row['dataset'] for row in rows(text)}) == 1


def test_the_weights_of_the_last_epoch_predict_as_they_were_validated(table):
    for config, found in read_table(table[0] / 'out' / 'predictions.csv')[1].items():
        (folder,) = (table[0] / 'runs').glob(f'{config}_*/fold0_seed0')
        losses = [-math.log(item.scores[item.truth]) for item in found.values()]
        assert statistics.fmean(losses) == pytest.approx(read_history(folder)[-1]['val_loss'])


def test_the_table_is_compared(table, call, tmp_path):
    result = call('compare', table[0] / 'out' / 'predictions.csv', '--out', 'c.md', 'c.html', 'c.json')
    assert result.code == 0, result.err
    assert '| plain | 20 | 0 | ' in result.out
    assert (tmp_path / 'c.md').read_text() in result.out
    assert 'Differences are to plain, ' in (tmp_path / 'c.html').read_text()
    found = json.loads((tmp_path / 'c.json').read_text())['recipes']
    assert [each['config'] for each in found] == ['plain', 'averaged']
    assert found[1]['difference']['nll'][0] == pytest.approx(found[1]['nll'] - found[0]['nll'])


@pytest.fixture
def start(call, configs, folds, table, tmp_path):
    """A function that starts a copy of the finished table again, with other arguments."""
    shutil.copy(table[0] / 'out' / 'predictions.csv', tmp_path / 'a.csv')

    def run(*arguments):
        return call('cross_validate', *configs, '--data-root', folds, '--out', 'a.csv', *arguments)

    return run


def test_a_finished_table_stays_and_other_settings_or_datasets_are_refused(start, table, folds, tmp_path):
    result = start('--folds', 0)
    assert (result.code, result.err) == (0, '')
    assert '2 runs, 2 of them finished in a.csv' in result.out
    assert (tmp_path / 'a.csv').read_text() == (table[0] / 'out' / 'predictions.csv').read_text()
    error = start('--folds', 0, '--cfg-options', 'train_cfg.max_epochs=2').error
    assert 'a.csv: made with another config or other --cfg-options: averaged, plain. Name another --out' in error
    moved = Path(shutil.copytree(folds, tmp_path / 'moved'))
    assert start('--folds', 0, '--data-root', moved).code == 0
    lists = (moved / 'fold1' / 'train.txt').read_text().splitlines(keepends=True)
    (moved / 'fold1' / 'train.txt').write_text(''.join(lists[1:]))
    assert (
        'a.csv: its predictions are for another dataset or other folds'
        in start('--folds', 0, '--data-root', moved).error
    )


def test_a_failed_run_is_named_and_the_others_are_made(call, configs, folds, tmp_path, monkeypatch):
    """One config fails in its training; the other one's run is replaced by its predictions."""
    commands = []

    def run(command):
        commands.append(command)
        folder = Path(command[command.index('--work-dir') + 1])
        folder.mkdir(parents=True, exist_ok=True)
        if command[1].endswith('train.py'):
            (folder / 'epoch_1.pth').touch()
            return 2 * ('plain.py' in command[2])
        lines = (folds / 'fold1' / 'val.txt').read_text().splitlines()
        names = (folds / 'classes.txt').read_text().split()
        text = [f'path,truth,label,score,{",".join(f"score_{name}" for name in names)}']
        for line in lines:
            path = line.rpartition(' ')[0]
            text.append(f'data/train/{path},{path.split("/")[0]},{names[0]},1,1,0,0,0,0')
        (folder / 'predictions.csv').write_text('\n'.join(text) + '\n')
        return 0

    monkeypatch.setattr(fold_runs, 'run_process', run)
    arguments = ['--data-root', folds, '--folds', 1, '--seeds', 7, '--cfg-options', 'train_cfg.max_epochs=3']
    result = call('cross_validate', *configs, *arguments)
    assert result.code == 1
    assert 'failed: plain fold1 seed7: tools/train.py ended with exit code 2\n' in result.out
    assert '2/2  averaged fold1 seed7  top-1 20.00 % (4/20' in result.out
    assert '1 failed: plain fold1 seed7. The same command tries them again.' in result.out
    assert [os.path.basename(command[1]) for command in commands] == ['train.py', 'train.py', 'test.py']
    assert {'train_cfg.max_epochs=3', 'train_dataloader.dataset.ann_file=fold1/train.txt'} <= set(commands[0])
    found = rows((tmp_path / 'work_dirs' / 'cross_validation' / 'predictions.csv').read_text())
    assert {(row['config'], row['seed'], row['fold']) for row in found} == {('averaged', '7', '1')}


def test_what_cannot_be_begun_is_one_line(call, configs, folds, tmp_path):
    same = Path(shutil.copy(configs[0], tmp_path / 'plain.py'))
    (tmp_path / 'a.csv').mkdir()
    assert 'has no folds. Prepare the photos again: ' in call('cross_validate', configs[0]).error
    for arguments, said in [
        ([configs[0], '--folds', 5], '--folds 5: '),
        ([configs[0], same], 'the same name, which identifies a config in the table'),
        (['gone.py'], 'gone.py: no such config'),
        ([configs[0], '--seeds', 1, 1], 'one of them is given twice'),
        ([configs[0], '--seeds', 0, -1], '--seeds -1: must be 0 to 4294967295'),
        ([configs[0], '--cfg-options', 'x'], 'not of the form KEY=VALUE'),
        ([configs[0], '--out', 'a.csv'], 'is a folder. Name a file.'),
    ]:
        assert said in call('cross_validate', *arguments, '--data-root', folds).error
    assert not (tmp_path / 'work_dirs').exists()
