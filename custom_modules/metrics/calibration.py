"""Calibration of softmax scores: ECE, NLL, temperature scaling, selective prediction. Arrays in, numbers out.

``scores`` are softmax scores, ``(N, K)``, each row a distribution; ``truths`` are labels, ``(N,)`` integers from 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.metrics.predictions import Prediction, Proportion

BINS = 15
FOLDS = 10  # of temperature scaling
SEED = 0  # of the folds and the draws
DRAWS = 1000  # for intervals
TEMPERATURES = 0.05, 20.0  # the range that is searched; the optimum of images that are all correct is at 0
_TINY = float(np.finfo(np.float32).tiny)  # float32 scores below it are 0


def arrays(predictions: Sequence[Prediction]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Scores, ``(N, K)``, and truths, ``(N,)``, of predictions with a known truth."""
    return np.array([p.scores for p in predictions], float), np.array([p.truth for p in predictions], np.intp)


class CoveragePoint(NamedTuple):
    """Selective prediction at one threshold: the images that reach ``min_score``, and the correct ones of those."""

    min_score: float
    kept: Proportion
    right: Proportion

    def as_dict(self) -> dict:
        """For JSON."""
        return {'min_score': self.min_score, 'kept': self.kept.as_dict(), 'right': self.right.as_dict()}


