"""Calibration of softmax scores: ECE, NLL, temperature scaling, selective prediction. Arrays in, numbers out.

``scores`` are softmax scores, ``(N, K)``, each row a distribution; ``truths`` are labels, ``(N,)`` integers from 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.metrics.predictions import Proportion

BINS = 15
FOLDS = 10  # of temperature scaling
DRAWS = 1000  # for intervals
TEMPERATURES = 0.05, 20.0  # the range that is searched; the optimum of images that are all correct is at 0
_TINY = float(np.finfo(np.float32).tiny)  # float32 scores below it are 0


class Bin(NamedTuple):
    """The images with a confidence in ``(low, high]``: their mean confidence, and the correct ones."""

    low: float
    high: float
    confidence: float | None
    right: Proportion


@dataclass(frozen=True)
class Calibration:
    """Calibration of ``n`` images."""

    n: int
    ece: float  # expected calibration error in 15 bins, 0-1
    ece_interval95: tuple[float, float]  # from 0 where the model may be perfectly calibrated
    ece_by_chance: float  # mean ECE of as many images with these scores under perfect calibration
    nll: float  # mean negative log-likelihood, nats


@dataclass(frozen=True)
class CoveragePoint:
    """Selective prediction at one threshold: the images that reach ``min_score``, and the correct ones of those."""

    min_score: float
    kept: Proportion
    right: Proportion

    def as_dict(self) -> dict:
        """For JSON."""
        return {'min_score': self.min_score, 'kept': self.kept.as_dict(), 'right': self.right.as_dict()}


def reliability_bins(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over the confidence, the highest score of an image.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2: bin m is ((m-1)/M, m/M].
    """
    place, confidence, right = _binned(scores, truths, bins)
    found = []
    for i in range(bins):
        inside = place == i
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else None
        found.append(Bin(i / bins, (i + 1) / bins, mean, Proportion(int(right[inside].sum()), n)))
    return found


