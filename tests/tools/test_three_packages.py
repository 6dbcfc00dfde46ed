"""tools/predict.py on an exported model, without torch: the table of the checkpoint."""

import csv
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from processes import TRAINING, without

from custom_modules.models.onnx_file import PACKAGES

ROOT = Path(__file__).parents[2]


def rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=['blocked modules', pytest.param('own environment', marks=pytest.mark.slow)])
def tool(request, tmp_path):
    """A command: tools/predict.py where torch cannot be imported, or where only the packages named there are."""
    path = ROOT / 'tools' / 'predict.py'
    if request.param == 'blocked modules':
        return [sys.executable, *without(*TRAINING, 'rich'), path]
    venv.create(tmp_path / 'venv', with_pip=True)
    python = tmp_path / 'venv' / ('Scripts' if sys.platform == 'win32' else 'bin') / 'python'
    _, *install = PACKAGES.split()
    subprocess.run([python, '-m', 'pip', '--quiet', *install], check=True)
    return [python, path]


def test_rows_are_those_of_the_checkpoint_without_torch(tool, exported, trained, data, call, tmp_path):
    (tmp_path / 'cut.jpg').write_bytes(next((data / 'val' / 'rose').iterdir()).read_bytes()[:300])
    photos = [data / 'val', tmp_path / 'cut.jpg']
    slow = call('predict', *photos, '--checkpoint', trained.work_dir / 'best.pth', '--out', 'slow.csv')
    arguments = [*photos, '--checkpoint', exported, '--out', 'fast.csv', '--sort-into', 'sorted', '--batch-size', '4']
    fast = subprocess.run([*tool, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert fast.returncode == slow.code == 1, fast
    assert fast.stderr == slow.err
    for one, other in zip(rows(tmp_path / 'slow.csv'), rows(tmp_path / 'fast.csv'), strict=True):
        assert (one.pop('path'), one.pop('label')) == (other.pop('path'), other.pop('label'))
        assert {k: float(v) for k, v in one.items()} == pytest.approx(
            {k: float(v) for k, v in other.items()}, abs=1e-4
        )
    assert len(list((tmp_path / 'sorted').glob('*/*'))) == 15
