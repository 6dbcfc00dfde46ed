"""What a model makes of the same photos, changed: the changes, the tests and what is counted of them.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019: accuracy under each change, which is made to the pixels that the model would see, whatever the photo's size.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError, as_configured
from custom_modules.metrics.calibration import Calibration, calibration
from custom_modules.metrics.predictions import SURE, Counts, Prediction, Proportion, count
from custom_modules.metrics.predictions_metric import PredictionsMetric

if TYPE_CHECKING:
    from custom_modules.engine.runner import TerseRunner

PLAIN = 'as they are'
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
"""The steps of each change, in the notation of a pipeline: MMPretrain's, made to draw nothing, and one of our own.

They take and give uint8 pixels, those of the model's input: a blur of 2 pixels there is 0.8 % of the photo's short
edge where that is resized to 256. ``Rotate`` turns clockwise; of an input that is not square it loses the ends.
"""

LOSS = 20.0  # points of top-1 whose loss is told
SWALLOWED = 1 / 2, 1 / 3  # shares of all photos and of the other classes', beyond which an answer is told


@dataclass(frozen=True)
class Outcome:
    """What was counted under one condition.

    Args:
        condition: Its name.
        counts: Top-1 and, for each class, precision and recall.
        lost: Points of top-1 below the photos as they are, in percent of the photos; negative if it is above.
        calibration: ECE, with its interval, and mean NLL.
        sure_but_wrong: The photos that are wrong with a score of 0.9 or more.
    """

    condition: str
    counts: Counts
    lost: float
    calibration: Calibration
    sure_but_wrong: Proportion

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``answers`` says how often each class is the answer."""
        return {
            'condition': self.condition,
            'accuracy/top1': self.counts.top1.as_dict(),
            'lost': self.lost,
            'calibration': asdict(self.calibration),
            'sure_but_wrong': self.sure_but_wrong.as_dict(),
            'answers': {name: answered.n for name, answered in self.counts.precision.items()},
        }


class Example(NamedTuple):
    """A photo under one condition, (H, W, 3) uint8, BGR, as the model sees it, and what it makes of it."""

    condition: str
    picture: NDArray[np.uint8]
    prediction: Prediction


def change(loader: Mapping[str, Any], steps: Sequence[dict]) -> dict[str, Any]:
    """The config of a test's loader with ``steps`` before the last one of its pipeline, which packs the pixels."""
    import custom_modules.datasets.transforms.recompress_jpeg  # noqa: F401  configs older than it do not import it

    changed = deepcopy(dict(loader))
    pipeline = changed['dataset']['pipeline']
    changed['dataset']['pipeline'] = [*pipeline[:-1], *deepcopy(steps), *pipeline[-1:]]
    changed['persistent_workers'] = False  # it is run through once
    return changed


def pictures(dataset: Mapping[str, Any], index: int) -> dict[str, NDArray[np.uint8]]:
    """What the model sees of a photo, as it is and under each condition: (H, W, 3), BGR.

    Args:
        dataset: The config of the test set, without test-time augmentation.
        index: The photo's place in it.

    Raises:
        InputError: The pipeline does not hand uint8 pixels to its last step.
        PhotoError: The photo cannot be read.
    """
    from mmengine.dataset import Compose
    from mmpretrain.registry import DATASETS, TRANSFORMS

    unpacked = change({'dataset': dataset}, [])['dataset']
    del unpacked['pipeline'][-1:]
    with as_configured('--robustness: test_dataloader.dataset.pipeline without its last step'):
        item = DATASETS.build(unpacked)[index]
    img = item.get('img')
    if not (isinstance(img, np.ndarray) and img.dtype == np.uint8 and img.ndim == 3):
        kind = f'{img.dtype} of shape {img.shape}' if isinstance(img, np.ndarray) else type(img).__name__
        raise InputError(
            '--robustness: changes photos before the last step of test_dataloader.dataset.pipeline, which has to pack '
            f'uint8 pixels of three channels; here it gets {kind}'
        )
    found = {PLAIN: img}
    for condition, steps in CONDITIONS.items():
        found[condition] = Compose([TRANSFORMS.build(step) for step in deepcopy(steps)])({'img': img.copy()})['img']
    return found


