"""How far scores can be believed: ECE, NLL, temperature scaling, accuracy against coverage. Arrays in, numbers out.

``scores`` are softmax scores, ``(N, K)``, each row a distribution; ``truths`` are labels, ``(N,)`` integers from 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.metrics.predictions import Proportion

BINS = 15
FOLDS = 10  # for temperature scaling
DRAWS = 1000  # for intervals
TEMPERATURES = 0.05, 20.0  # what is looked for lies between; photos that are all right have their optimum at 0
_TINY = float(np.finfo(np.float32).tiny)  # float32 scores cannot tell a smaller one from 0


@dataclass(frozen=True)
class Bin:
    """The photos whose highest score lies in ``(low, high]``: how many, how sure on average, how many are right."""

    low: float
    high: float
    confidence: float | None
    right: Proportion


@dataclass(frozen=True)
class Calibration:
    """ECE (0-1) and mean NLL (nats) of ``n`` photos, and what so few photos can tell of the ECE.

    Args:
        n: Number of photos.
        ece: The ECE in 15 bins.
        ece_interval95: Where the ECE of the model itself lies; from 0 where it may well be perfectly calibrated.
        ece_by_chance: What the ECE of ``n`` photos with these scores would be on average if they were perfect.
        nll: The mean NLL.
    """

    n: int
    ece: float
    ece_interval95: tuple[float, float]
    ece_by_chance: float
    nll: float


@dataclass(frozen=True)
class Scaling:
    """Temperature scaling, cross-fitted: each photo is scaled by a temperature that was fitted without its fold.

    Args:
        temperature: Fitted on all photos, to be used on others; divides the logits. Above 1 the scores were too high.
        fold_temperatures: Those that the folds are scaled by, each fitted on the photos of the other folds.
        seed: What the folds were drawn from.
        before: All photos as they are.
        after: All photos scaled so.
    """

    temperature: float
    fold_temperatures: tuple[float, ...]
    seed: int
    before: Calibration
    after: Calibration

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CoveragePoint:
    """What remains when all photos that score less than ``min_score`` are set aside.

    Args:
        min_score: The lowest score that is kept, 0-1.
        kept: The photos kept, of all.
        right: The photos that are right, of those kept.
    """

    min_score: float
    kept: Proportion
    right: Proportion

    def as_dict(self) -> dict:
        """For JSON."""
        return {'min_score': self.min_score, 'kept': self.kept.as_dict(), 'right': self.right.as_dict()}


def reliability_bins(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Sorts photos by their highest score into ``bins`` bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2: bin m is ((m-1)/M, m/M].
    """
    place, confidence, right = _binned(scores, truths, bins)
    edges = np.linspace(0, 1, bins + 1)
    found = []
    for i in range(bins):
        inside = place == i
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else None
        found.append(Bin(float(edges[i]), float(edges[i + 1]), mean, Proportion(int(right[inside].sum()), n)))
    return found


def expected_calibration_error(scores: ArrayLike, truths: ArrayLike, bins: int = BINS) -> float:
    """Mean distance of accuracy and confidence over the bins, weighted by their photos; 0-1, 0 is perfect.

    Guo et al. 2017, equation 3.

    Raises:
        ValueError: There are no photos.
    """
    sorted_in = [part for part in reliability_bins(scores, truths, bins) if part.right.n]
    n = sum(part.right.n for part in sorted_in)
    if not n:
        raise ValueError('no scores to calibrate')
    return sum(abs(part.right.k - part.right.n * (part.confidence or 0)) for part in sorted_in) / n


def mean_nll(scores: ArrayLike, truths: ArrayLike) -> float:
    """Mean negative log-likelihood of the true class, in nats; a score of 0 counts as 87.3 nats."""
    return float(nll(scores, truths).mean())


