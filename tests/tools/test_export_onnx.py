"""tools/export_onnx.py: from best.pth to an ONNX model that scores the same, or none."""

import json

import onnx
import onnxruntime
import pytest

from custom_modules.inference.onnx_file import is_intact

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


def test_what_differs_is_not_written_and_what_exists_stays(best, call, tmp_path, monkeypatch):
    from custom_modules.inference import onnx_export

    (tmp_path / 'mine.onnx').write_text('mine')
    assert 'exists already' in call('export_onnx', best, '--out', 'mine.onnx').error
    monkeypatch.setattr(onnx_export, 'TOLERANCE', -1)
    result = call('export_onnx', best, '--out', 'mine.onnx', '--overwrite')
    assert result.code == 1
    assert 'drawn flowers: 40 photos' in result.out
    (line,) = result.err.splitlines()
    assert line.startswith('error: mine.onnx: not written: its scores differ from torch by ')
    assert [(path.name, path.read_text()) for path in tmp_path.glob('*.onnx')] == [('mine.onnx', 'mine')]
