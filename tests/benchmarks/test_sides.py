"""Measuring processes: memory of a whole family, an end that leaves none, a log followed while it is written."""

import subprocess
import sys
import time

import pytest

from custom_modules.benchmarks.sides import Side, end, family, memory
from custom_modules.benchmarks.time_to import follow_scalars
from custom_modules.errors import InputError

needs_proc = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='/proc tells of processes')
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', 'block = b"x" * 60_000_000; print(1, flush=True); input()'],
                         stdin=subprocess.PIPE, start_new_session=True)
input()
"""


@needs_proc
def test_the_family_is_counted_and_ended():
    process = subprocess.Popen(
        [sys.executable, '-c', PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b'1\n'  # the child's
    members = family(process.pid)
    assert len(members) == 2  # a session of its own does not hide the child
    assert memory(members) > 50_000_000
    end(process)
    assert [member for member in members if memory([member])] == []


def test_what_a_side_finds_wrong_is_told(tmp_path):
    side = Side('loader', {'config': 'gone.py', 'options': [], 'data_root': None}, tmp_path / 'side', {})
    with pytest.raises(InputError, match=r'gone\.py: no such config'):
        side.receive()
    side.close()


def test_a_side_that_dies_is_told(tmp_path):
    side = Side('no such job', {}, tmp_path / 'side', {})
    with pytest.raises(InputError, match=r'ended early \(1\); its output: .*log\.txt'):
        side.receive()
    side.close()


WRITER = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1]) / 'now' / 'vis_data'
folder.mkdir(parents=True)
with (folder / 'scalars.json').open('w') as file:
    for text in ('{"loss": 1}\\n{"acc', 'uracy/top1": 50.0}\\n', '{"torn'):
        file.write(text)
        file.flush()
        input()
"""


def test_each_record_comes_once_and_whole(tmp_path):
    process = subprocess.Popen([sys.executable, '-c', WRITER, str(tmp_path)], stdin=subprocess.PIPE)
    records = follow_scalars(tmp_path, process)
    assert next(records) == {'loss': 1}
    process.stdin.write(b'\n')
    process.stdin.flush()
    assert next(records) == {'accuracy/top1': 50.0}
    process.stdin.write(b'\n\n')
    process.stdin.flush()
    began = time.monotonic()
    assert list(records) == []
    assert time.monotonic() - began < 60
    process.stdin.close()
    process.wait()
