import errno
import os
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
def test_one_process_a_machine_speaks(name, capsys, monkeypatch):
    monkeypatch.setenv(name, '1')
    assert run_tool(lambda: fail(InputError('wrong'))) == 2
    assert capsys.readouterr().err == ''


def test_missing_libgl_names_the_remedy(capsys):
    error = ImportError('libGL.so.1: cannot open shared object file: No such file or directory')
    assert run_tool(lambda: fail(error)) == 2
    assert 'apt-get install libgl1' in capsys.readouterr().err


def test_a_missing_package_names_the_command_that_installs_it(capsys):
    assert run_tool(lambda: fail(ModuleNotFoundError("No module named 'cv2'", name='cv2'))) == 2
    assert capsys.readouterr().err == "error: No module named 'cv2': pip install -r requirements.txt\n"
    with pytest.raises(ModuleNotFoundError):
        run_tool(lambda: fail(ModuleNotFoundError('a bug', name='custom_modules.absent')))


def test_other_errors_pass():
    with pytest.raises(ImportError, match='nonesuch'):
        run_tool(lambda: fail(ImportError('nonesuch')))
    assert run_tool(lambda: 1) == 1


def test_an_interrupted_tool_says_how_to_go_on(capsys):
    assert run_tool(lambda: fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == 'error: interrupted\n'


def test_a_full_disk_is_a_line_and_a_bug_is_not(capsys):
    assert run_tool(lambda: fail(OSError(errno.ENOSPC, 'No space left on device', 'best.pth'))) == 2
    assert capsys.readouterr().err.startswith('error: best.pth: No space left on device; ')
    with pytest.raises(FileNotFoundError):
        run_tool(lambda: fail(FileNotFoundError(errno.ENOENT, 'No such file', 'x')))


@pytest.mark.skipif(os.name != 'posix', reason='pipes')
def test_an_output_that_nobody_reads_any_more_needs_no_words():
    code = 'from custom_modules.errors import run_tool; raise SystemExit(run_tool(lambda: print("x" * 10**6) or 0))'
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, '-c', code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, '')


def test_a_photo_is_named_by_the_process_that_could_not_read_it(capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    handed_on = 'Caught PhotoError in worker 0.\nTraceback …\ncustom_modules.errors.PhotoError: a.jpg: unreadable\n'
    for text in ('a.jpg: unreadable', handed_on):
        assert run_tool(lambda text=text: fail(PhotoError(text))) == 2
        assert capsys.readouterr().err == 'error: a.jpg: unreadable\n'


def test_what_a_config_breaks_is_a_line():
    with pytest.raises(InputError) as caught, as_configured('optim_wrapper'):
        fail(TypeError("'<' not supported\nand more"))
    assert str(caught.value) == "optim_wrapper: TypeError: '<' not supported; correct the config or --cfg-options"
    with pytest.raises(InputError) as caught, as_configured('model'):
        fail(InputError('known'))
    assert str(caught.value) == 'known'


def test_a_bare_assert_of_upstreams_is_quoted(tmp_path):
    (tmp_path / 'upstream.py').write_text('def crop(scale):\n    assert scale > 0\n')  # pytest rewrites those here
    crop = runpy.run_path(str(tmp_path / 'upstream.py'))['crop']
    with pytest.raises(InputError) as caught, as_configured('pipeline'):
        crop(scale=0)
    assert str(caught.value) == 'pipeline: AssertionError: assert scale > 0; correct the config or --cfg-options'
