"""The first signal is noted, the second ends the process; workers ignore them. In processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from custom_modules.engine.stop_signals import stop_signal, stop_signals_caught

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')


def run(code: str) -> subprocess.CompletedProcess:
    prelude = 'import signal, os\nfrom custom_modules.engine.stop_signals import *\n'
    command = [sys.executable, '-c', prelude + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
def test_the_first_is_noted_a_later_one_ends(number):
    done = run(f"""
import custom_modules.engine.stop_signals
with stop_signals_caught():
    signal.raise_signal({int(number)})
    signal.raise_signal({int(number)})
    print(stop_signal(), flush=True)
    custom_modules.engine.stop_signals.ONE_REQUEST = 0
    signal.raise_signal({int(number)})
    print('still there')
""")
    assert done.stdout == f'{int(number)}\n'
    assert done.returncode == -number
    assert done.stderr.strip() == f'{number.name}: ending after this step; once more to end at once'


def test_handlers_are_put_back_and_nothing_is_remembered():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals_caught():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with stop_signals_caught():
        assert stop_signal() == 0


def test_an_ignored_signal_stays_ignored():  # nohup
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals_caught():
        signal.raise_signal(signal.SIGHUP)
        assert stop_signal() == 0
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('method', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_workers_outlive_signals_but_obey_their_parent(method, tmp_path):
    script = tmp_path / 'load.py'
    script.write_text(f"""
import os, signal, subprocess, sys
from functools import partial
sys.path.insert(0, {str(ROOT)!r})
from torch.utils.data import DataLoader
from custom_modules.engine.stop_signals import shield_worker

if __name__ == '__main__':
    shield = partial(shield_worker, None)
    photos = DataLoader(range(100), num_workers=2, multiprocessing_context={method!r}, worker_init_fn=shield)
    batches = iter(photos)
    seen = [int(next(batches)), int(next(batches))]  # one from each: both are up
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # By another process, as slurm and terminals do.
        subprocess.run(['kill', f'-{{int(number)}}', *(str(worker.pid) for worker in batches._workers)], check=True)
    seen += map(int, batches)
    assert seen == list(range(100)), seen
    batches = iter(photos)
    next(batches), next(batches)
    for worker in batches._workers:
        worker.terminate()
        worker.join(30)
    assert sys.platform != 'linux' or [worker.exitcode for worker in batches._workers] == [0, 0]
    print('done')
    os._exit(0)
""")
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == 'done\n', done.stderr


RUN = """
import signal, sys, time
def end(number, frame):
    print('saved', flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
time.sleep(60)
"""
COMMAND = f"""
import sys
from custom_modules.engine.stop_signals import run_process, stop_signal
print(run_process([sys.executable, '-c', {RUN!r}]), stop_signal())
"""


def test_a_signal_is_passed_on_to_the_process_that_runs():
    process = subprocess.Popen([sys.executable, '-c', COMMAND], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50)[0] == 'saved\n143 15\n'
