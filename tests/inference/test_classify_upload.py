"""Uploads: what is refused before it is decoded, what is calibrated, and how many are computed at once."""

import threading

import numpy as np
import pytest
from PIL import Image

from custom_modules.inference.classify_upload import MAX_BYTES, NO_IMAGE, THREADS, TOO_BIG, UploadClassifier
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.opening import TOO_LARGE, Unreadable

SCORES = [0.5, 0.3, 0.2]


class Engine:
    """Says the same of each photo, and notes how many threads ask at once."""

    classes = ['daisy', 'rose', 'tulip']

    def __init__(self):
        self.most, self._now, self._lock = 0, 0, threading.Lock()

    def predict(self, paths, batch_size=32, workers=None):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        yield from (Prediction(path, SCORES) for path in paths)
        with self._lock:
            self._now -= 1


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / '0'  # uploads have no suffix
    Image.new('RGB', (8, 8)).save(path, 'JPEG')
    return path


@pytest.mark.parametrize('temperature', [None, 0.5, 3.0])
def test_scores_are_calibrated_where_the_temperature_is_known(photo, temperature):
    wanted = SCORES if temperature is None else tempered([SCORES], temperature)[0].tolist()
    for min_score, sure in ((wanted[0] - 0.01, True), (wanted[0] + 0.01, False)):
        answer = UploadClassifier(Engine(), min_score, temperature).classify(photo, 'a.jpg')
        assert answer.prediction == Prediction('a.jpg', wanted)
        assert (answer.label, answer.score, answer.sure) == ('daisy', wanted[0], sure)


def test_what_is_no_photo_or_too_large_is_refused_before_it_is_decoded(tmp_path):
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'pixels.png')
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'other.ppm')  # OpenCV would read it
    (tmp_path / 'text.jpg').write_text('a note')
    (tmp_path / 'empty.jpg').touch()
    with (tmp_path / 'bytes.jpg').open('wb') as file:
        file.truncate(MAX_BYTES + 1)
    problems = {'pixels.png': TOO_LARGE, 'text.jpg': NO_IMAGE, 'empty.jpg': 'empty file', 'bytes.jpg': TOO_BIG}
    problems['other.ppm'] = NO_IMAGE
    engine = Engine()
    for name, problem in problems.items():
        assert UploadClassifier(engine, 0).classify(tmp_path / name, name) == Unreadable(name, problem)
    assert engine.most == 0


def test_all_are_answered_but_only_a_few_at_once(photo):
    engine = Engine()
    classifier = UploadClassifier(engine, 0)
    answers = [classifier.pool.submit(classifier.classify, photo, str(i)) for i in range(64)]
    assert [answer.result().prediction.path for answer in answers] == list(map(str, range(64)))
    assert engine.most <= THREADS
