"""From samples to figures: medians, ratios, loss curves, times to a score, costs at scale. Plain data; no clock."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SIDES = ('stock', 'ours')


@dataclass(frozen=True)
class Spread:
    """Samples in short: their median, the least, the greatest, and how many."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return figure(self.median)
        return f'{figure(self.median)} ({figure(self.low)}–{figure(self.high)})'


def spread(samples: Sequence[float]) -> Spread:
    """Returns the samples in short; there is at least one."""
    return Spread(statistics.median(samples), min(samples), max(samples), len(samples))


def ratio(ours: Sequence[float], stock: Sequence[float]) -> Spread:
    """How many times as much ``ours`` is; each is compared with the one that was measured beside it."""
    return spread([one / other for one, other in zip(ours, stock, strict=True)])


def figure(value: float) -> str:
    """A number with three digits that count, and no exponent: 0.0123, 4.57, 1230."""
    if not math.isfinite(value) or value == 0:
        return f'{value:g}'
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f'{value:.{decimals}f}' if decimals else f'{round(value, 2 - math.floor(math.log10(abs(value)))):.0f}'


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Means of ``window`` neighbours each; of all, where there are fewer."""
    window = max(1, min(window, len(values)))
    return [statistics.fmean(values[i : i + window]) for i in range(len(values) - window + 1)]


def compare_losses(stock: Sequence[float], ours: Sequence[float], window: int = 10) -> dict[str, Any]:
    """Two loss curves over the same batches: whether they are the same within what one batch differs from the next.

    Args:
        stock: Loss of each iteration.
        ours: The same on the other side; what is longer is cut.
        window: Iterations that the smoothed curves are means of.

    Returns:
        ``iterations``, ``window``, ``mean_stock``, ``mean_ours``, ``largest_difference`` of the smoothed curves, and
        ``noise``: the standard deviation of a smoothed stock loss, from how much neighbouring batches differ.
    """
    count = min(len(stock), len(ours))
    stock, ours = stock[:count], ours[:count]
    window = max(1, min(window, count))
    smooth = zip(moving_mean(stock, window), moving_mean(ours, window), strict=True)
    steps = [second - first for first, second in pairwise(stock)]
    deviation = math.sqrt(statistics.fmean([step**2 for step in steps]) / 2) if steps else 0.0
    return {
        'iterations': count,
        'window': window,
        'mean_stock': statistics.fmean(stock),
        'mean_ours': statistics.fmean(ours),
        'largest_difference': max(abs(one - other) for one, other in smooth),
        'noise': deviation / math.sqrt(window),
    }


def reached(validations: Sequence[Mapping[str, float]], levels: Sequence[float]) -> dict[float, float | None]:
    """Seconds until the first validation of each level or more, None where there was none.

    Args:
        validations: ``seconds`` since the start and ``top1`` in percent, in order.
        levels: Percent.
    """
    return {
        level: next((found['seconds'] for found in validations if found['top1'] >= level), None) for level in levels
    }


@dataclass(frozen=True)
class TimeTo:
    """Seconds to a level over several seeds: of those that got there, and how many that were."""

    times: tuple[float, ...]
    seeds: int

    def __str__(self) -> str:
        share = f'{len(self.times)} of {self.seeds} seeds'
        if not self.times:
            return f'not reached, {share}'
        mean = statistics.fmean(self.times)
        between = f' ({figure(min(self.times))}–{figure(max(self.times))})' if len(self.times) > 1 else ''
        return f'{figure(mean)} s{between}, {share}'


def time_to(runs: Sequence[Sequence[Mapping[str, float]]], levels: Sequence[float]) -> dict[float, TimeTo]:
    """The times to each level; ``runs`` holds each seed's validations, as for :func:`reached`."""
    found = [reached(validations, levels) for validations in runs]
    return {
        level: TimeTo(tuple(time for times in found if (time := times[level]) is not None), len(runs))
        for level in levels
    }


@dataclass(frozen=True)
class Costs:
    """What was measured of one training, and what follows for any number of photos.

    Args:
        photo_bytes: Mean size of a photo's file.
        load_seconds: Time in which one core loads a photo, augmentation included.
        train_seconds: Time in which one process trains on a photo, loading aside.
        step_seconds: Time of a training step.
        gradient_bytes: Size of all gradients.
        index_bytes: Memory that the dataset holds for a photo, without any loaded.
        index_seconds: Time in which the dataset reads and checks a photo's line.
    """

    photo_bytes: float
    load_seconds: float
    train_seconds: float
    step_seconds: float
    gradient_bytes: int
    index_bytes: float
    index_seconds: float


def at_scale(costs: Costs, photos: int = 1_000_000, processes: Sequence[int] = (2, 8, 64)) -> dict[str, Any]:
    """What the measured costs come to for many photos and several processes, if nothing else gets in the way.

    A ring all-reduce makes each of N processes send 2 (N - 1) / N times the gradients a step (Patarasuk and Yuan,
    Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009).

    Returns:
        ``loading_hours`` of one core and ``training_hours`` of one process for an epoch; ``loaders`` that keep one
        training process fed; ``read_mb_per_s`` that they read; ``photos_gb``; ``index_mb``; ``index_seconds``;
        ``all_reduce``, for each number of processes: ``mb`` that each sends a step, and ``mbit_per_s`` at which that
        takes a tenth of the step.
    """
    sent = {count: 2 * (count - 1) / count * costs.gradient_bytes for count in processes}
    return {
        'photos': photos,
        'loading_hours': photos * costs.load_seconds / 3600,
        'training_hours': photos * costs.train_seconds / 3600,
        'loaders': max(1, math.ceil(costs.load_seconds / costs.train_seconds)),
        'read_mb_per_s': costs.photo_bytes / costs.train_seconds / 1e6,
        'photos_gb': photos * costs.photo_bytes / 1e9,
        'index_mb': photos * costs.index_bytes / 1e6,
        'index_seconds': photos * costs.index_seconds,
        'all_reduce': [
            {'processes': count, 'mb': size / 1e6, 'mbit_per_s': 8 * size / (0.1 * costs.step_seconds) / 1e6}
            for count, size in sent.items()
        ],
    }
