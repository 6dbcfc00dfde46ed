"""Draws what a test has counted, with matplotlib; one function a figure. Nothing is counted or written here."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from custom_modules.metrics.calibration import Bin, CoveragePoint
from custom_modules.metrics.confusion import row_normalised
from custom_modules.metrics.curves import VAL, draw_curves
from custom_modules.metrics.predictions import Counts, Proportion

BLUE, VERMILLION = '#0072B2', '#D55E00'  # of Okabe and Ito's colour-blind-safe set
GRID = '#DDDDDD'
MAX_NAMED = 30  # classes whose names and counts are still legible in a matrix


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(
        {'font.size': 9, 'axes.titlesize': 10, 'axes.titleweight': 'bold', 'axes.titlelocation': 'left'}
    ):
        yield


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def curves(history: list[dict]) -> Figure:
    """Accuracy, loss and learning rate of a training, as curves.png shows them, narrow enough for a phone."""
    figure = draw_curves(history)
    figure.set_size_inches(4.5, 6)
    for axes in figure.axes:
        axes.set_title(axes.get_title('left'), loc='left', fontsize=10, fontweight='bold')
        for text in axes.texts:
            text.set_fontsize(9)
    best = figure.axes[0].get_title('right')
    if best:  # beside the heading it has no room
        figure.axes[0].set_title('', loc='right')
        figure.axes[0].set_title(f'Top-1 accuracy, %\n{best}', loc='left', fontsize=10, fontweight='bold')
    return figure


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Two matrices: counts, and rows in percent of the true class; rows are true, columns predicted classes."""
    with _style():
        named = len(classes) <= MAX_NAMED
        edge = max(2.2, 0.52 * len(classes)) if named else 7
        figure = Figure(figsize=(2 * edge + 2.4, edge + 1.4), layout='constrained')
        FigureCanvasAgg(figure)
        shares = np.nan_to_num(row_normalised(matrix))
        right, wrong = (LinearSegmentedColormap.from_list('', ['#FFFFFF', colour]) for colour in (BLUE, VERMILLION))
        on_diagonal = np.eye(len(classes), dtype=bool)[..., None]
        # The root makes the few mistakes of a good model visible.
        colours = np.where(on_diagonal, right(shares / 100), wrong(np.sqrt(shares / 100)))
        forms: list[tuple[str, NDArray, Callable[[float], str]]] = [
            ('Photos', matrix, '{:.0f}'.format),
            ('Percent of the true class', shares, '{:.1f}'.format),
        ]
        for axes, (title, numbers, form) in zip(figure.subplots(1, 2), forms, strict=True):
            axes.imshow(colours)
            axes.set_title(title)
            axes.set_xlabel('predicted')
            axes.set_ylabel('true')
            if not named:
                continue
            ticks = range(len(classes))
            axes.set_xticks(ticks, [shorten(name) for name in classes], rotation=90 if len(classes) > 6 else 30)
            axes.set_yticks(ticks, [shorten(name) for name in classes])
            for row, column in np.ndindex(matrix.shape):
                if matrix[row, column]:
                    dark = colours[row, column, :3].mean() < 0.6
                    text = form(float(numbers[row, column]))
                    axes.text(column, row, text, ha='center', va='center', color='white' if dark else 'black')
    return figure


def per_class(counts: Counts) -> Figure:
    """Recall, precision and F1 of each class with their 95 % intervals."""
    with _style():
        names = list(counts.recall)
        figure = Figure(figsize=(7.2, max(1.8, 0.32 * len(names) + 1)), layout='constrained')
        FigureCanvasAgg(figure)
        values: dict[str, list[tuple[float | None, tuple[float, float] | None]]] = {
            'Recall, %': [(counts.recall[name].percent, counts.recall[name].interval) for name in names],
            'Precision, %': [(counts.precision[name].percent, counts.precision[name].interval) for name in names],
            'F1, %': [(counts.f1(name), counts.f1_interval(name)) for name in names],
        }
        for axes, (title, found) in zip(figure.subplots(1, 3, sharey=True, sharex=True), values.items(), strict=True):
            for row, (value, interval) in enumerate(found):
                if value is not None and interval is not None:
                    axes.plot(interval, (row, row), color=BLUE, linewidth=1.6)
                    axes.plot(value, row, 'o', color=BLUE, markersize=5)
            axes.set_yticks(range(len(names)), [shorten(name) for name in names])
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_title(title)
            axes.grid(axis='x', color=GRID)
            axes.set_axisbelow(True)
            axes.spines[['top', 'right', 'left']].set_visible(False)
            axes.tick_params(axis='y', length=0)
    return figure


