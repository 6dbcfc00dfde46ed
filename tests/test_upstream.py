"""What is patched in libraries: once or often, in this process and in those that it starts."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import mmpretrain
from mmengine.config import Config

from custom_modules.upstream import base_path, patch_upstream, quieten

SHOWN = """
import sys
from custom_modules.upstream import quieten
quieten()
print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'cv2', 'PIL', 'mmengine'}))
import cv2, numpy
content = cv2.imencode('.png', numpy.zeros((50, 50, 3), numpy.uint8))[1]
content[60:70] = 7
cv2.imdecode(content, cv2.IMREAD_COLOR)
cv2.imread('absent.png')
print(cv2.utils.logging.getLogLevel())
import mmcv.cnn
"""


def test_base_configs_of_mmpretrain_are_found_without_its_index():
    for _ in range(2):
        patch_upstream()
    name = '_base_/models/mobilenet_v2_1x.py'
    path, package = Config._get_cfg_path(f'mmpretrain::{name}', 'configs/a.py')
    assert (Path(path), package) == (Path(mmpretrain.__file__).parent / '.mim' / 'configs' / name, 'mmpretrain')
    assert Path(path).is_file()
    assert base_path('../b.py', 'configs/a.py') == ('configs/../b.py', None)


def test_libraries_are_quiet_and_a_process_started_later_is_too():
    environment = {key: value for key, value in os.environ.items() if key != 'OPENCV_LOG_LEVEL'}
    done = subprocess.run([sys.executable, '-c', SHOWN], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == ['[]', '0']
    assert 'WARN' not in done.stderr
    assert 'Fail to import' not in done.stderr
    patch_upstream()
    level = [sys.executable, '-c', 'import cv2; print(cv2.utils.logging.getLogLevel())']
    assert subprocess.run(level, capture_output=True, text=True).stdout == '0\n'


def test_compiling_mmpretrain_prints_nothing():
    path = Path(mmpretrain.__file__).parent / 'evaluation' / 'metrics' / 'vqa.py'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('ignore')
        warnings.simplefilter('always', SyntaxWarning)
        quieten()
        compile(path.read_text(encoding='utf-8'), path, 'exec')
    assert not caught


def test_mmpretrains_own_tools_can_import_the_package_that_configs_name(tmp_path):
    patched = """
from mmengine.config import Config
from mmengine.fileio import get_file_backend
Config.fromfile({config!r})
import custom_modules.register
from mmpretrain.registry import HOOKS, METRICS
print(type(get_file_backend('a.pth')).__name__, HOOKS.get('SeedHook').__name__, METRICS.get('MeanNLL').__name__)
"""
    config = str(Path(__file__).parents[1] / 'configs' / 'flower_mobilenetv2.py')
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])}
    command = [sys.executable, '-c', patched.format(config=config)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ['AtomicLocalBackend SeedHook MeanNLL'], done.stderr
