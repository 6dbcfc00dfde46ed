"""Training curves: accuracy, loss and learning rate over the epochs."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from custom_modules.files import write_atomically

COLOURS = {'train': '#0072B2', 'val': '#D55E00'}  # blue and vermillion of Okabe and Ito's colour-blind-safe set


def draw_curves(history: list[dict], narrow: bool = False) -> Figure:
    """Accuracy, loss and learning rate over the epochs, one above the other.

    Args:
        history: Records as in :attr:`CurvesHook.history`, at least one. Values that are not finite are gaps.
        narrow: Whether the figure has to be legible at the width of a phone.
    """
    figure = Figure(figsize=(4.5, 6) if narrow else (8, 8.5))
    # Fixed margins: a computed layout takes longer than the drawing.
    margins = {'left': 0.15 if narrow else 0.09, 'right': 0.97, 'bottom': 0.08, 'top': 0.95, 'hspace': 0.25}
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.4], gridspec_kw=margins)
    for axes, title in zip(panels, ('Top-1 accuracy, %', 'Loss', 'Learning rate'), strict=True):
        axes.set_title(title, loc='left', fontweight='bold', fontsize=10 if narrow else 12)
        axes.grid(axis='y', color='#DDDDDD')
        axes.spines[['top', 'right']].set_visible(False)
    accuracy, loss, rate = panels
    for subset, colour in COLOURS.items():
        draw(accuracy, history, f'{subset}_accuracy', f'{subset} {{:.2f}} %', color=colour)
        draw(loss, history, f'{subset}_loss', f'{subset} {{:.3g}}', log_from=100, color=colour)
    measured = [r for r in history if r['val_accuracy'] is not None and math.isfinite(r['val_accuracy'])]
    if measured:
        best = max(measured, key=lambda record: record['val_accuracy'])  # the first of equals
        label = f'best val {best["val_accuracy"]:.2f} %, epoch {best["epoch"]}'
        ring = {'markersize': 11, 'markerfacecolor': 'none', 'linestyle': 'none', 'color': COLOURS['val']}
        accuracy.plot(best['epoch'], best['val_accuracy'], marker='o', label=label, **ring)
    for axes, corner in ((accuracy, 'lower right'), (loss, 'upper right')):
        if axes.lines:
            axes.legend(frameon=False, loc=corner)
    draw(rate, history, 'lr', '', log_from=10, color='black', drawstyle='steps-mid')
    if rate.get_yscale() == 'linear':
        rate.set_ylim(bottom=0)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rate.set(xlim=(history[0]['epoch'] - 0.5, history[-1]['epoch'] + 0.5), xlabel='Epoch')
    return figure


def draw(axes: Axes, history: list[dict], key: str, label: str, log_from: float = math.inf, **style: Any) -> None:
    """Draws one value of the records, its last in the legend.

    The axis is logarithmic if the largest value is more than ``log_from`` times the smallest.
    """
    known = [(record['epoch'], record[key]) for record in history if record[key] is not None]
    if not known:
        return
    epochs, values = zip(*known, strict=True)
    finite = [value for value in values if math.isfinite(value)]
    gaps = [value if math.isfinite(value) else math.nan for value in values]
    axes.plot(epochs, gaps, marker='o', markersize=3.5, label=label.format(values[-1]), **style)
    if finite and 0 < log_from * min(finite) < max(finite):
        axes.set_yscale('log')


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format='png', dpi=120))
