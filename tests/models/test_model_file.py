"""Model files: a checkpoint and its export open as the same kind of object."""

import subprocess
import sys

import pytest
from mmengine.config import Config

import custom_modules.register  # noqa: F401  the saved config names its classes
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import load_checkpoint, weights_digest
from custom_modules.models.model_file import open_model_file, read_temperature


def test_a_checkpoint_and_its_export(trained, exported):
    checkpoint = load_checkpoint(trained.work_dir / 'best.pth')
    found, export = open_model_file(trained.work_dir / 'best.pth'), open_model_file(exported)
    assert found.classes == export.classes == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    assert found.meta == checkpoint['meta']
    assert found.digest == weights_digest(checkpoint['state_dict'])
    assert found.weights.keys() == checkpoint['state_dict'].keys()
    assert found.config.model.backbone.type == found.settings['model']['backbone']['type'] == 'MobileNetV2'
    assert found.temperature is None
    assert open_model_file(found.path, Config({'model': 1})).config.model == 1
    assert export.meta['epoch'] == found.meta['epoch']
    assert export.weights == {}
    assert export.preprocessing.crop == (32, 32)
    assert export.session.get_inputs()[0].type == 'tensor(uint8)'


def test_the_module_is_imported_without_torch():
    code = (
        'import sys, custom_modules.models.model_file; assert not {"torch", "mmengine", "scipy"} & sys.modules.keys()'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('value', ['1.2', 0, -1.0, float('nan'), float('inf'), True, [1.0]])
def test_a_temperature_that_is_no_positive_number_is_refused(value):
    with pytest.raises(InputError, match=r'best\.pth: its temperature is .*, no positive number'):
        read_temperature({'temperature': value}, 'best.pth')
