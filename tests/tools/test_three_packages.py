"""tools/predict.py on an exported model where only its four packages are installed."""

import csv
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = 'onnxruntime', 'opencv-python-headless', 'Pillow', 'numpy'


def rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.slow  # installs packages
def test_the_table_is_that_of_the_checkpoint(exported, trained, data, call, tmp_path):
    assert call('predict', data / 'val', '--checkpoint', trained.work_dir / 'best.pth', '--out', 'torch.csv').code == 0
    venv.create(tmp_path / 'venv', with_pip=True)
    python = tmp_path / 'venv' / ('Scripts' if sys.platform == 'win32' else 'bin') / 'python'
    subprocess.run([python, '-m', 'pip', 'install', '--quiet', *PACKAGES], check=True)
    command = [python, ROOT / 'tools' / 'predict.py', data / 'val', '--checkpoint', exported, '--out', 'onnx.csv']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, '')
    torch, onnx = rows(tmp_path / 'torch.csv'), rows(tmp_path / 'onnx.csv')
    for one, other in zip(torch, onnx, strict=True):
        assert (one.pop('path'), one.pop('label')) == (other.pop('path'), other.pop('label'))
        assert {key: float(value) for key, value in one.items()} == pytest.approx(
            {key: float(value) for key, value in other.items()}, abs=1e-4
        )
