"""tools/export_onnx.py: from best.pth to an ONNX model that scores the same, or none."""

import json
import shutil

import onnx
import onnxruntime
import pytest
import torch

from custom_modules.models.onnx_file import is_intact

CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


@pytest.fixture
def best(trained):
    return trained.work_dir / 'best.pth'


def test_an_export_scores_as_torch_does_and_says_what_it_is(best, data, call, tmp_path):
    result = call('export_onnx', best, '--out', 'out/flowers.onnx', '--data-root', data)
    assert result.code == 0, result
    assert ', val: 15 photos, ' in result.out
    assert result.out.splitlines()[0].endswith('top-1 identical')
    content = (tmp_path / 'out' / 'flowers.onnx').read_bytes()
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


def test_the_temperature_of_a_test_travels_with_the_model(
    best, exported, tiny_config, data, call, tmp_path, give_temperature
):
    from custom_modules.inference.onnx_predictor import OnnxPredictor

    best = shutil.copy(best, tmp_path / 'best.pth')
    assert OnnxPredictor(exported).temperature is None
    assert call('test', tiny_config, best).code == 0
    give_temperature(tmp_path / 'metrics.json', 1.25)
    fitted = json.loads((tmp_path / 'metrics.json').read_text())['temperature_scaling']['temperature']
    said = call('export_onnx', best, '--out', 'tested.onnx', '--data-root', data, '--int8').out
    assert f'temperature {fitted:.3f}, of {tmp_path}/metrics.json\n' in said
    assert OnnxPredictor('tested.onnx').temperature == fitted
    assert OnnxPredictor('tested_int8.onnx').temperature is None  # its scores are others
    assert 'fitted on all of these photos' in (tmp_path / 'tested.onnx.MODEL_CARD.md').read_text()
    assert 'Not tested' in exported.with_name(f'{exported.name}.MODEL_CARD.md').read_text()
    photos = sorted((data / 'val').glob('*/*'))
    rows = [call('predict', *photos, '--checkpoint', model).out for model in (exported, 'tested.onnx')]
    assert rows[0] == rows[1]  # it changes no score by itself


def test_what_differs_is_not_written_and_what_exists_stays(best, call, tmp_path, monkeypatch):
    from custom_modules.inference import onnx_export

    (tmp_path / 'mine.onnx').write_text('mine')
    assert 'exists already' in call('export_onnx', best, '--out', 'mine.onnx').error
    (tmp_path / 'my.onnx.MODEL_CARD.md').write_text('mine')
    assert 'my.onnx.MODEL_CARD.md: exists already' in call('export_onnx', best, '--out', 'my.onnx').error
    monkeypatch.setattr(onnx_export, 'TOLERANCE', -1)
    result = call('export_onnx', best, '--out', 'mine.onnx', '--overwrite')
    assert result.code == 1
    assert 'drawn flowers: 40 photos' in result.out
    (line,) = result.err.splitlines()
    assert line.startswith('error: mine.onnx: not written: its scores differ from torch by ')
    assert [(path.name, path.read_text()) for path in tmp_path.glob('*.onnx')] == [('mine.onnx', 'mine')]


def test_eight_bits_are_measured_beside_the_original(best, data, call, tmp_path):
    assert '--data-root' in call_refused(call, best)
    result = call('export_onnx', best, '--out', 'a.onnx', '--data-root', data, '--int8')
    assert result.code == 0, result
    assert result.out.count('top-1 ') == 5
    assert 'int8        calibrated on 40 training photos: 15 photos' in result.out
    assert (tmp_path / 'a.onnx.MODEL_CARD.md').read_text().count('; top-1 ') == 2
    model = onnx.load(tmp_path / 'a_int8.onnx')
    onnx.checker.check_model(model)
    assert {prop.key for prop in model.metadata_props} >= {'classes', 'preprocessing', 'checksum'}
    weights = {value.name: value.data_type for value in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == 'Conv']
    quantized = {node.output[0]: node for node in model.graph.node if node.op_type == 'DequantizeLinear'}
    assert all(weights[quantized[node.input[1]].input[0]] == onnx.TensorProto.INT8 for node in convolutions)
    (softmax,) = (node for node in model.graph.node if node.op_type == 'Softmax')
    assert {node.output[0]: node.op_type for node in model.graph.node}[softmax.input[0]] == 'Gemm'  # not rounded
    assert call('predict', data / 'val', '--checkpoint', 'a_int8.onnx').code == 0


def test_training_photos_that_cannot_be_read_are_named(best, data, call, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / 'spoilt')
    photo = min((spoilt / 'train' / 'tulip').iterdir())
    photo.write_bytes(b'no photo')
    said = call('export_onnx', best, '--out', 'a.onnx', '--data-root', spoilt, '--int8').error
    assert f'{photo}: broken picture, or none that can be read; mend the dataset first' in said
    assert not list(tmp_path.glob('*.onnx'))


def call_refused(call, best):
    """What is said on stderr of --int8 without photos."""
    import contextlib
    import io

    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit):
        call('export_onnx', best, '--int8')
    return said.getvalue()


def test_a_model_with_other_classes_than_scores_is_not_written(best, call, tmp_path):
    checkpoint = torch.load(best, weights_only=True)
    checkpoint['meta']['classes'].pop()
    torch.save(checkpoint, tmp_path / 'four.pth')
    assert 'gives 5 scores for 4 classes' in call('export_onnx', 'four.pth').error
    assert [path.name for path in tmp_path.iterdir()] == ['four.pth']
