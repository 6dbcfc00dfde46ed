"""The heat map of an uploaded photo: a picture of the right size, and the same from several threads at once."""

import base64
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')

from custom_modules.inference.classify_upload import HEAT_MAP, heat_maps
from custom_modules.inference.torch_predictor import TorchPredictor
from custom_modules.models.model_file import open_model_file


def test_heat_maps_are_pictures_and_threads_do_not_disturb_each_other(trained, data):
    file = open_model_file(trained.work_dir / 'best.pth')
    file.config.test_dataloader.dataset.pipeline[1].scale = (128, 128)
    draw = heat_maps(TorchPredictor(file, 'cpu'))
    asked = [(photo, label) for photo in sorted(data.glob('val/*/*.jpg'))[::5] for label in range(5)]
    alone = [draw(*one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: draw(*one), asked)) == alone
    found = [address for address in alone if address]
    assert len(set(found)) > 1
    for address in found:
        content = base64.b64decode(address.removeprefix('data:image/jpeg;base64,'))
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == (HEAT_MAP, HEAT_MAP, 3)
