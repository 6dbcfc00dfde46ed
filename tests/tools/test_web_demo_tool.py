"""tools/web_demo.py as a process: 64 askers at once, the page in a browser, an exported model, and how it ends."""

import base64
import csv
import io
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from processes import TRAINING, without

from custom_modules.inference.predictor import open_predictor

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'web_demo.py'
ASKERS = 64
MOST_GROWTH = 400  # MB; the photos of all askers, decoded at once, would take 1700


@contextmanager
def serving(*arguments, environment, temporary, before=()):
    """The tool at a free port: the process and its address; it must end well, and leave no file behind."""
    temporary.mkdir()
    command = [sys.executable, *before, str(TOOL), *map(str, arguments), '--port', '0']
    process = subprocess.Popen(
        command,
        env={**environment, 'TMPDIR': str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if found := re.match('http://[^ ]+', line):
                break
        else:
            raise AssertionError(process.stderr.read())
        yield process, found[0]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, '')
        assert not list(temporary.iterdir())
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope='module')
def server(trained, tool_environment, tmp_path_factory):
    pytest.importorskip('gradio')
    temporary = tmp_path_factory.mktemp('web') / 'tmp'
    arguments = [trained.work_dir / 'best.pth', '--min-score', '0.3']
    with serving(*arguments, environment=tool_environment, temporary=temporary) as found:
        yield found


def memory(process, kind):
    """Resident memory, in MB: ``'VmRSS'`` now, ``'VmHWM'`` at most so far."""
    (line,) = [line for line in Path(f'/proc/{process.pid}/status').read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 1024


def test_64_askers_at_once_are_all_answered_right_in_bounded_memory(server, trained, data, call, tmp_path):
    import httpx

    photos = []
    for i, source in enumerate(sorted(data.glob('val/*/*.jpg'))):
        photos.append(tmp_path / f'{i}.jpg')
        Image.open(source).resize((3000, 3000)).save(photos[-1], quality=60)
    assert call('predict', *photos, '--checkpoint', trained.work_dir / 'best.pth', '--out', 'out.csv').code == 0
    with (tmp_path / 'out.csv').open(newline='') as file:
        wanted = {Path(line['path']).name: (line['label'], float(line['score'])) for line in csv.DictReader(file)}
    process, address = server
    before = memory(process, 'VmRSS') if sys.platform == 'linux' else 0

    def ask(photo):
        return httpx.post(f'{address}/classify', files={'photo': photo.read_bytes()}, timeout=300)

    photos = (photos * ASKERS)[:ASKERS]
    with ThreadPoolExecutor(ASKERS) as pool:
        answers = list(pool.map(ask, photos))
    for photo, answered in zip(photos, answers, strict=True):
        found = answered.json()
        assert (answered.status_code, found['label']) == (200, wanted[photo.name][0])
        assert found['score'] == pytest.approx(wanted[photo.name][1], abs=1e-4)
    if sys.platform == 'linux':
        assert memory(process, 'VmHWM') - before < MOST_GROWTH


def upload(browser, files, until):
    """Puts files into the page as a person would, and returns what it says once ``until`` is in it."""
    wait(browser, "!!document.querySelector('input[type=file]')", lambda found: found)
    root = browser.send('DOM.getDocument')['root']['nodeId']
    node = browser.send('DOM.querySelector', nodeId=root, selector='input[type=file]')['nodeId']
    browser.send('DOM.setFileInputFiles', nodeId=node, files=list(map(str, files)))
    return shows(browser, until)


def shows(browser, until):
    result = "document.querySelector('#result')?.innerText || ''"
    return wait(browser, result, lambda said: until in said and 'processing' not in said)


def wait(browser, script, fits):
    end = time.monotonic() + 60
    while not fits(found := browser.run(script)):
        assert time.monotonic() < end, found
    return found


def test_the_page_shows_one_photo_many_photos_and_what_is_none(server, data, browser, tmp_path):
    _, address = server
    rose = data / 'val' / 'rose'
    photo = sorted(rose.iterdir())[0]
    browser.open(address)
    shows(browser, 'will appear here')
    said = upload(browser, [photo], photo.name)
    assert 'not calibrated' in said
    assert all(name in said for name in ('daisy', 'dandelion', 'rose', 'sunflower', 'tulip'))
    if find_spec('pytorch_grad_cam'):
        assert 'No heat map of this photo' in said  # 32 pixels leave one place

    browser.run("document.querySelectorAll('.examples button')[2].click()")
    assert shows(browser, 'rose_000.jpg') != said

    (tmp_path / 'note.jpg').write_text('just a note')
    (tmp_path / 'empty.jpg').touch()
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'huge.png')
    for name, told in (('note.jpg', 'no image that can be read'), ('empty.jpg', 'empty'), ('huge.png', 'too large')):
        assert told in upload(browser, [tmp_path / name], name)

    photos = []
    for i in range(50):
        photos.append(tmp_path / f'{i:02}.jpg')
        photos[-1].write_bytes(sorted(data.glob('train/*/*.jpg'))[i % 40].read_bytes())
    said = upload(browser, [*photos, tmp_path / 'note.jpg'], 'scores.csv')
    assert '50 photos' in said
    assert '1 unreadable' in said
    address_of_csv = browser.run("document.querySelector('#result a[download]').href")
    table = list(csv.DictReader(io.StringIO(base64.b64decode(address_of_csv.partition(',')[2]).decode())))
    assert [line['path'] for line in table] == [photo.name for photo in photos]
    assert all((float(line['score']) >= 0.3) == (line['sure'] == 'True') for line in table)
    assert browser.run('document.documentElement.scrollWidth') <= 1280
    browser.open(address, width=390)
    shows(browser, 'will appear here')
    upload(browser, photos[:3], 'scores.csv')
    assert browser.run('document.documentElement.scrollWidth') <= 390
    assert {url.split('/')[2] for url in browser.requests if url.startswith('http')} == {address.split('/')[2]}


def test_an_exported_model_needs_no_torch(exported, data, tool_environment, tmp_path):
    pytest.importorskip('gradio')
    import httpx

    photo = next((data / 'val' / 'rose').iterdir())
    (wanted,) = open_predictor(str(exported)).predict([str(photo)])
    arguments = {'environment': tool_environment, 'temporary': tmp_path / 'tmp', 'before': without(*TRAINING)}
    with serving(exported, '--min-score', '0.999', **arguments) as (_, address):
        answered = httpx.post(f'{address}/classify', files={'photo': photo.read_bytes()})
    assert answered.status_code == 200
    assert list(answered.json()['scores'].values()) == pytest.approx(wanted.scores, abs=1e-6)
    assert answered.json()['sure'] is False


def test_what_cannot_be_served_is_reported_in_a_line(call, monkeypatch):
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # the tool sets it
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'gradio', None)
        assert "pip install 'gradio>=6,<7'" in call('web_demo', 'best.onnx').error
    pytest.importorskip('gradio')
    assert 'no such file' in call('web_demo', 'best.onnx', '--port', '0').error
    with socket.create_server(('127.0.0.1', 0)) as taken:
        assert 'in use' in call('web_demo', 'best.onnx', '--port', taken.getsockname()[1]).error
