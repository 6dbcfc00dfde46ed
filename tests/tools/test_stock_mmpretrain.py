"""MMPretrain's own API and tools on this project's configs and checkpoints."""

import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import mmpretrain
import numpy as np
import pytest
from mmpretrain import ImageClassificationInferencer, get_model

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'


@pytest.fixture
def config(trained):
    return str(trained.work_dir / 'tiny.py')


@pytest.mark.parametrize('checkpoint', ['best.pth', 'epoch_2.pth'])
def test_the_inferencer_takes_a_path_an_array_and_a_list(config, trained, raw, checkpoint):
    inferencer = ImageClassificationInferencer(config, str(trained.work_dir / checkpoint), device='cpu')
    path = str(next(raw.rglob('*.jpg')))
    by_path, by_array = (inferencer(given)[0] for given in (path, cv2.imread(path)))
    assert by_path['pred_class'] == by_array['pred_class']
    np.testing.assert_allclose(by_path['pred_scores'], by_array['pred_scores'], atol=1e-6)
    assert [found['pred_class'] for found in inferencer([path, path], batch_size=2)] == [by_path['pred_class']] * 2


def test_get_model(config, best):
    assert get_model(config, pretrained=str(best), device='cpu').head.num_classes == 5


@pytest.mark.parametrize(
    ('tool', 'arguments', 'written'),
    [
        ('train.py', '{config} --work-dir {out} --cfg-options train_cfg.max_epochs=1', 'epoch_1.pth'),
        ('test.py', '{config} {best} --work-dir {out} --out {out}/found.pkl', 'found.pkl'),
        ('visualization/browse_dataset.py', '{config} --not-show -o {out} -n 2', '*.jpg'),
        ('visualization/browse_dataset.py', '{config} --not-show -o {out} -n 2 -m pipeline', '*.jpg'),
        ('analysis_tools/get_flops.py', '{config} --shape 32', None),
        ('analysis_tools/confusion_matrix.py', '{config} {best} --show-path {out}/matrix.png', 'matrix.png'),
        ('misc/verify_dataset.py', '{config} --out-path {out}/broken.log', None),
    ],
)
def test_tools(tool, arguments, written, config, best, raw, tmp_path, monkeypatch):
    values = {'config': config, 'best': best, 'out': tmp_path, 'photo': next(raw.rglob('*.jpg'))}
    monkeypatch.setattr(sys, 'argv', [tool, *arguments.format(**values).split()])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(TOOLS / tool), run_name='__main__')
    if written:
        assert list(tmp_path.rglob(written))


def test_vis_cam(config, best, raw, tmp_path, tool_environment):
    photo, out = next(raw.rglob('*.jpg')), tmp_path / 'cam.jpg'
    command = [sys.executable, TOOLS / 'visualization/vis_cam.py', photo, config, best, '--save-path', out]
    environment = {**tool_environment, 'PYTHONPATH': str(ROOT)}  # as `pip install -e .` does for users
    subprocess.run(list(map(str, command)), env=environment, check=True)
    assert cv2.imread(str(out)) is not None
