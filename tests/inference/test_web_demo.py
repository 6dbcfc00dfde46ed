"""``POST /classify`` without a server, a browser or a model: what it answers, and that it keeps nothing."""

import asyncio
import base64
import io
import tempfile

import pytest
from PIL import Image
from test_classify_upload import SCORES, Engine

from custom_modules.inference.classify_upload import KINDS, MAX_BYTES, MAX_MEGABYTES, Answer, UploadClassifier
from custom_modules.metrics.predictions import Prediction

pytest.importorskip('gradio')

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

from custom_modules.inference.web_demo import answer, build_app, csv_address


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Asks an application whose temporary files are all in ``tmp_path``."""
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    classifier = UploadClassifier(Engine(), 0.4)
    with TestClient(build_app(classifier, 'best.onnx', [])) as client:
        yield client


def jpeg(size=(8, 8), kind='JPEG'):
    file = io.BytesIO()
    Image.new('1', size).save(file, kind)
    return file.getvalue()


ANSWER = {'label': 'daisy', 'score': 0.5, 'scores': dict(zip(Engine.classes, SCORES, strict=True)), 'sure': True}


def test_one_photo_gets_its_scores(client):
    answered = client.post('/classify', files={'photo': ('../rose.jpg', jpeg())})
    assert (answered.status_code, answered.json()) == (200, ANSWER)


def test_several_photos_get_what_each_alone_would_and_no_file_stays(client, tmp_path):
    before = {path for path in tmp_path.rglob('*') if path.is_file()}
    files = [('photo', ('a.jpg', jpeg())), ('photo', ('b.jpg', b'')), ('photo', ('c.jpg', jpeg()))]
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
        (b'', 400, 'empty file'),
        (jpeg((20_000, 20_000), 'PNG'), 413, 'too large, more than 89 million pixels'),
        (bytes(MAX_BYTES + 1), 413, f'too large, more than {MAX_MEGABYTES} MB'),
    ],
    ids=['text', 'empty', 'pixels', 'bytes'],
)
def test_what_is_no_photo_is_told_in_a_line(client, content, status, detail):
    answered = client.post('/classify', files={'photo': ('rose.jpg', content)})
    assert (answered.status_code, answered.json()) == (status, {'detail': detail})


def test_a_request_without_photos_or_of_unknown_or_great_length_is_told_in_a_line(client):
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


def test_no_file_name_is_a_formula_in_the_table():
    names = ['=1+1.jpg', '@x.jpg', 'a=b.jpg']
    answers = [Answer(Prediction(name, SCORES), 'daisy', 0.5, {}, True) for name in names]
    table = base64.b64decode(csv_address(answers, Engine.classes).partition(',')[2]).decode()
    assert [line.partition(',')[0] for line in table.splitlines()[1:]] == ['./=1+1.jpg', './@x.jpg', 'a=b.jpg']
