"""How far scores can be believed: ECE, NLL, temperature scaling, accuracy against coverage. Arrays in, numbers out.

``scores`` are softmax scores, ``(N, K)``, each row a distribution; ``truths`` are labels, ``(N,)`` integers from 0.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.evaluation.predictions import Proportion

BINS = 15
TEMPERATURES = 0.05, 20.0  # what is looked for lies between; photos that are all right have their optimum at 0
_TINY = float(np.finfo(np.float32).tiny)  # float32 scores cannot tell a smaller one from 0


@dataclass(frozen=True)
class Bin:
    """The photos whose highest score lies in ``(low, high]``: how many, how sure on average, how many are right."""

    low: float
    high: float
    confidence: float | None
    right: Proportion

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), 'right': self.right.as_dict()}


@dataclass(frozen=True)
class Calibration:
    """ECE (0-1) and mean NLL (nats) of ``n`` photos."""

    n: int
    ece: float
    nll: float


@dataclass(frozen=True)
class Scaling:
    """Temperature scaling: fitted on ``fitted_on`` photos, and what it does to the others, which alone are scored.

    Args:
        temperature: Divides the logits; above 1 the scores had been too high.
        fitted_on: Number of photos that it was fitted on.
        seed: What the halves were drawn from.
        before: The other half as it is.
        after: The other half with the temperature.
    """

    temperature: float
    fitted_on: int
    seed: int
    before: Calibration
    after: Calibration

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), 'scored_on': self.before.n}


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
    table = np.asarray(scores, float)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == np.asarray(truths)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side='left') - 1, 0, bins - 1)  # rounding may give over 1
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


def calibration(scores: ArrayLike, truths: ArrayLike) -> Calibration:
    """ECE in 15 bins and mean NLL."""
    return Calibration(len(np.asarray(truths)), expected_calibration_error(scores, truths), mean_nll(scores, truths))


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


def halves(truths: ArrayLike, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of two disjoint halves with all photos, drawn from ``seed``; half of each class in either.

    Where classes have odd numbers of photos, the halves get the odd photo in turn.
    """
    labels = np.asarray(truths)
    random = np.random.default_rng(seed)
    first: list[int] = []
    odd = 0
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        take = len(members) // 2 + (len(members) % 2) * (odd % 2)
        odd += len(members) % 2
        first.extend(members[:take].tolist())
    chosen = np.zeros(len(labels), bool)
    chosen[first] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def scale(scores: ArrayLike, truths: ArrayLike, seed: int = 0) -> Scaling | None:
    """Fits a temperature on one half of the photos and scores the other; None where a half would be empty."""
    table, labels = np.asarray(scores, float), np.asarray(truths)
    fit, held = halves(labels, seed)
    if not (len(fit) and len(held)):
        return None
    temperature = fit_temperature(table[fit], labels[fit])
    return Scaling(
        temperature,
        len(fit),
        seed,
        before=calibration(table[held], labels[held]),
        after=calibration(tempered(table[held], temperature), labels[held]),
    )


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


def _log(scores: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.clip(np.asarray(scores, float), _TINY, None))


def _true_scores(logits: NDArray[np.float64], truths: ArrayLike) -> NDArray[np.float64]:
    return logits[np.arange(len(logits)), np.asarray(truths)]
