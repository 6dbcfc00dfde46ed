"""What measuring processes do, called in this one: each request gets its reply."""

import pytest
import torch

from custom_modules.benchmarks.inference import infer_in_turns
from custom_modules.benchmarks.limits import compute_in_turns
from custom_modules.benchmarks.loader import draw_crop, load_bare, load_in_turns
from custom_modules.errors import PhotoError


class Over(Exception):
    """There are no more requests."""


class Script:
    """A channel with requests written beforehand; keeps the replies."""

    def __init__(self, *requests):
        self.requests = list(requests)
        self.replies = []

    def receive(self):
        if not self.requests:
            raise Over
        return self.requests.pop(0)

    def send(self, **reply):
        self.replies.append(reply)


@pytest.fixture
def carry_out(tiny_config, tmp_path):
    """A function that has a job answer requests: ``carry_out(job, side, *requests)``; gives the replies."""

    def run(job, side, *requests):
        channel = Script(*requests)
        task = {
            'config': str(tiny_config),
            'options': [],
            'data_root': None,
            'folder': str(tmp_path),
            'size': None,
            'batch_size': None,
            'workers': None,
            'photos': 8,
            'device': 'cpu',
            'threads': 1,
            'side': side,
        }
        with pytest.raises(Over):
            job(channel, task)
        return channel.replies

    return run


@pytest.mark.parametrize('side', ['stock', 'ours'])
def test_loading(carry_out, side):
    about, *rates = carry_out(load_in_turns, side, *({'way': way} for way in ('one core', 'bare', 'workers')))
    assert about['number_of_workers'] == 0
    assert 100 < about['photo_bytes'] < 100_000
    assert 10 < about['index_bytes'] < 100_000
    assert all(rate['photos_per_s'] > 0 for rate in rates)


@pytest.mark.parametrize(
    ('side', 'layout'), [('stock', 'contiguous'), ('ours', 'channels last'), ('onnx', 'ONNX'), ('int8', 'ONNX')]
)
def test_predicting(carry_out, side, layout):
    if layout == 'ONNX':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
    requests = [{'what': what, 'batch': 2, 'seconds': 0.01} for what in ('model', 'predictor')]
    about, *rates = carry_out(infer_in_turns, side, *requests)
    assert about['memory_format'] == layout
    assert all(rate['photos_per_s'] > 0 for rate in rates)


def test_limits(carry_out, tiny_config):
    task = {'config': str(tiny_config), 'options': [], 'data_root': None}
    task |= {'size': 64, 'batch_size': None, 'workers': None}
    multiply = {'kind': 'float32', 'size': 64, 'device': 'cpu'}
    larger_test = {**task, 'size': None, 'options': ['test_dataloader.dataset.pipeline.1.scale=(64,64)']}
    about, rate, large, small, tested = carry_out(
        compute_in_turns, 'stock', multiply, {'task': task}, {'task': {**task, 'size': 32}}, {'task': larger_test}
    )
    assert about['kinds'] == (['float32', 'tf32', 'bfloat16'] if torch.cuda.is_available() else ['float32'])
    assert rate['flops'] > 1e6
    assert 3.5 < large['forward'] / small['forward'] <= 4  # all but the last layer go with the pixels
    assert (tested['forward'], tested['inference']) == (small['forward'], large['forward'])
    assert large['gradient_bytes'] == small['gradient_bytes'] > 4 * 10_000


@pytest.mark.parametrize('content', [b'', b'no photo'])
def test_a_broken_photo_is_named(tmp_path, content):
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(PhotoError, match=r'a\.jpg: no readable photo'):
        draw_crop([{'type': 'RandomResizedCrop', 'scale': 32}], str(tmp_path / 'a.jpg'), 0)


def test_what_opencv_alone_does(tmp_path):
    import cv2
    import numpy as np

    photo = np.zeros((40, 60, 3), np.uint8)
    photo[10:20, 30:40] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), photo)
    assert load_bare(str(tmp_path / 'a.png'), (10, 30, 10, 10), (8, 8), False).min() == 255
    left = load_bare(str(tmp_path / 'a.png'), (10, 30, 10, 20), (8, 8), True)
    assert (left[:, 0].max(), left[:, -1].min()) == (0, 255)
