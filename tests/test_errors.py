import pytest

from custom_modules.errors import InputError, run_tool


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


def test_other_errors_pass():
    with pytest.raises(ImportError, match='nonesuch'):
        run_tool(lambda: fail(ImportError('nonesuch')))
    assert run_tool(lambda: 1) == 1
