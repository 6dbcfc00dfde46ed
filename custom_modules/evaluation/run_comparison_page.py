"""A comparison of trainings or configs as a file: Markdown, JSON, a self-contained page, or the curves."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from custom_modules.evaluation.cross_validation import compare_configs, read_table
from custom_modules.evaluation.run_comparison import Comparison, TrainedRun, compare_runs
from custom_modules.evaluation.trained_runs import read_trained_run
from custom_modules.metrics.curves import draw, save_figure
from custom_modules.metrics.plots import as_inline_svg, shorten
from custom_modules.pages import render, write_out

# Okabe and Ito's colours, distinct for colour-blind readers; a second round is dashed.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
STYLES = ('-', '--', ':', '-.')


def compare(sources: Sequence[Path], outs: Sequence[Path]) -> str:
    """Compares work dirs, or configs by one table of a cross-validation, and writes the comparison.

    ``outs`` are ``.md``, ``.json``, ``.html`` or ``.png`` (the curves of trainings). Returns the Markdown.
    """
    if sources[0].suffix == '.csv' and not sources[0].is_dir():
        comparison = compare_configs(read_table(sources[0])[1])
    else:
        comparison = compare_runs(
            [read_trained_run(folder) for folder in {path.resolve(): path for path in sources}.values()]
        )
    for out in outs:
        if out.suffix == '.png':
            out.parent.mkdir(parents=True, exist_ok=True)
            save_figure(curves(comparison.runs), out)
        elif out.suffix == '.html':
            write_out(out, page(comparison))
        elif out.suffix == '.json':
            write_out(out, json.dumps(comparison.content, indent=1, ensure_ascii=False) + '\n')
        else:
            write_out(out, comparison.markdown)
    return comparison.markdown


def page(comparison: Comparison) -> str:
    """The self-contained page."""
    from markupsafe import Markup

    drawn = {
        name: Markup(as_inline_svg(curves(comparison.runs, name == 'wide'), 'Validation top-1 and loss by epoch'))
        for name in ('wide', 'narrow')
        if comparison.runs
    }
    parts = {'rows': comparison.rows, 'notes': comparison.notes, 'pairs': comparison.pairs}
    return render(Path(__file__).with_name('run_comparison.html'), curves=drawn, **parts)


def curves(runs: Sequence[TrainedRun], wide: bool = True) -> Figure:
    """Validation top-1 and loss of each run by epoch, side by side or, for a narrow screen, one above the other."""
    figure = Figure(figsize=(9, 3.8) if wide else (5.2, 6.6), layout='constrained')
    fields = {'val_accuracy': 'Validation top-1 accuracy, %', 'val_loss': 'Validation loss'}
    panels = figure.subplots(1, 2) if wide else figure.subplots(2, 1)
    for axes, (field, title) in zip(panels, fields.items(), strict=True):
        axes.set_title(title, loc='left', fontweight='bold', fontsize=10)
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(color='#DDDDDD')
        for number, run in enumerate(runs):
            name = shorten(run.name, 60).replace('{', '{{').replace('}', '}}')
            line = {'color': COLOURS[number % len(COLOURS)], 'linestyle': STYLES[number // len(COLOURS) % len(STYLES)]}
            draw(axes, run.history, field, name, log_from=10 if field == 'val_loss' else math.inf, **line)
            best = [record for record in run.history if record['epoch'] == run.best_epoch and field == 'val_accuracy']
            if best and best[0][field] is not None:
                axes.plot(run.best_epoch, best[0][field], 'o', color=line['color'])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower left', ncols=2 if wide else 1, frameon=False, fontsize=9)
    return figure
