"""tools/export_onnx.py: from best.pth to an ONNX model that scores the same, or none."""

import json
import re
import shutil

import onnx
import onnxruntime
import torch

from custom_modules.models.model_file import open_model_file
from custom_modules.models.onnx_file import is_intact

CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


def test_an_export_says_what_it_is(exported, data):
    content = exported.read_bytes()
    assert is_intact(content)
    assert not is_intact(content.replace(b'"tulip"', b'"Tulip"'))
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(props['classes']) == CLASSES
    assert json.loads(props['preprocessing']) == {
        'crop': [32, 32],
        'short_edge': None,
        'min_short_edge': None,
        'interpolation': 'bilinear',
    }
    assert json.loads(props['input']) == {'shape': ['N', 3, 32, 32], 'type': 'uint8', 'channels': 'RGB'}
    about = json.loads(props['about'])
    assert about['run'].startswith('tiny_')
    assert about['dataset_digest'] == json.loads((data / 'manifest.json').read_text())['digest']
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    assert [(i.type, i.shape) for i in session.get_inputs()] == [('tensor(uint8)', ['N', 3, 32, 32])]
    assert [(o.type, o.shape) for o in session.get_outputs()] == [('tensor(float)', ['N', 5])]
    assert open_model_file(exported).temperature is None
    assert 'Not tested' in exported.with_name(f'{exported.name}.MODEL_CARD.md').read_text()


def test_a_tested_model_is_exported_with_its_temperature_and_in_8_bits(
    best, exported, tiny_config, data, call, tmp_path, give_temperature
):
    best = shutil.copy(best, tmp_path / 'best.pth')
    assert call('test', tiny_config, best).code == 0
    give_temperature(tmp_path / 'metrics.json', 1.25)
    fitted = json.loads((tmp_path / 'metrics.json').read_text())['temperature_scaling']['temperature']

    result = call('export_onnx', best, '--out', 'out/tested.onnx', '--data-root', data, '--int8')
    assert result.code == 0, result
    first, *others = result.out.splitlines()
    assert ', val: 15 photos, ' in first
    assert first.endswith('top-1 identical')
    assert others[0].startswith('int8        calibrated on 40 training photos: 15 photos')
    assert result.out.count('top-1 ') == 5
    assert f'temperature {fitted:.3f}, of {tmp_path}/metrics.json' in others
    card = (tmp_path / 'out' / 'tested.onnx.MODEL_CARD.md').read_text()
    assert card.count('; top-1 ') == 2
    assert 'fitted on all of these images' in card
    assert open_model_file('out/tested.onnx').temperature == fitted
    assert open_model_file('out/tested_int8.onnx').temperature is None  # its scores are others
    onnx.checker.check_model(onnx.load('out/tested_int8.onnx'))

    photos = sorted((data / 'val').glob('*/*'))
    rows = [call('predict', *photos, '--checkpoint', model).out for model in (exported, 'out/tested.onnx')]
    assert rows[0] == rows[1]  # the temperature changes no score by itself
    assert call('predict', *photos, '--checkpoint', 'out/tested_int8.onnx').code == 0


def test_what_differs_is_not_written_and_what_exists_stays(best, exported, call, tmp_path, monkeypatch):
    (tmp_path / 'mine.onnx').write_text('mine')
    assert 'exists already' in call('export_onnx', best, '--out', 'mine.onnx').error
    (tmp_path / 'my.onnx.MODEL_CARD.md').write_text('mine')
    assert 'my.onnx.MODEL_CARD.md: exists already' in call('export_onnx', best, '--out', 'my.onnx').error
    monkeypatch.setattr('custom_modules.inference.export.TOLERANCE', -1)
    monkeypatch.setattr('custom_modules.inference.export.export', lambda *_: exported.read_bytes())
    result = call('export_onnx', best, '--out', 'mine.onnx', '--overwrite')
    assert result.code == 1
    assert 'drawn flowers: 40 photos' in result.out
    (line,) = result.err.splitlines()
    assert line.startswith('error: mine.onnx: not written: its scores differ from torch by ')
    assert [(path.name, path.read_text()) for path in tmp_path.glob('*.onnx')] == [('mine.onnx', 'mine')]


def test_8_bits_that_lose_accuracy_are_not_written_without_force(best, exported, data, call, tmp_path, monkeypatch):
    monkeypatch.setattr('custom_modules.inference.export.MAX_LOSS', -1)
    monkeypatch.setattr('custom_modules.inference.export.export', lambda *_: exported.read_bytes())
    monkeypatch.setattr('custom_modules.inference.export.quantize', lambda model, *_: model)
    options = 'export_onnx', best, '--out', tmp_path / 'my.onnx', '--data-root', data, '--int8', '--overwrite'
    result = call(*options)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert re.match(
        r'error: \S*my_int8.onnx: not written: 8 bits lose 0.0 points of top-1, from (\d+/15) to \1\. Use', line
    )
    assert [path.name for path in tmp_path.glob('*.onnx')] == ['my.onnx']
    assert call(*options, '--force').code == 0
    assert (tmp_path / 'my_int8.onnx').exists()


def test_training_photos_that_cannot_be_read_are_named(best, data, call, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / 'spoilt')
    photo = min((spoilt / 'train' / 'tulip').iterdir())
    photo.write_bytes(b'no photo')
    said = call('export_onnx', best, '--out', 'a.onnx', '--data-root', spoilt, '--int8').error
    assert f'{photo}: corrupt image, or not an image. Fix the dataset first.' in said
    assert not list(tmp_path.glob('*.onnx'))


def test_a_model_with_other_classes_than_scores_is_not_written(best, call, tmp_path):
    checkpoint = torch.load(best, weights_only=True)
    checkpoint['meta']['classes'].pop()
    torch.save(checkpoint, tmp_path / 'four.pth')
    assert 'gives 5 scores for 4 classes' in call('export_onnx', 'four.pth').error
    assert [path.name for path in tmp_path.iterdir()] == ['four.pth']