def expected_calibration_error(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> float:
    """Mean gap between accuracy and confidence over the bins, weighted by their images; 0-1.

    Guo et al. 2017, equation 3.

    Raises:
        ValueError: There are no images.
    """
    place, confidence, right = _binned(scores, truths, bins)
    if not len(right):
        raise ValueError('no scores to calibrate')
    return _ece(place, right - confidence, bins)


def mean_nll(scores: ArrayLike, truths: ArrayLike) -> float:
    """Mean negative log-likelihood of the true class, in nats; a score of 0 counts as 87.3 nats."""
    return float(nll(scores, truths).mean())


def nll(scores: ArrayLike, truths: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each image's true class, ``(N,)``, in nats; a score of 0 counts as 87.3 nats."""
    return -_true_scores(_log(scores), truths)


def calibration(scores: ArrayLike, truths: ArrayLike, seed: int = 0) -> Calibration:
    """ECE in 15 bins with its uncertainty, and mean NLL.

    The ECE is a sum of distances, so chance raises it. How much, shows by drawing for each image whether it is correct
    from its confidence. The interval is the basic bootstrap's (Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 5.2). It starts at 0 unless the ECE exceeds 97.5 % of those by chance.
    """
    place, confidence, right = _binned(scores, truths, BINS)
    gaps, n, random = right - confidence, len(right), np.random.default_rng(seed)
    by_chance, again = np.empty(DRAWS), np.empty(DRAWS)
    for i in range(DRAWS):
        by_chance[i] = _ece(place, (random.random(n) < confidence) - confidence)
        drawn = random.integers(n, size=n)
        again[i] = _ece(place[drawn], gaps[drawn])
    ece = expected_calibration_error(scores, truths)
    low, high = 2 * ece - np.quantile(again, (0.975, 0.025))
    if ece <= np.quantile(by_chance, 0.975):
        low = 0.0
    interval = float(np.clip(low, 0, ece)), float(np.clip(high, ece, 1))
    return Calibration(n, ece, interval, float(by_chance.mean()), mean_nll(scores, truths))


def tempered(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """The scores of logits divided by ``temperature``; log-scores are logits up to a constant per image."""
    logits = _log(scores) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fit_temperature(scores: ArrayLike, truths: ArrayLike) -> float:
    """The temperature within 0.05-20 that minimizes the mean NLL (Guo et al. 2017, section 4.2).

    The NLL is convex in the inverse temperature; its derivative is mean(E[log score] - log score of the true class),
    the expectation taken over the scaled scores.

    Raises:
        ValueError: There are no images.
    """
    from scipy.optimize import brentq  # 0.5 s, which training does not need

    logits = _log(scores)
    if not len(logits):
        raise ValueError('no scores to fit a temperature to')
    truth = _true_scores(logits, truths)

    def slope(inverse: float) -> float:
        return float(((tempered(scores, 1 / inverse) * logits).sum(axis=1) - truth).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low) >= 0:
        return TEMPERATURES[1]
    if slope(high) <= 0:
        return TEMPERATURES[0]
    return 1 / brentq(slope, low, high, xtol=1e-9)


def folds(truths: ArrayLike, number: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """The fold, 0 to ``number - 1``, of each image; stratified, for classes with fewer images than folds too."""
    labels = np.asarray(truths)
    random = np.random.default_rng(seed)
    members = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    found = np.empty(len(labels), np.intp)
    if members:
        found[np.concatenate(members)] = np.arange(len(labels)) % number  # each class goes on where the last ended
    return found


def cross_fitted(
    scores: ArrayLike, truths: ArrayLike, seed: int = 0
) -> tuple[NDArray[np.float64], tuple[float, ...]] | None:
    """The scores, ``(N, K)``, each fold scaled by the temperature fitted on the others, and these temperatures.

    None for a single image, which leaves none to fit to.
    """
    table, labels = np.asarray(scores, float), np.asarray(truths)
    number = min(FOLDS, len(labels))
    if number < 2:
        return None
    fold, scaled, temperatures = folds(labels, number, seed), np.empty_like(table), []
    for i in range(number):
        temperatures.append(fit_temperature(table[fold != i], labels[fold != i]))
        scaled[fold == i] = tempered(table[fold == i], temperatures[-1])
    return scaled, tuple(temperatures)


def scale(scores: ArrayLike, truths: ArrayLike, seed: int = 0) -> dict[str, Any] | None:
    """Cross-fitted temperature scaling of all images, for JSON; None for a single image.

    Returns:
        ``temperature``, fitted on all images, for others; it divides logits and is above 1 where scores are too high.
        ``fold_temperatures``, each fitted on the other folds; the ``seed`` of the folds. ``before`` and ``after``:
        :class:`Calibration` of the scores and of the scores scaled by their fold's temperature.
    """
    if (found := cross_fitted(scores, truths, seed)) is None:
        return None
    scaled, temperatures = found
    return {
        'temperature': fit_temperature(scores, truths),
        'fold_temperatures': temperatures,
        'seed': seed,
        'before': asdict(calibration(scores, truths)),
        'after': asdict(calibration(scaled, truths)),
    }


def scaling_fault(scaling: Mapping[str, Any]) -> str:
    """Why the temperature of :func:`scale` must not be used on other images; '' if it may."""
    if scaling['temperature'] in TEMPERATURES:
        return 'it is an end of the searched range, so these images do not determine it'
    if scaling['after']['nll'] >= scaling['before']['nll']:
        return 'it does not lower the NLL'
    return ''


def coverage_curve(scores: ArrayLike, truths: ArrayLike) -> list[CoveragePoint]:
    """Accuracy among the most confident images, for each coverage that a threshold can give; all images last.

    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11 (2010): the risk-coverage
    curve. Images with equal scores are kept or rejected together.
    """
    table = np.asarray(scores, float)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == np.asarray(truths)
    order = np.argsort(-confidence, kind='stable')
    confidence, rights, n = confidence[order], np.cumsum(right[order]), len(right)
    ends = [*np.flatnonzero(np.diff(confidence) < 0).tolist(), n - 1]
    return [CoveragePoint(float(confidence[i]), Proportion(i + 1, n), Proportion(int(rights[i]), i + 1)) for i in ends]


def at_coverage(curve: list[CoveragePoint], share: float) -> CoveragePoint:
    """The first point of a coverage curve that keeps at least ``share`` (0-1) of the images."""
    return next(point for point in curve if point.kept.k >= share * point.kept.n - 1e-9)


def _binned(
    scores: ArrayLike, truths: ArrayLike, bins: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """The bin of each image, its confidence, and whether it is correct."""
    table = np.asarray(scores, float)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == np.asarray(truths)
    place = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side='left') - 1
    return np.clip(place, 0, bins - 1), confidence, right  # rounding may give a score over 1


def _ece(place: NDArray[np.intp], gaps: NDArray[np.float64], bins: int = BINS) -> float:
    """The ECE from each image's bin and its correctness (0 or 1) minus its confidence."""
    return float(abs(np.bincount(place, gaps, bins)).sum() / len(gaps))


def _log(scores: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.clip(np.asarray(scores, float), _TINY, None))


def _true_scores(logits: NDArray[np.float64], truths: ArrayLike) -> NDArray[np.float64]:
    return logits[np.arange(len(logits)), np.asarray(truths)]
