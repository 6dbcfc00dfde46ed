"""Runs of a table, here of other commands than trainings: what fails, what waits, and what a run is recognised by."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from custom_modules.engine import fold_runs
from custom_modules.errors import InputError
from custom_modules.evaluation.fold_runs import FoldRun, changes, find_folds, parallel_runs, read_lists, run_all

ANSWER = """
import os, sys
with open(sys.argv[1], 'w') as file:
    file.write(f'path,truth,label,score,score_r,score_t\\ndata/train/r/1.jpg,r,t,0.75,0.25,0.75\\n')
print('threads', os.environ['OMP_NUM_THREADS'])
"""


@dataclass(frozen=True)
class Fake(FoldRun):
    """A run of some lines of Python."""

    code: str = ANSWER

    def commands(self) -> Iterator[list[str]]:
        yield [sys.executable, '-c', 'print("begun")']
        yield [sys.executable, '-c', self.code, str(self.work_dir / 'predictions.csv')]


@pytest.fixture
def fake(tmp_path):
    """A function that makes a run."""

    def make(name: str, code: str = ANSWER) -> Fake:
        photos, classes = frozenset(['r/1.jpg']), ('r', 't')
        return Fake(f'{name}.py', name, 1, 5, 'data', tmp_path / name, (), photos, classes, {}, code)

    return make


def test_a_run_that_fails_is_told_at_once_and_does_not_lose_the_others(fake, capsys):
    failing = {
        'told': ('print("error: old\\nerror: no luck\\nx"); exit(2)', 'no luck; see '),
        'killed': ('import os; os.kill(os.getpid(), 9)', 'killed by signal 9 (out of memory?); see '),
        'odd': ('print("what it said last"); exit(1)', 'what it said last; see '),
        'idle': ('pass', 'answered about other photos than those of fold1; see '),
    }
    runs = [fake(name, code) for name, (code, _) in failing.items()]
    runs.insert(2, fake('good'))
    done = []
    failed = run_all(runs, 2, 3, lambda run, rows, seconds: done.append((run.name, rows, seconds)))
    ((name, (row,), seconds),) = done
    assert (name, row['config'], row['seed'], row['fold'], row['path']) == ('good', 'good', '5', '1', 'r/1.jpg')
    assert seconds > 0
    assert runs[2].log.read_text() == 'begun\nthreads 3\n'
    assert {run.name for run in failed} == failing.keys()
    told = capsys.readouterr().out
    for name, (_, said) in failing.items():
        assert f'failed: {name} fold1 seed5: {said}' in told
    assert told.index('failed: told') < told.index('started: idle')


def test_a_run_that_another_process_is_still_at_waits(fake, tmp_path):
    hold = f"""
from pathlib import Path
from custom_modules.files import lock_folder
lock = lock_folder(Path({str(tmp_path / 'held')!r}))
print('locked', flush=True)
input()
"""
    done = []
    with subprocess.Popen(
        [sys.executable, '-c', hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == 'locked\n'

        def finished(run, rows, seconds):
            done.append(run.name)
            if run.name == 'free':
                holder.communicate('\n')

        assert run_all([fake('held'), fake('free')], 1, 1, finished) == []
    assert done == ['free', 'held']


def test_a_run_is_not_begun_when_its_config_has_changed_meanwhile(fake, capsys):
    class Changed(Fake):
        def commands(self):
            raise InputError('not begun')
            yield

    run = Changed(**{name: getattr(fake('a'), name) for name in Fake.__dataclass_fields__})
    assert run_all([run], 1, 1, print) == [run]
    assert capsys.readouterr().out.endswith(': not begun\n')


def test_what_changed_is_named():
    one = {'settings': {'model': '1', 'train_cfg': '2'}, 'photos': {'train.txt': 'x'}}
    assert changes(one, one) == ''
    other = {'settings': {'model': '1', 'train_cfg': '3', 'new': '4'}, 'photos': {'train.txt': 'y'}}
    assert changes(one, other) == 'config or --cfg-options (train_cfg, new), dataset or folds'
    assert changes({}, one) == changes(one, {}) == 'config or --cfg-options (model, train_cfg), dataset or folds'


def test_folds_are_found_in_their_order(tmp_path):
    with pytest.raises(InputError, match=r'holds no folds; .* python tools/split_dataset.py PHOTOS .* --folds 5'):
        find_folds(tmp_path)
    for fold in (10, 9, 0):
        (tmp_path / f'fold{fold}').mkdir()
        (tmp_path / f'fold{fold}' / 'val.txt').touch()
    (tmp_path / 'folder').mkdir()
    assert find_folds(tmp_path) == [0, 9, 10]
    assert find_folds(tmp_path, [10, 0, 10]) == [0, 10]
    with pytest.raises(InputError, match=r'--folds 1 2: .* has fold0, fold9, fold10'):
        find_folds(tmp_path, [2, 0, 1])
    with pytest.raises(InputError, match=r'classes\.txt, .*train\.txt: no such file'):
        read_lists(Path(tmp_path), 9)


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert parallel_runs(1000) == (1000, 1)
    jobs, threads = parallel_runs()
    assert parallel_runs(jobs) == (jobs, threads)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert parallel_runs(1000) == (1000, 3)


def test_no_more_runs_than_the_memory_holds(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(fold_runs, 'cores', lambda: 64)
    monkeypatch.setattr(fold_runs, 'has_accelerator', lambda: False)
    pages = {'SC_PHYS_PAGES': 3.5 * fold_runs.MEMORY, 'SC_PAGE_SIZE': 1}
    monkeypatch.setattr(fold_runs.os, 'sysconf', pages.get, raising=False)
    assert parallel_runs() == (3, 21)
