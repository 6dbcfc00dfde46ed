"""Errors: one line for each problem, a remedy, and a traceback for bugs alone."""

import errno
import os
import re
import runpy
import subprocess
import sys

import pytest

from custom_modules.errors import InputError, PhotoError, as_configured, run_tool


def fail(error):
    raise error


def test_each_problem_is_a_line(capsys):
    assert run_tool(lambda: fail(InputError('a.txt:1: wrong', 'a.txt:2: wrong too'))) == 2
    assert capsys.readouterr().err == 'error: a.txt:1: wrong\nerror: a.txt:2: wrong too\n'


@pytest.mark.parametrize('name', ['LOCAL_RANK', 'SLURM_LOCALID'])
def test_one_process_per_machine_prints(name, capsys, monkeypatch):
    monkeypatch.setenv(name, '1')
    assert run_tool(lambda: fail(InputError('wrong'))) == 2
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('error', 'code', 'line'),
    [
        (ImportError('libGL.so.1: cannot open shared object file'), 2, '.*apt-get install libgl1.*'),
        (ModuleNotFoundError("No module 'cv2'", name='cv2'), 2, "error: No module 'cv2': pip install -r .*"),
        (KeyboardInterrupt(), 130, 'error: interrupted'),
        (OSError(errno.ENOSPC, 'No space left', 'best.pth'), 2, 'error: best.pth: No space left. Free .*'),
    ],
)
def test_a_line_for_the_user(error, code, line, capsys):
    assert run_tool(lambda: fail(error)) == code
    assert re.fullmatch(f'{line}\n', capsys.readouterr().err)


def test_a_bug_keeps_its_traceback():
    bugs = [ModuleNotFoundError('a bug', name='custom_modules.absent'), ImportError('nonesuch')]
    for error in (*bugs, FileNotFoundError(errno.ENOENT, 'No such file', 'x')):
        with pytest.raises(type(error)):
            run_tool(lambda error=error: fail(error))


@pytest.mark.skipif(os.name != 'posix', reason='pipes')
def test_a_closed_pipe_is_no_error_message():
    code = 'from custom_modules.errors import run_tool; raise SystemExit(run_tool(lambda: print("x" * 10**6) or 0))'
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, '-c', code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, '')


def test_unreadable_images_are_named_by_any_process(capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    in_worker = 'Caught PhotoError in worker 0.\nTraceback …\ncustom_modules.errors.PhotoError: a.jpg: unreadable\n'
    for text in ('a.jpg: unreadable', in_worker):
        assert run_tool(lambda text=text: fail(PhotoError(text))) == 2
        assert capsys.readouterr().err == 'error: a.jpg: unreadable\n'


def test_an_error_in_a_config_is_a_line():
    with pytest.raises(InputError) as caught, as_configured('optim_wrapper'):
        fail(TypeError("'<' not supported\nand more"))
    assert str(caught.value) == "optim_wrapper: TypeError: '<' not supported. Correct the config or --cfg-options."
    with pytest.raises(InputError) as caught, as_configured('model'):
        fail(InputError('known'))
    assert str(caught.value) == 'known'


def test_a_bare_assert_is_quoted(tmp_path):
    (tmp_path / 'upstream.py').write_text('def crop(scale):\n    assert scale > 0\n')  # pytest rewrites those here
    crop = runpy.run_path(str(tmp_path / 'upstream.py'))['crop']
    with pytest.raises(InputError) as caught, as_configured('pipeline'):
        crop(scale=0)
    assert str(caught.value) == 'pipeline: AssertionError: assert scale > 0. Correct the config or --cfg-options.'