def answer(
    runner: 'TerseRunner', loader: Mapping[str, Any], plain: Sequence[Prediction]
) -> dict[str, list[Prediction]]:
    """Tests the runner's model under each condition.

    Args:
        runner: It has tested the photos as they are.
        loader: The config of the loader that it did so with.
        plain: The predictions that it made.

    Returns:
        The predictions under each condition, those of ``PLAIN`` first.
    """
    found = {PLAIN: list(plain)}
    for condition, steps in CONDITIONS.items():
        runner.logger.info(f'robustness: {condition}')
        metric = PredictionsMetric()
        runner.test_also(change(loader, steps), metric)
        found[condition] = metric.predictions
    return found


def outcomes(answers: Mapping[str, Sequence[Prediction]], classes: Sequence[str]) -> list[Outcome]:
    """Counts the predictions under each condition, of which ``PLAIN`` is the first; their truth is known."""
    found: list[Outcome] = []
    for condition, predictions in answers.items():
        counts = count(predictions, classes)
        scores, truths = [p.scores for p in predictions], [p.truth for p in predictions if p.truth is not None]
        sure_but_wrong = [p for p in predictions if p.label != p.truth and max(p.scores) >= SURE]
        before = found[0].counts.top1 if found else counts.top1
        found.append(
            Outcome(
                condition,
                counts,
                lost=100 * (before.k - counts.top1.k) / counts.top1.n,
                calibration=calibration(scores, truths),
                sure_but_wrong=Proportion(len(sure_but_wrong), len(predictions)),
            )
        )
    return found


def collapses(found: Sequence[Outcome]) -> list[str]:
    """A line for each condition that costs more than 20 points, and for each class that swallows the others.

    That is the answer for more than half of the photos, and for more than a third of those of other classes: most
    photos may well be of one class.
    """
    lines = []
    for outcome in found:
        if outcome.lost > LOSS:
            lines.append(f'{outcome.condition}: {outcome.lost:.1f} points of top-1 are lost')
        n = outcome.counts.top1.n
        for name, answered in outcome.counts.precision.items():
            others = n - outcome.counts.recall[name].n
            if answered.n > SWALLOWED[0] * n and answered.n - answered.k > SWALLOWED[1] * others:
                lines.append(
                    f'{outcome.condition}: {answered.n} of {n} photos are taken for {name}, which {answered.k} of '
                    'them are'
                )
    return lines


def examples(dataset: Mapping[str, Any], answers: Mapping[str, Sequence[Prediction]]) -> list[Example]:
    """One photo under each condition: right as it is and wrong under the most of them, the first of equals."""
    plain = answers[PLAIN]
    misled = [sum(found[i].label != found[i].truth for found in answers.values()) for i in range(len(plain))]
    chosen = max(range(len(plain)), key=lambda i: (plain[i].label == plain[i].truth, misled[i]))
    shown = pictures(dataset, chosen)
    return [Example(condition, picture, answers[condition][chosen]) for condition, picture in shown.items()]


def format_outcomes(found: Sequence[Outcome]) -> str:
    """The outcomes as a table for a terminal."""
    rows = [('photos', 'top-1', '95 % interval', 'lost', 'mean NLL', 'ECE (95 % interval)', f'wrong at >= {SURE}')]
    for outcome in found:
        top1, calibrated = outcome.counts.top1, outcome.calibration
        low, high = top1.interval or (0.0, 0.0)
        ece, least, most = (100 * value for value in (calibrated.ece, *calibrated.ece_interval95))
        rows.append(
            (
                outcome.condition,
                f'{top1.percent:.2f} % ({top1.k}/{top1.n})',
                f'{low:.2f}-{high:.2f}',
                '' if outcome is found[0] else f'{outcome.lost:.2f}',
                f'{calibrated.nll:.4f}',
                f'{ece:.2f} % ({least:.2f}-{most:.2f})',
                str(outcome.sure_but_wrong.k),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in rows)
