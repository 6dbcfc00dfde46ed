"""Uploads and ``POST /classify``, without a server, a browser or a model: what is refused, and the scores given."""

import asyncio
import base64
import io
import tempfile

import numpy as np
import pytest
from PIL import Image

from custom_modules.inference.classify_upload import KINDS, MAX_BYTES, MAX_MEGABYTES, UploadClassifier
from custom_modules.inference.predictor import Predictor
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction

pytest.importorskip('gradio')

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

from custom_modules.inference.web_demo import answer, build_app, csv_address

SCORES = [0.5, 0.3, 0.2]


def image(size=(8, 8), kind='JPEG'):
    file = io.BytesIO()
    Image.new('1', size).save(file, kind)
    return file.getvalue()


class Engine(Predictor):
    """Gives each photo the same scores, and counts the photos that it decodes."""

    classes = ['daisy', 'rose', 'tulip']

    def __init__(self):
        self.decoded = 0

    def load(self, path):
        self.decoded += 1

    def score(self, images):
        return np.array([SCORES] * len(images))


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / '0'  # uploads have no suffix
    path.write_bytes(image())
    return path


@pytest.mark.parametrize('temperature', [None, 0.5, 3.0])
def test_scores_are_calibrated_where_the_temperature_is_known(engine, photo, temperature):
    wanted = SCORES if temperature is None else tempered([SCORES], temperature)[0].tolist()
    for min_score, sure in ((wanted[0] - 0.01, True), (wanted[0] + 0.01, False)):
        classifier = UploadClassifier(engine, min_score, temperature)
        found = classifier.classify(photo, 'a.jpg')
        assert found == Prediction('a.jpg', wanted)
        scores = dict(zip(Engine.classes, wanted, strict=True))
        fields = {'label': 'daisy', 'score': wanted[0], 'scores': scores, 'sure': sure}
        assert classifier.fields(found) == fields


@pytest.fixture
def client(engine, tmp_path, monkeypatch):
    """Asks an application whose temporary files are all in ``tmp_path``."""
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with TestClient(build_app(UploadClassifier(engine, 0.4), 'best.onnx', [])) as client:
        yield client


ANSWER = {'label': 'daisy', 'score': 0.5, 'scores': dict(zip(Engine.classes, SCORES, strict=True)), 'sure': True}


def test_photos_get_their_scores_and_no_file_stays(client, tmp_path):
    before = {path for path in tmp_path.rglob('*') if path.is_file()}
    files = [('photo', ('a.jpg', image())), ('photo', ('b.jpg', b'')), ('photo', ('c.jpg', image()))]
    assert client.post('/classify', files={'photo': ('../rose.jpg', image())}).json() == ANSWER
    answered = client.post('/classify', files=files)
    assert answered.status_code == 200
    assert answered.json() == [
        {'photo': 'a.jpg', **ANSWER},
        {'photo': 'b.jpg', 'detail': 'empty file'},
        {'photo': 'c.jpg', **ANSWER},
    ]
    assert {path for path in tmp_path.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize(
    ('content', 'status', 'detail'),
    [
        (b'a note', 415, f'no image that can be read: {KINDS}'),
        (image(kind='PPM'), 415, 'PPM image that cannot be decoded here. Save it as JPEG'),  # OpenCV would read it
        (b'', 400, 'empty file'),
        (image((20_000, 20_000), 'PNG'), 413, 'too large, more than 89 million pixels. Resize it, or save it as JPEG'),
        (bytes(MAX_BYTES + 1), 413, f'too large, more than {MAX_MEGABYTES} MB'),
    ],
    ids=['text', 'other', 'empty', 'pixels', 'bytes'],
)
def test_what_is_no_photo_is_refused_before_it_is_decoded(client, engine, content, status, detail):
    answered = client.post('/classify', files={'photo': ('rose.jpg', content)})
    assert (answered.status_code, answered.json()) == (status, {'detail': detail})
    assert engine.decoded == 0


def test_a_request_without_photos_or_of_unknown_or_great_length_is_refused_in_a_line(client):
    def stream():
        yield b'--x--'

    form = {'Content-Type': 'multipart/form-data; boundary=x'}
    answers = [
        client.post('/classify'),
        client.post('/classify', data={'photo': 'rose.jpg'}),
        client.post('/classify', content=stream(), headers=form),
        client.post('/classify', content=b'--x--', headers={**form, 'Content-Length': str(10**10)}),
    ]
    assert [answered.status_code for answered in answers] == [400, 400, 411, 413]
    for answered in answers:
        assert len(answered.json()['detail'].splitlines()) == 1


def test_an_upload_that_breaks_off_is_no_traceback():
    async def gone():
        return {'type': 'http.disconnect'}

    headers = [(b'content-length', b'9'), (b'content-type', b'multipart/form-data; boundary=x')]
    request = Request({'type': 'http', 'method': 'POST', 'headers': headers}, gone)
    with pytest.raises(HTTPException, match='the connection ended'):
        asyncio.run(answer(request, None))


def test_no_file_name_is_a_formula_in_the_table(engine):
    names = ['=1+1.jpg', '@x.jpg', 'a=b.jpg']
    address = csv_address([Prediction(name, SCORES) for name in names], UploadClassifier(engine, 0.4))
    table = base64.b64decode(address.partition(',')[2]).decode()
    assert [line.partition(',')[0] for line in table.splitlines()[1:]] == ['./=1+1.jpg', './@x.jpg', 'a=b.jpg']
