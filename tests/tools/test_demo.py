"""The README's first command, whole: it has to end well on any machine that the requirements install on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_demo_reaches_its_score(tmp_path):
    command = [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs/flower_mobilenetv2.py', '--demo']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    block = result.stdout[result.stdout.rindex('top-1 on ') :]
    best, last = (float(percent) for percent in re.findall(r'(?:best|last) ([\d.]+) %', block))
    assert best >= last
    assert best >= 90
    assert 'synthetic pictures' in block
    assert 'python tools/split_dataset.py' in block
    assert (tmp_path / 'work_dirs/flower_mobilenetv2_demo/best.pth').is_file()
    assert (tmp_path / 'data/demo_flowers/manifest.json').is_file()
