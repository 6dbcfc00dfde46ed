"""Figures of a test, drawn with matplotlib, and their conversion to PNG, SVG and arrays."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from custom_modules.metrics.calibration import CoveragePoint
from custom_modules.metrics.confusion import row_normalised
from custom_modules.metrics.predictions import Proportion

BLUE, VERMILLION = '#0072B2', '#D55E00'  # of Okabe and Ito's colour-blind-safe set
GRID, SOFT = '#DDDDDD', '#777777'
INKS = {
    '#000000': 'currentColor',
    GRID: 'var(--line)',
    SOFT: 'var(--soft)',
    BLUE: 'var(--blue)',
    VERMILLION: 'var(--orange)',
}
MAX_NAMED = 30  # classes whose names and counts are legible in a matrix
STYLE = {'font.size': 9, 'axes.titlesize': 10, 'axes.titleweight': 'bold', 'axes.titlelocation': 'left'}


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the given inches, and its axes from the top left."""
    figure = Figure(figsize=(width, height), layout='constrained')
    found = list(figure.subplots(rows, columns, squeeze=False, **kwargs).flat)
    for axes in found:
        axes.spines[['top', 'right']].set_visible(False)
        axes.set_axisbelow(True)
    return figure, found


@matplotlib.rc_context(STYLE)
def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Two matrices: counts, and rows in percent of the true class; rows are true, columns predicted classes."""
    named = len(classes) <= MAX_NAMED
    edge = max(2.2, 0.52 * len(classes)) if named else 7
    figure, both = _figure(2 * edge + 2.4, edge + 1.4, 1, 2)
    shares = np.nan_to_num(row_normalised(matrix))
    right, wrong = (LinearSegmentedColormap.from_list('', ['#FFFFFF', colour]) for colour in (BLUE, VERMILLION))
    on_diagonal = np.eye(len(classes), dtype=bool)[..., None]
    # The root makes the few errors of a good model visible.
    colours = np.where(on_diagonal, right(shares / 100), wrong(np.sqrt(shares / 100)))
    texts = {'Images': np.char.mod('%d', matrix), 'Percent of the true class': np.char.mod('%.1f', shares)}
    for axes, (title, text) in zip(both, texts.items(), strict=True):
        axes.imshow(colours)
        axes.spines[:].set_visible(True)
        axes.set(title=title, xlabel='predicted', ylabel='true')
        if not named:
            continue
        ticks, names = range(len(classes)), [shorten(name) for name in classes]
        axes.set_xticks(ticks, names, rotation=90 if len(classes) > 6 else 30)
        axes.set_yticks(ticks, names)
        for row, column in np.argwhere(matrix):
            ink = 'white' if colours[row, column, :3].mean() < 0.6 else 'black'
            axes.text(column, row, text[row, column], ha='center', va='center', color=ink)
    return figure


@matplotlib.rc_context(STYLE)
def per_class(classes: Mapping[str, Any]) -> Figure:
    """Recall, precision and F1 of each class, as counted in a test, with their 95 % intervals."""
    names, counts = list(classes), list(classes.values())
    figure, three = _figure(7.2, max(1.8, 0.32 * len(names) + 1), 1, 3, sharex=True, sharey=True)
    values = {
        'Recall, %': [(count['recall']['percent'], count['recall']['wilson95']) for count in counts],
        'Precision, %': [(count['precision']['percent'], count['precision']['wilson95']) for count in counts],
        'F1, %': [(count['f1'], count['f1_wilson95']) for count in counts],
    }
    for axes, (title, found) in zip(three, values.items(), strict=True):
        for row, (value, interval) in enumerate(found):
            if interval is not None:
                axes.plot(interval, (row, row), color=BLUE, linewidth=1.6)
                axes.plot(value, row, 'o', color=BLUE, markersize=5)
        axes.set_yticks(range(len(names)), [shorten(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(title)
        axes.grid(axis='x', color=GRID)
        axes.spines['left'].set_visible(False)
        axes.tick_params(axis='y', length=0)
    return figure


@matplotlib.rc_context(STYLE)
def reliability(bins: Sequence[tuple[float | None, Proportion]], title: str) -> Figure:
    """Reliability diagram: accuracy over confidence with Wilson 95 % intervals, and below it the number of images."""
    figure, (top, bottom) = _figure(3.7, 4.4, 2, 1, sharex=True, height_ratios=[3.2, 1])
    top.plot((0, 1), (0, 1), color=SOFT, linestyle=(0, (4, 3)), linewidth=1)
    for confidence, right in bins:
        if confidence is not None and right.interval is not None:
            top.plot((confidence,) * 2, [end / 100 for end in right.interval], color=BLUE, linewidth=1.2)
            top.plot(confidence, right.k / right.n, 'o', color=BLUE, markersize=5)
    top.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel='accuracy', title=title)
    top.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    top.grid(color=GRID)
    starts, images = np.arange(len(bins)) / len(bins), [right.n for _, right in bins]
    bars = bottom.bar(starts, images, width=0.86 / len(bins), align='edge', color=BLUE)
    bottom.bar_label(bars, [str(n or '') for n in images], padding=2, fontsize=7.5)
    bottom.set(ylim=(0, 1.25 * max(images)), yticks=[], xlabel='confidence', ylabel='images')
    bottom.spines['left'].set_visible(False)
    bottom.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


@matplotlib.rc_context(STYLE)
def coverage(curve: Sequence[CoveragePoint]) -> Figure:
    """Accuracy among the most confident images over their share, with the pointwise Wilson 95 % interval."""
    figure, (axes,) = _figure(4.2, 3)
    kept = [point.kept.percent or 0.0 for point in curve]
    right = [point.right.percent or 0.0 for point in curve]
    low, high = zip(*(point.right.interval or (0, 100) for point in curve), strict=True)
    axes.fill_between(kept, low, high, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(kept, right, color=BLUE, linewidth=1.8, marker='o' if len(curve) < 3 else None)
    axes.plot(kept[-1], right[-1], 'o', color=VERMILLION, markersize=6)
    axes.set(xlim=(0, 102), xlabel='coverage, % of the images', title='Accuracy among the kept images, %')
    # Few images have wide intervals, which must not flatten the rest.
    axes.set_ylim(max(0.0, min(low[len(low) // 4 :]) - 1), 100.6)
    axes.grid(color=GRID)
    return figure


def shorten(name: str, limit: int = 18) -> str:
    """A class name that fits at an axis; ``$`` is escaped, because matplotlib reads it as mathematics."""
    name = ' '.join(name.split()).replace('$', r'\$')
    return name if len(name) <= limit else f'{name[: limit - 1]}…'


def as_png(figure: Figure) -> bytes:
    """The figure as PNG, reproducible to the byte."""
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=160, metadata={'Software': None})
    return content.getvalue()


def as_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as an image, (H, W, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_svg(figure: Figure, text: str = 'path') -> str:
    """The figure as SVG, reproducible to the byte; ``text`` is ``'path'`` (looks alike everywhere) or ``'none'``."""
    content = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': text, 'svg.hashsalt': 'report'}):
        figure.savefig(content, format='svg', metadata={'Date': None, 'Creator': None})
    return content.getvalue()


def as_inline_svg(figure: Figure, description: str) -> str:
    """The figure as SVG without background, in a page's ink and font; ``description`` is its text alternative."""
    svg = as_svg(figure, text='none')
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    svg = re.sub(r'<defs>\s*<style.*?</style>\s*</defs>', '', svg, flags=re.DOTALL)  # would style the whole page
    svg = re.sub(r'<g id="[^"]*"', '<g', svg)  # would not be unique in the page
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'<svg .*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g>\s*<path d="[^"]*" style="fill: #ffffff"/>\s*</g>', '', svg)
    for colour, ink in INKS.items():
        svg = svg.replace(colour.lower(), ink)
    return svg.replace('role="img">', f'role="img" aria-label="{escape(description)}">', 1).strip()
