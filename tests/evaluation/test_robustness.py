"""Robustness: each change's pixels against other computations, the figures, and the warnings."""

import json

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmpretrain.registry import DATASETS, TRANSFORMS
from scipy.ndimage import gaussian_filter

import custom_modules.datasets.flower_dataset  # noqa: F401  registers it
from custom_modules.evaluation import robustness
from custom_modules.evaluation.robustness import CONDITIONS, PLAIN, format_robustness, robustness_figures
from custom_modules.metrics.calibration import calibration
from custom_modules.metrics.predictions import Prediction

CLASSES = ['daisy', 'rose', 'tulip']


@pytest.fixture
def img():
    """Smooth in places and sharp in others, as photos are."""
    random = np.random.default_rng(0)
    coarse = cv2.resize(random.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    coarse[20:40, 30:50] = random.integers(0, 256, (20, 20, 3))
    return coarse


def changed(condition, img):
    return Compose([TRANSFORMS.build(dict(step)) for step in CONDITIONS[condition]])({'img': img.copy()})['img']


@pytest.mark.parametrize('condition', CONDITIONS)
def test_changes_are_deterministic_and_keep_the_shape(condition, img):
    np.random.seed(0)
    first = changed(condition, img)
    assert (first.dtype, first.shape) == (img.dtype, img.shape)
    assert (first != img).any()
    for seed in range(5):
        np.random.seed(seed)
        np.testing.assert_array_equal(changed(condition, img), first)


@pytest.mark.parametrize('factor', [0.5, 1.5])
def test_brightness_multiplies_and_saturates(img, factor):
    expected = np.clip(factor * img.astype(float), 0, 255)
    assert abs(changed(f'brightness × {factor}', img) - expected).max() < 1  # fractions are cut off


def test_the_blur_is_a_gaussian_of_two_pixels(img):
    blurred = changed('blur, σ 2 pixels', img)

    def difference(sigma):
        return abs(blurred - gaussian_filter(img.astype(float), (sigma, sigma, 0), mode='nearest'))

    # Pillow approximates a Gaussian by three box filters; a blur of 1.7 or 2.3 pixels differs more.
    assert difference(2).mean() < min(1.5, difference(1.7).mean(), difference(2.3).mean())


def predictions(labels, truths, score=0.8):
    rest = (1 - score) / 2
    return [
        Prediction(f'{i}.jpg', [score if k == label else rest for k in range(3)], truth)
        for i, (label, truth) in enumerate(zip(labels, truths, strict=True))
    ]


TRUTHS = [0] * 4 + [1] * 4 + [2] * 4


def test_the_figures_under_a_condition():
    turned = predictions([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0], TRUTHS, 0.95)
    figures = robustness_figures({PLAIN: predictions(TRUTHS, TRUTHS), 'turned': turned}, CLASSES)
    plain, found = json.loads(json.dumps(figures, allow_nan=False))['conditions']
    assert (plain['lost'], plain['sure_but_wrong']['k']) == (0, 0)
    assert (found['accuracy/top1']['k'], found['lost']) == (9, pytest.approx(25))
    assert found['calibration'] == json.loads(json.dumps(calibration([p.scores for p in turned], TRUTHS)))
    assert (found['sure_but_wrong']['k'], found['sure_but_wrong']['n']) == (3, 12)
    assert found['answers'] == {'daisy': 6, 'rose': 3, 'tulip': 3}
    header, first, second = format_robustness(figures).splitlines()
    assert len(header) == len(first) == len(second)
    assert second.split()[:4] == ['turned', '75.00', '%', '(9/12)']
    assert '25.00' in second


def test_a_collapse_is_named():
    answers = {
        PLAIN: predictions(TRUTHS, TRUTHS),
        'dark': predictions([2] * 12, TRUTHS),
        'bright': predictions([0, 0, 0, 0, 1, 1, 0, 2, 2, 2, 0, 1], TRUTHS),  # 6 of 12 are daisy: not more than half
        'blurred': predictions([0, 0, 0, 0, 1, 1, 0, 0, 2, 2, 2, 0], TRUTHS),  # 7 of 12 are daisy
        'small': predictions([1, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 1], TRUTHS),
    }
    assert robustness_figures(answers, CLASSES)['collapses'] == [
        'dark: 66.7 points of top-1 are lost',
        'dark: 12 of 12 images are predicted as tulip, 4 correctly',
        'bright: 33.3 points of top-1 are lost',
        'blurred: 25.0 points of top-1 are lost',
        'blurred: 7 of 12 images are predicted as daisy, 4 correctly',
    ]


def test_a_class_of_most_images_is_no_collapse():
    found = predictions([0] * 9 + [1] * 3, [0] * 8 + [1] * 4)
    assert robustness_figures({PLAIN: found}, CLASSES)['collapses'] == []


PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (32, 32)}, {'type': 'PackInputs'}]


@pytest.fixture
def dataset(data):
    """The test set of the tiny run, its transforms replaced in each test."""
    return DATASETS.build(
        {'type': 'FlowerDataset', 'data_root': str(data), 'ann_file': 'val.txt', 'data_prefix': 'val'}
    )


def test_the_example_is_misclassified_under_the_most_conditions(data, dataset):
    truths = [label for label in range(5) for _ in range(3)]
    wrong = [(label + 1) % 5 for label in truths]

    def answers(right):
        labels = [truths[i] if i in right else wrong[i] for i in range(15)]
        return [Prediction(str(i), np.eye(5)[label].tolist(), truths[i]) for i, label in enumerate(labels)]

    everything = set(range(15))
    found = {condition: answers(everything - {3, 7}) for condition in (PLAIN, *CONDITIONS)}
    found[PLAIN] = answers(everything - {3})  # 3 is wrong anyway
    found['half resolution'] = answers(everything - {3, 9})
    shown = robustness.examples(robustness.with_pipeline(dataset, PIPELINE), found)
    assert [example.condition for example in shown] == [PLAIN, *CONDITIONS]
    assert {example.prediction.path for example in shown} == {'7'}
    pixels = {example.condition: example.picture for example in shown}
    np.testing.assert_array_equal(pixels['rotated by 90°'], np.rot90(pixels[PLAIN], -1))
    path = (data / 'val.txt').read_text().splitlines()[7].rpartition(' ')[0]
    np.testing.assert_array_equal(pixels[PLAIN], cv2.resize(cv2.imread(str(data / 'val' / path)), (32, 32)))
