"""Robustness of a model to changed images: the changes, their tests, and the figures.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019. The changes are made to the model's input pixels, so their strength does not depend on the image's size.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from mmengine.dataset import Compose
from numpy.typing import NDArray

import custom_modules.datasets.transforms.recompress_jpeg  # noqa: F401  registered for older configs too
from custom_modules.datasets.class_counts import innermost
from custom_modules.datasets.transforms.reduced_decoding import build_pipeline
from custom_modules.engine.runner import PreparedRunner
from custom_modules.errors import InputError, as_configured
from custom_modules.metrics.calibration import arrays, calibration
from custom_modules.metrics.predictions import SURE, Prediction, Proportion, top1

PLAIN = 'unchanged'
CONDITIONS: dict[str, list[dict[str, Any]]] = {
    'brightness × 0.5': [{'type': 'Brightness', 'magnitude': -0.5, 'prob': 1.0, 'random_negative_prob': 0.0}],
    'brightness × 1.5': [{'type': 'Brightness', 'magnitude': 0.5, 'prob': 1.0, 'random_negative_prob': 0.0}],
    'blur, σ 2 pixels': [{'type': 'GaussianBlur', 'radius': 2, 'prob': 1.0}],
    'JPEG, quality 30': [{'type': 'RecompressJPEG', 'quality': 30}],
    'half resolution': [
        {'type': 'Resize', 'scale_factor': 0.5, 'interpolation': 'area'},
        {'type': 'Resize', 'scale_factor': 2.0, 'interpolation': 'bilinear'},
    ],
    'rotated by 90°': [{'type': 'Rotate', 'angle': 90, 'prob': 1.0, 'random_negative_prob': 0.0}],
}
"""Pipeline steps of each change, without randomness; they take and give uint8 pixels."""

LOSS = 20.0  # points of top-1; a greater loss is warned of
SWALLOWED = 1 / 2, 1 / 3  # a collapse into one class: share of all images, and of other classes' images


class Example(NamedTuple):
    """An image under one condition, (H, W, 3) uint8, BGR, as the model sees it, with its prediction."""

    condition: str
    picture: NDArray[np.uint8]
    prediction: Prediction


def with_pipeline(dataset: Any, steps: Sequence[dict]) -> Any:
    """A built dataset with other transforms on the same annotations, which are not read again."""
    changed = copy(dataset)
    if hasattr(dataset, 'dataset'):  # a wrapper
        changed.dataset = with_pipeline(dataset.dataset, steps)
    else:
        changed.pipeline = build_pipeline(steps)
    return changed


def pictures(dataset: Any, index: int) -> dict[str, NDArray[np.uint8]]:
    """The model's view of an image, unchanged and under each condition: (H, W, 3), BGR.

    The ``dataset`` is without test-time augmentation. Unless its last transform gets uint8 pixels, that is an
    InputError.
    """
    with as_configured('--robustness: test_dataloader.dataset.pipeline without its last step'):
        item = Compose(innermost(dataset).pipeline.transforms[:-1])(dataset.get_data_info(index))
    img = item.get('img')
    if not (isinstance(img, np.ndarray) and img.dtype == np.uint8 and img.ndim == 3):
        kind = f'{img.dtype} of shape {img.shape}' if isinstance(img, np.ndarray) else type(img).__name__
        raise InputError(
            '--robustness: images are changed before the last step of test_dataloader.dataset.pipeline, which has to '
            f'pack uint8 pixels of three channels; here it gets {kind}'
        )
    changed = {condition: build_pipeline(steps)({'img': img.copy()})['img'] for condition, steps in CONDITIONS.items()}
    return {PLAIN: img, **changed}


def predict_changed(runner: PreparedRunner, dataset: Any, plain: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions under each condition, ``PLAIN`` first, by the model of a finished test of ``dataset``.

    ``plain`` are the predictions of that test.
    """
    found, (*before, pack) = {PLAIN: list(plain)}, innermost(runner.cfg.test_dataloader.dataset).pipeline
    for condition, steps in CONDITIONS.items():
        runner.logger.info(f'robustness: {condition}')
        found[condition] = runner.predict_also(with_pipeline(dataset, [*before, *steps, pack]))
    return found


def robustness_figures(found: Mapping[str, Sequence[Prediction]], classes: Sequence[str]) -> dict[str, Any]:
    """The figures of the predictions under each condition, for JSON.

    ``answers`` is how often each class is predicted. ``collapses`` has a line for each condition that costs more than
    20 points, and for each class that is predicted for more than half of the images and more than a third of the other
    classes' images.
    """
    conditions: list[dict[str, Any]] = []
    collapses = []
    plain, truths = top1(found[PLAIN]), [p.truth for p in found[PLAIN]]
    n = plain.n
    for condition, predictions in found.items():
        accuracy, labels = top1(predictions), [p.label for p in predictions]
        lost = 100 * (plain.k - accuracy.k) / n
        sure_but_wrong = sum(p.label != p.truth and max(p.scores) >= SURE for p in predictions)
        answers = {name: labels.count(i) for i, name in enumerate(classes)}
        conditions.append(
            {
                'condition': condition,
                'accuracy/top1': accuracy.as_dict(),
                'lost': lost,
                'calibration': calibration(*arrays(predictions)),
                'sure_but_wrong': Proportion(sure_but_wrong, n).as_dict(),
                'answers': answers,
            }
        )
        if lost > LOSS:
            collapses.append(f'{condition}: {lost:.1f} points of top-1 are lost')
        for i, (name, predicted) in enumerate(answers.items()):
            right = sum(p.label == p.truth == i for p in predictions)
            if predicted > SWALLOWED[0] * n and predicted - right > SWALLOWED[1] * (n - truths.count(i)):
                collapses.append(f'{condition}: {predicted} of {n} images are predicted as {name}, {right} correctly')
    return {'conditions': conditions, 'collapses': collapses}


def examples(dataset: Any, found: Mapping[str, Sequence[Prediction]]) -> list[Example]:
    """The image that is correct when unchanged and wrong under the most conditions, under each condition."""
    plain = found[PLAIN]
    misled = [sum(other[i].label != other[i].truth for other in found.values()) for i in range(len(plain))]
    chosen = max(range(len(plain)), key=lambda i: (plain[i].label == plain[i].truth, misled[i]))
    shown = pictures(dataset, chosen)
    return [Example(condition, picture, found[condition][chosen]) for condition, picture in shown.items()]


def format_robustness(figures: Mapping[str, Any]) -> str:
    """:func:`robustness_figures` as a table for a terminal."""
    rows = [('condition', 'top-1', '95 % interval', 'lost', 'mean NLL', 'ECE (95 % interval)', f'wrong at >= {SURE}')]
    for found in figures['conditions']:
        accuracy, calibrated = found['accuracy/top1'], found['calibration']
        ece, least, most = (100 * value for value in (calibrated['ece'], *calibrated['ece_interval95']))
        cells = (
            found['condition'],
            f'{accuracy["percent"]:.2f} % ({accuracy["k"]}/{accuracy["n"]})',
            '{:.2f}-{:.2f}'.format(*accuracy['wilson95']),
            '' if found['condition'] == PLAIN else f'{found["lost"]:.2f}',
            f'{calibrated["nll"]:.4f}',
            f'{ece:.2f} % ({least:.2f}-{most:.2f})',
            str(found['sure_but_wrong']['k']),
        )
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in rows)
