"""A signal to the command that trains several seeds reaches the run, which has the time to save."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

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
from custom_modules.engine.seeds import run_to_its_end
from custom_modules.engine.stop_signals import stop_signal
print(run_to_its_end([sys.executable, '-c', {RUN!r}]), stop_signal())
"""


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_a_signal_is_handed_on():
    process = subprocess.Popen([sys.executable, '-c', COMMAND], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50)[0] == 'saved\n143 15\n'
