"""Exported models: bad files and bad scores are named in a line."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx.parser
import pytest
from onnx import helper

from custom_modules.errors import InputError
from custom_modules.inference.predictor import open_predictor
from custom_modules.models.onnx_file import UNSEALED, seal


def foreign(props):
    """A model that averages its input, with some metadata."""
    made = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]>'
        'mean (float[N,3,32,32] x) => (float y) { y = ReduceMean <keepdims=0> (x) }'
    )
    helper.set_model_props(made, props)
    content = made.SerializeToString()
    return seal(content) if props else content


def test_bad_files_are_one_line(exported, data, call, tmp_path, monkeypatch):
    content = exported.read_bytes()
    model = onnx.load(exported)
    props = {**{prop.key: prop.value for prop in model.metadata_props}, 'checksum': UNSEALED}
    at = len(content) // 2
    helper.set_model_props(model, {**props, 'about': '{"temperature": 0}'})
    for name, changed in {
        'flipped': content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
        'cut': content[:at],
        'text': b'no model',
        'foreign': foreign({}),
        'shapes': foreign(props),
        'garbled': foreign({**props, 'preprocessing': '{"crop": 1}'}),
        'twice': foreign({**props, 'classes': '["a", "a"]'}),
        'heated': seal(model.SerializeToString()),
    }.items():
        (tmp_path / f'{name}.onnx').write_bytes(changed)
    for name, said in {
        'heated': 'its temperature is 0, no positive number',
        'gone': 'no such file',
        'flipped': 'corrupt, or changed since its export',
        'cut': 'corrupt, or no ONNX model',
        'text': 'corrupt, or no ONNX model',
        'foreign': 'its metadata lacks classes, preprocessing, checksum',
        'shapes': 'computes float (N, 3, 32, 32) to float (), but its metadata says uint8 (N, 3, 32, 32)',
        'garbled': 'its metadata cannot be read',
        'twice': 'two classes have the same name',
    }.items():
        error = call('predict', data / 'val', '--checkpoint', f'{name}.onnx').error
        assert f'error: {name}.onnx: ' in error
        assert said in error
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert 'pip install onnxruntime' in call('predict', data / 'val', '--checkpoint', exported).error


def test_no_photo_depends_on_its_batch(exported, data):
    photos = [str(path) for path in sorted((data / 'val').glob('*/*'))]
    predictor = open_predictor(str(exported))
    alone = [outcome.scores for outcome in predictor.predict(photos, 1, 0)]
    np.testing.assert_allclose([o.scores for o in predictor.predict(photos, 4, 2)], alone, atol=1e-6)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda scores: 10 * scores, 'gives scores that do not add up to 1'),
        (lambda scores: scores[:, 1:], r'gives scores of shape \(1, 4\), not \(1, 5\)'),
        (lambda scores: scores * float('nan'), 'its scores are not finite'),
    ],
)
def test_scores_that_are_none_are_refused(exported, data, change, said):
    predictor = open_predictor(str(exported))
    session = predictor.file.session
    changed = SimpleNamespace(
        run=lambda *asked: [change(scores) for scores in session.run(*asked)], get_inputs=session.get_inputs
    )
    predictor.file = replace(predictor.file, session=changed)
    with pytest.raises(InputError, match=said):
        list(predictor.predict([str(min((data / 'val').glob('*/*')))], 1, 0))