def reliability(bins: Sequence[Bin], title: str) -> Figure:
    """Accuracy over confidence, with Wilson 95 % intervals; perfect scores lie on the diagonal. Below, the photos."""
    with _style():
        figure = Figure(figsize=(3.7, 4.4), layout='constrained')
        FigureCanvasAgg(figure)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        for axes in (top, bottom):
            axes.spines[['top', 'right']].set_visible(False)
            axes.set_axisbelow(True)
        top.plot((0, 1), (0, 1), color='#777777', linestyle=(0, (4, 3)), linewidth=1)
        for part in bins:
            interval = part.right.interval
            if interval is None or part.confidence is None:
                continue
            accuracy = part.right.k / part.right.n
            top.plot((part.confidence,) * 2, (interval[0] / 100, interval[1] / 100), color=BLUE, linewidth=1.2)
            top.plot(part.confidence, accuracy, 'o', color=BLUE, markersize=5)
        top.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel='accuracy')
        top.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        top.grid(color=GRID)
        top.set_title(title)
        width = bins[0].high - bins[0].low
        photos = [part.right.n for part in bins]
        bottom.bar([part.low for part in bins], photos, width=0.86 * width, align='edge', color=BLUE)
        for part in bins:
            if part.right.n:
                centre = (part.low + part.high) / 2
                bottom.annotate(
                    str(part.right.n),
                    (centre, part.right.n),
                    (0, 2),
                    textcoords='offset points',
                    ha='center',
                    fontsize=7.5,
                )
        bottom.set_ylim(0, 1.25 * max(photos))
        bottom.set_yticks([])
        bottom.spines['left'].set_visible(False)
        bottom.set(xlabel='score of the predicted class', ylabel='photos')
        bottom.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def coverage(curve: Sequence[CoveragePoint]) -> Figure:
    """Accuracy among the surest photos over their share, with the pointwise Wilson 95 % interval."""
    with _style():
        figure, axes = _axes(4.2, 3)
        kept = [100 * point.kept.k / point.kept.n for point in curve]
        right = [100 * point.right.k / point.right.n for point in curve]
        low, high = zip(*(_interval(point.right) for point in curve), strict=True)
        axes.fill_between(kept, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(kept, right, color=BLUE, linewidth=1.8, marker='o' if len(curve) < 3 else None)
        axes.plot(kept[-1], right[-1], 'o', color=VAL, markersize=6)
        axes.set(xlim=(0, 102), xlabel='photos kept, %, the surest first')
        # Few photos have wide intervals, which must not flatten the rest.
        axes.set_ylim(max(0.0, min(low[len(low) // 4 :]) - 1), 100.6)
        axes.set_title('Accuracy among the kept, %')
        axes.grid(color=GRID)
    return figure


def _interval(share: Proportion) -> tuple[float, float]:
    assert share.interval is not None  # a point of the curve keeps at least one photo
    return share.interval


def shorten(name: str, limit: int = 18) -> str:
    """A class name that fits at an axis; without ``$``, between which matplotlib would look for mathematics."""
    name = ' '.join(name.split()).replace('$', r'\$')
    return name if len(name) <= limit else f'{name[: limit - 1]}…'


def as_png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes each time."""
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=160, metadata={'Software': None})
    return content.getvalue()


def as_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as a picture, (H, W, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_svg(figure: Figure, text: str = 'path') -> str:
    """The figure as SVG, the same text each time; ``text`` is ``'path'`` (looks alike everywhere) or ``'none'``."""
    content = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': text, 'svg.hashsalt': 'report'}):
        figure.savefig(content, format='svg', metadata={'Date': None, 'Creator': None})
    return content.getvalue()


def as_inline_svg(figure: Figure, description: str) -> str:
    """The figure for a page that has light and dark colours: SVG without a background, in the page's ink and font.

    Args:
        figure: What to draw.
        description: What it shows, for those who do not see it; any text.
    """
    svg = as_svg(figure, text='none')
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    svg = re.sub(r'<defs>\s*<style.*?</style>\s*</defs>', '', svg, flags=re.DOTALL)  # would style the whole page
    svg = re.sub(r'<g id="[^"]*"', '<g', svg)  # would stand on the page twice
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'<svg .*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g>\s*<path d="[^"]*" style="fill: #ffffff"/>\s*</g>', '', svg)
    for colour, ink in {
        '#000000': 'currentColor',
        '#dddddd': 'var(--line)',
        '#777777': 'var(--soft)',
        BLUE.lower(): 'var(--blue)',
        VERMILLION.lower(): 'var(--orange)',
    }.items():
        svg = svg.replace(colour, ink)
    safe = description.replace('&', '&amp;').replace('<', '&lt;').replace('"', '&quot;')
    return svg.replace('role="img">', f'role="img" aria-label="{safe}">', 1).strip()
