"""Training curves: accuracy, loss and learning rate over the epochs."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from custom_modules.files import write_atomically

TRAIN, VAL, LR = '#0072B2', '#D55E00', '#000000'  # blue, vermillion, black of Okabe and Ito's colour-blind-safe set


def draw_curves(history: list[dict], narrow: bool = False) -> Figure:
    """Accuracy, loss and learning rate over the epochs, one above the other.

    Args:
        history: Records as in :attr:`CurvesHook.history`, at least one. None and values that are not finite are gaps.
        narrow: Whether the figure has to be legible at the width of a phone.
    """
    figure = Figure(figsize=(4.5, 6) if narrow else (8, 8.5), layout='constrained')
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.4])
    epochs = [record['epoch'] for record in history]
    for axes in (top, middle, bottom):
        axes.grid(axis='y', color='#DDDDDD', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    titles = [
        'Top-1 accuracy, %' + draw_pair(top, history, 'accuracy', '{:.2f} %'),
        'Loss' + draw_pair(middle, history, 'loss', '{:.3g}', log_from=100),
    ]
    val = column(history, 'val_accuracy')
    if not all(map(math.isnan, val)):
        best = max(range(len(val)), key=lambda i: -math.inf if math.isnan(val[i]) else val[i])  # the first of equals
        top.plot(epochs[best], val[best], 'o', markersize=11, markerfacecolor='none', color=VAL, markeredgewidth=1.8)
        titles[0] += f'\n○ best val {val[best]:.2f} %, epoch {epochs[best]}'
    rates = column(history, 'lr')
    bottom.plot(epochs, rates, color=LR, drawstyle='steps-mid', marker='o', markersize=3.5, linewidth=1.4)
    titles.append('Learning rate' + (unit := scale(bottom, rates, log_from=10)))
    if not unit:
        bottom.set_ylim(0, 1.15 * max(rates) or 1)
        bottom.ticklabel_format(axis='y', scilimits=(-4, 4))
    bottom.set(xlim=(epochs[0] - 0.5, epochs[-1] + 0.5), xlabel='Epoch')
    for axes, title in zip((top, middle, bottom), titles, strict=True):
        axes.set_title(title, loc='left', fontweight='bold', fontsize=10 if narrow else 12)
    return figure


def column(history: list[dict], key: str) -> list[float]:
    """One value of each record; NaN, which is not drawn, for None and values that are not finite."""
    values = [record[key] for record in history]
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def scale(axes: Axes, values: list[float], log_from: float) -> str:
    """Makes the y axis logarithmic where the largest value is over ``log_from`` times the smallest; for the title."""
    seen = [value for value in values if not math.isnan(value)]
    if not seen or min(seen) <= 0 or max(seen) <= log_from * min(seen):
        return ''
    axes.set_yscale('log')
    few_decades = max(seen) < 1000 * min(seen)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if few_decades else (1,), numticks=6))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter(NullFormatter())
    return ', log scale'


def draw_pair(axes: Axes, history: list[dict], what: str, form: str, log_from: float = math.inf) -> str:
    """Draws training and validation, with the last values in a legend; returns the addition to the title."""
    epochs, everything = [record['epoch'] for record in history], []
    for subset, colour in (('train', TRAIN), ('val', VAL)):
        values = column(history, f'{subset}_{what}')
        seen = [value for value in values if not math.isnan(value)]
        if not seen:
            continue
        last = history[-1][f'{subset}_{what}']
        diverged = last is not None and not math.isfinite(last)
        label = f'{subset} not finite' if diverged else f'{subset} {form.format(seen[-1])}'
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker='o', markersize=3.5, label=label)
        everything += seen
    if everything:
        axes.legend(frameon=False, labelcolor='linecolor')
    else:
        axes.text(0.5, 0.5, 'none measured', transform=axes.transAxes, ha='center', va='center', color='#777777')
        axes.set_yticks([])
    return scale(axes, everything, log_from)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format='png', dpi=120))
