"""Confidence intervals for proportions: numbers in, numbers out."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of which ``k`` out of ``n`` were seen.

    E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927). Unlike the
    interval from the normal approximation it stays within [0, 1] and is of use at k = 0 and k = n.

    Args:
        k: How often it was seen, for instance photos classified correctly.
        n: How often it could have been seen.
        confidence: Coverage, between 0 and 1.

    Returns:
        Lower and upper bound, as proportions in [0, 1].

    Raises:
        ValueError: ``n`` is not positive, ``k`` not within 0 … ``n``, or ``confidence`` not between 0 and 1.
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f'no proportion: k = {k}, n = {n}')
    if not 0 < confidence < 1:
        raise ValueError(f'confidence is {confidence}; it must be between 0 and 1')
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * sqrt(k * (n - k) / n + z * z / 4)
    # Rounding must not leave [0, 1], nor miss the bound that is exact.
    return (0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half))