def reliability_bins(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> list[tuple[float | None, Proportion]]:
    """Bins of equal width over the confidence, the highest score of an image.

    Of each bin: the mean confidence of its images, None without images, and the correct ones.
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2: bin m is ((m-1)/M, m/M].
    """
    place, confidence, right = _binned(scores, truths, bins)
    members = [np.flatnonzero(place == i) for i in range(bins)]
    return [
        (float(confidence[i].mean()) if len(i) else None, Proportion(int(right[i].sum()), len(i))) for i in members
    ]


def expected_calibration_error(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> float:
    """Mean gap between accuracy and confidence over the bins, weighted by images; 0-1 (Guo et al., equation 3)."""
    place, confidence, right = _binned(scores, truths, bins)
    return _ece(place, right - confidence, bins)


def nll(scores: ArrayLike, truths: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each image's true class, ``(N,)``, in nats; a score of 0 counts as 87.3 nats."""
    logits = _log(scores)
    return -logits[np.arange(len(logits)), np.asarray(truths)]


def mean_nll(scores: ArrayLike, truths: ArrayLike) -> float:
    """The mean of :func:`nll`."""
    return float(nll(scores, truths).mean())


def calibration(scores: ArrayLike, truths: ArrayLike) -> dict[str, Any]:
    """ECE in 15 bins with its uncertainty, and mean NLL, for JSON.

    The ECE is positive even under perfect calibration. This bias is estimated by drawing for each image whether it is
    correct from its confidence. The interval is the basic bootstrap's (Davison and Hinkley, Bootstrap Methods and
    their Application, 1997, section 5.2). It starts at 0 unless the ECE exceeds 97.5 % of those by chance.

    Returns:
        ``n`` images; ``ece``, 0-1, and ``ece_interval95``; ``ece_by_chance``, the mean ECE of as many images with
        these scores under perfect calibration; ``nll``, nats.
    """
    place, confidence, right = _binned(scores, truths, BINS)
    gaps, n, random = right - confidence, len(right), np.random.default_rng(SEED)
    by_chance, again = np.empty(DRAWS), np.empty(DRAWS)
    for i in range(DRAWS):
        by_chance[i] = _ece(place, (random.random(n) < confidence) - confidence)
        drawn = random.integers(n, size=n)
        again[i] = _ece(place[drawn], gaps[drawn])
    ece = _ece(place, gaps)
    low, high = 2 * ece - np.quantile(again, (0.975, 0.025))
    if ece <= np.quantile(by_chance, 0.975):
        low = 0.0
    return {
        'n': n,
        'ece': ece,
        'ece_interval95': (float(np.clip(low, 0, ece)), float(np.clip(high, ece, 1))),
        'ece_by_chance': float(by_chance.mean()),
        'nll': mean_nll(scores, truths),
    }


def tempered(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """The scores of logits divided by ``temperature``; log-scores are logits up to a constant per image."""
    logits = _log(scores) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fit_temperature(scores: ArrayLike, truths: ArrayLike) -> float:
    """The temperature within 0.05-20 that minimizes the mean NLL (Guo et al., section 4.2).

    The NLL is convex in the inverse temperature; its derivative is mean(E[log score] - log score of the true class),
    the expectation taken over the scaled scores.
    """
    from scipy.optimize import brentq  # 0.5 s, which training does not need

    logits, unscaled = _log(scores), mean_nll(scores, truths)

    def slope(inverse: float) -> float:
        return float((tempered(scores, 1 / inverse) * logits).sum(axis=1).mean()) + unscaled

    low, high = TEMPERATURES
    if slope(1 / high) >= 0:
        return high
    if slope(1 / low) <= 0:
        return low
    return 1 / brentq(slope, 1 / high, 1 / low, xtol=1e-9)


def folds(truths: ArrayLike, number: int = FOLDS) -> NDArray[np.intp]:
    """The fold, 0 to ``number - 1``, of each image; stratified, for classes with fewer images than folds too."""
    labels, random = np.asarray(truths, int), np.random.default_rng(SEED)
    order = [i for label in np.unique(labels) for i in random.permutation(np.flatnonzero(labels == label))]
    found = np.empty(len(labels), np.intp)
    found[np.array(order, int)] = np.arange(len(labels)) % number  # each class goes on where the last ended
    return found


def cross_fitted(scores: ArrayLike, truths: ArrayLike) -> tuple[NDArray[np.float64], list[float]]:
    """The scores, ``(N, K)``, each fold scaled by the temperature fitted on the others, and these temperatures.

    There have to be at least two images.
    """
    table, labels = np.asarray(scores, float), np.asarray(truths)
    number = min(FOLDS, len(labels))
    fold = folds(labels, number)
    temperatures = [fit_temperature(table[fold != i], labels[fold != i]) for i in range(number)]
    scaled = np.empty_like(table)
    for i, temperature in enumerate(temperatures):
        scaled[fold == i] = tempered(table[fold == i], temperature)
    return scaled, temperatures


def scale(scores: ArrayLike, truths: ArrayLike) -> dict[str, Any] | None:
    """Cross-fitted temperature scaling of all images, for JSON; None for a single image.

    Returns:
        ``temperature``, fitted on all images, for others; it divides logits and is above 1 where scores are too high.
        ``fold_temperatures``, each fitted on the other folds; the ``seed`` of the folds. ``before`` and ``after``:
        :func:`calibration` of the scores and of the scores scaled by their fold's temperature.
    """
    if len(np.asarray(truths)) < 2:
        return None
    scaled, temperatures = cross_fitted(scores, truths)
    return {
        'temperature': fit_temperature(scores, truths),
        'fold_temperatures': temperatures,
        'seed': SEED,
        'before': calibration(scores, truths),
        'after': calibration(scaled, truths),
    }


def scaling_fault(scaling: Mapping[str, Any]) -> str:
    """Why the temperature of :func:`scale` must not be used on other images; '' if it may."""
    if scaling['temperature'] in TEMPERATURES:
        return 'the fit reached the limit of its search range (too few images, or too few errors)'
    if scaling['after']['nll'] >= scaling['before']['nll']:
        return 'it does not lower the NLL'
    return ''


def coverage_curve(scores: ArrayLike, truths: ArrayLike) -> list[CoveragePoint]:
    """Accuracy among the most confident images, for each coverage that a threshold can give; all images last.

    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11 (2010): the risk-coverage
    curve. Images with equal scores are kept or rejected together.
    """
    _, confidence, right = _binned(scores, truths, BINS)
    order, n = np.argsort(-confidence, kind='stable'), len(right)
    confidence, rights = confidence[order], np.cumsum(right[order])
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