def nll(scores: ArrayLike, truths: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each photo's true class, ``(N,)``, in nats; a score of 0 counts as 87.3 nats."""
    return -_true_scores(_log(scores), truths)


def calibration(scores: ArrayLike, truths: ArrayLike, seed: int = 0) -> Calibration:
    """ECE in 15 bins with its uncertainty, and mean NLL.

    The ECE is a sum of distances, so chance adds to it: few photos never show 0. How much is seen by drawing, for each
    photo, whether it is right from its score. The interval is the basic bootstrap's, which takes the chance of a
    second drawing off (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2), and begins at
    0 unless the ECE is greater than 97.5 % of those that chance alone gives. It is never without the ECE itself.

    Args:
        scores: Softmax scores.
        truths: Labels.
        seed: What is drawn, is drawn from this.
    """
    place, confidence, right = _binned(scores, truths, BINS)
    gaps, n, random = right - confidence, len(right), np.random.default_rng(seed)

    def ece_of(photos: NDArray, gap: NDArray) -> float:
        return float(abs(np.bincount(photos, gap, BINS)).sum() / n)

    by_chance, again = np.empty(DRAWS), np.empty(DRAWS)
    for i in range(DRAWS):
        by_chance[i] = ece_of(place, (random.random(n) < confidence) - confidence)
        drawn = random.integers(n, size=n)
        again[i] = ece_of(place[drawn], gaps[drawn])
    ece = expected_calibration_error(scores, truths)
    low, high = 2 * ece - np.quantile(again, (0.975, 0.025))
    if ece <= np.quantile(by_chance, 0.975):
        low = 0.0
    interval = float(np.clip(low, 0, ece)), float(np.clip(high, ece, 1))
    return Calibration(n, ece, interval, float(by_chance.mean()), mean_nll(scores, truths))


def tempered(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Scores as they are with all logits divided by ``temperature``; the order of the classes stays.

    Logits and log-scores differ by a constant for each photo, which softmax takes out again.
    """
    logits = _log(scores) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fit_temperature(scores: ArrayLike, truths: ArrayLike) -> float:
    """The temperature under which ``scores`` have the least mean NLL, within 0.05-20.

    Guo et al. 2017, section 4.2. The NLL is convex in the inverse temperature, with the derivative
    mean(E[log score] - log score of the true class), the expectation taken over the tempered scores. Its zero is
    sought.

    Raises:
        ValueError: There are no photos.
    """
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
    from scipy.optimize import brentq  # 0.5 s, which no training needs

    return 1 / brentq(slope, low, high, xtol=1e-9)


def folds(truths: ArrayLike, number: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """The fold, 0 to ``number - 1``, of each photo, drawn from ``seed``; equally many of each class, and of all."""
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
    """Scales each fold by the temperature fitted on all others; None where that leaves no photo to fit on.

    Returns:
        The scaled scores, ``(N, K)``, and the temperature of each fold.
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


def scale(scores: ArrayLike, truths: ArrayLike, seed: int = 0) -> Scaling | None:
    """Temperature scaling of all photos, none by a temperature that it had a part in; None for a single photo."""
    if (found := cross_fitted(scores, truths, seed)) is None:
        return None
    scaled, temperatures = found
    return Scaling(
        fit_temperature(scores, truths),
        temperatures,
        seed,
        before=calibration(scores, truths),
        after=calibration(scaled, truths),
    )


def scaling_fault(scaling: Mapping[str, Any]) -> str:
    """Why the temperature of a :class:`Scaling`, as a dict, is not to be used on other photos; '' if it is."""
    if scaling['temperature'] in TEMPERATURES:
        return 'it is an end of the range that is searched, so these photos do not tell it'
    if scaling['after']['nll'] >= scaling['before']['nll']:
        return 'it does not lower the NLL'
    return ''


def coverage_curve(scores: ArrayLike, truths: ArrayLike) -> list[CoveragePoint]:
    """What is right among the surest photos, for every number of them that a score can separate; all photos last.

    Photos with equal scores are kept or set aside together. El-Yaniv and Wiener, On the Foundations of Noise-free
    Selective Classification, JMLR 11 (2010): the risk-coverage curve.
    """
    table = np.asarray(scores, float)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == np.asarray(truths)
    order = np.argsort(-confidence, kind='stable')
    confidence, rights = confidence[order], np.cumsum(right[order])
    n = len(confidence)
    ends = [i for i in range(n) if i + 1 == n or confidence[i + 1] < confidence[i]]
    return [CoveragePoint(float(confidence[i]), Proportion(i + 1, n), Proportion(int(rights[i]), i + 1)) for i in ends]


def at_coverage(curve: list[CoveragePoint], share: float) -> CoveragePoint:
    """The first point of a coverage curve that keeps at least ``share`` (0-1) of the photos."""
    return next(point for point in curve if point.kept.k >= share * point.kept.n - 1e-9)


def _binned(
    scores: ArrayLike, truths: ArrayLike, bins: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """The bin of each photo, its highest score, and whether it is right."""
    table = np.asarray(scores, float)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == np.asarray(truths)
    place = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side='left') - 1
    return np.clip(place, 0, bins - 1), confidence, right  # rounding may give a score over 1


def _log(scores: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.clip(np.asarray(scores, float), _TINY, None))


def _true_scores(logits: NDArray[np.float64], truths: ArrayLike) -> NDArray[np.float64]:
    return logits[np.arange(len(logits)), np.asarray(truths)]
