"""Thumbnails: small, also of odd images; None for what is no image."""

import base64

import cv2
import numpy as np

from custom_modules.photos.thumbnails import thumbnail


def test_thumbnails_are_small_and_those_of_odd_photos_still_pictures(tmp_path):
    for name, shape, kind in (('1.jpg', (600, 400, 3), np.uint8), ('dot.png', (1, 1), np.uint16)):
        (tmp_path / name).write_bytes(cv2.imencode(name[-4:], np.zeros(shape, kind))[1].tobytes())
    (tmp_path / 'text.jpg').write_text('no picture any more')
    for name, shape in (('1.jpg', (320, 213, 3)), ('dot.png', (1, 1, 3))):
        content = base64.b64decode(thumbnail(tmp_path / name).partition(',')[2])
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == shape
    for name in ('text.jpg', 'absent.jpg'):
        assert thumbnail(tmp_path / name) is None
