"""Draws measurements: bars of medians, or means, with the range of their samples. Nothing is measured or written."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from custom_modules.benchmarks.summaries import Spread, figure, ratio, time_to

STOCK, OURS, OTHER = '#999999', '#0072B2', '#E69F00'  # apart for every kind of sight, and in print


class Bar(NamedTuple):
    """A bar: its group, its name within it, the samples, what stands at its end besides their middle, and that."""

    group: str
    name: str
    samples: Sequence[float]
    remark: str = ''
    middle: Callable[[Sequence[float]], float] = statistics.median


def draw(results: Mapping[str, Any]) -> Figure | None:
    """One panel a part, one above the other; None where nothing was measured that has one."""
    panels = [
        ('Training, photos/s', pairs(training_samples(results))),
        ('Inference, photos/s, model alone', pairs(inference_samples(results))),
        ('Loading, photos/s on one core', loader_bars(results)),
        ('Time to a validation top-1, seconds', time_to_bars(results)),
    ]
    panels = [(title, bars) for title, bars in panels if bars]
    if not panels:
        return None
    heights = [0.7 + 0.3 * len(bars) + 0.12 * len({bar.group for bar in bars}) for _, bars in panels]
    shape = Figure(figsize=(8, sum(heights)), layout='constrained')
    FigureCanvasAgg(shape)
    axes = shape.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for each, (title, bars) in zip(axes, panels, strict=True):
        draw_bars(each, title, bars)
    return shape


def draw_bars(axes: Axes, title: str, bars: Sequence[Bar]) -> None:
    """Horizontal bars from top to bottom, groups a little apart; the range of the samples is a thin line."""
    colours = {'stock': STOCK, 'ours': OURS}
    place, last = 0.0, None
    ticks = []
    widest = max((max(bar.samples) for bar in bars if bar.samples), default=1.0)
    for bar in bars:
        place += 1.4 if last not in (None, bar.group) else 1.0
        last = bar.group
        ticks.append((place, f'{bar.group}, {bar.name}'))
        if not bar.samples:
            axes.text(0.01 * widest, place, bar.remark, va='center', fontsize=9)
            continue
        middle = bar.middle(bar.samples)
        axes.barh(place, middle, height=0.8, color=colours.get(bar.name, OTHER))
        axes.plot((min(bar.samples), max(bar.samples)), (place, place), color='#000000', linewidth=1.2)
        text = figure(middle) + (f' {bar.remark}' if bar.remark else '')
        axes.text(max(bar.samples) + 0.012 * widest, place, text, va='center', fontsize=9)
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.set_ylim(place + 0.6, 0.4)
    axes.set_xlim(0, 1.3 * widest)
    axes.set_title(title, loc='left', fontweight='bold', fontsize=10)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(axis='y', length=0)


def pairs(samples: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> list[Bar]:
    """Two bars for each group, stock and ours, the ratio at the second."""
    bars = []
    for group, stock, ours in samples:
        factor: Spread = ratio(ours, stock)
        bars += [Bar(group, 'stock', stock), Bar(group, 'ours', ours, f' × {figure(factor.median)}')]
    return bars


def training_samples(results: Mapping[str, Any]) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """Photos/s of the training steps of both sides."""
    return [
        (title, found['sides']['stock']['photos_per_s'], found['sides']['ours']['photos_per_s'])
        for title, found in results.get('training', {}).items()
    ]


def inference_samples(results: Mapping[str, Any]) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """Photos/s of the model alone on both sides."""
    return [
        (f'{title}, batch {row["batch"]}', row['photos_per_s']['stock'], row['photos_per_s']['ours'])
        for title, found in results.get('inference', {}).items()
        for row in found['rows']
        if row['what'] == 'model'
    ]


def loader_bars(results: Mapping[str, Any]) -> list[Bar]:
    """Both sides on one core, and decode, crop and flip alone."""
    bars = []
    for title, found in results.get('loader', {}).items():
        bars += pairs([(title, found['stock'], found['ours'])])
        bars += [Bar(title, 'decode, crop, flip alone', found['bare'])]
    return bars


def time_to_bars(results: Mapping[str, Any]) -> list[Bar]:
    """Seconds to each level, by training."""
    bars = []
    for title, runs in results.get('time_to', {}).items():
        for level, found in time_to([run['validations'] for run in runs], results['levels']).items():
            remark = f's, {len(found.times)} of {found.seeds} seeds' if found.times else 'not reached'
            bars.append(Bar(title, f'{level:g} %', found.times, remark, statistics.fmean))
    return bars
