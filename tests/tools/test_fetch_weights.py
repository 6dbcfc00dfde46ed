"""tools/fetch_weights.py: what it prints and returns."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from custom_modules.errors import run_tool
from custom_modules.models.weights_catalogue import WEIGHTS
from tools.fetch_weights import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp('given') / 'weights.pth'
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def call(*argv) -> int:
    return run_tool(lambda: main([str(arg) for arg in argv]))


def test_import_then_again(file, tmp_path, capsys):
    assert call('resnet18', '--from', file, '--out', tmp_path) == 0
    out = capsys.readouterr().out
    assert '100 % of the backbone' in out
    assert 'features differ by at most' in out
    assert f'written: {tmp_path / "resnet18.pth"}' in out

    before = (tmp_path / 'resnet18.pth').stat().st_mtime_ns
    for argv in (['resnet18', '--from', file], ['resnet18']):
        assert call(*argv, '--out', tmp_path) == 0
        assert 'already there and intact, from weights.pth' in capsys.readouterr().out
    assert (tmp_path / 'resnet18.pth').stat().st_mtime_ns == before


def test_unusable_input_is_one_line_and_exit_code_2(file, tmp_path, capsys):
    (tmp_path / 'garbage.pth').write_bytes(b'no checkpoint at all')
    for name, given, said in [
        ('mobilenet_v2', file, 'looks like resnet18'),
        ('resnet18', tmp_path / 'garbage.pth', 'garbage.pth'),
        ('resnet18', tmp_path / 'absent.pth', 'absent.pth'),
    ]:
        assert call(name, '--from', given, '--out', tmp_path / 'out') == 2
        streams = capsys.readouterr()
        assert streams.out == ''
        (line,) = streams.err.splitlines()
        assert line.startswith('error: ')
        assert said in line
    assert not (tmp_path / 'out').exists()


def test_arguments(tmp_path, capsys):
    for argv in (['vgg16'], []):
        with pytest.raises(SystemExit) as caught:
            call(*argv, '--out', tmp_path)
        assert caught.value.code == 2
        assert 'mobilenet_v2' in capsys.readouterr().err


def test_list(tmp_path, capsys):
    (tmp_path / 'resnet18.pth').touch()
    assert call('--list', '--out', tmp_path) == 0
    out = capsys.readouterr().out
    assert 'resnet18.pth (there)' in out
    assert 'mobilenet_v2.pth (not there)' in out
    assert out.count('https://') == 3 * len(WEIGHTS)


def test_listing_does_not_wait_for_torch():
    check = "import sys, tools.fetch_weights as tool; tool.main(['--list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, '-c', check], cwd=ROOT, check=True, capture_output=True)
