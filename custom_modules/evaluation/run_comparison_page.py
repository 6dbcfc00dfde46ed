"""A comparison of trainings or configs as a file: Markdown, JSON, a self-contained page, or the curves."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from custom_modules.evaluation.cross_validation import compare_recipes, read_table
from custom_modules.evaluation.run_comparison import Comparison, Run, compare_runs
from custom_modules.evaluation.runs import read_run
from custom_modules.files import write_atomically
from custom_modules.metrics.plots import as_inline_svg, as_png, shorten
from custom_modules.pages import check_jinja, render

# Okabe and Ito's colours, distinct for colour-blind readers; a second round is dashed.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
STYLES = ('-', '--', ':', '-.')


def compare(sources: Sequence[Path], outs: Sequence[Path]) -> str:
    """Compares trainings, or configs by the table of a cross-validation, and writes the comparison.

    Args:
        sources: Work dirs, each of which counts once; or one table, a ``.csv``.
        outs: Files to write: ``.md``, ``.json``, ``.html`` or ``.png`` (the curves of trainings).

    Returns:
        The comparison in Markdown.

    Raises:
        InputError: A run or the table cannot be read, or Jinja2 is not installed (``.html``).
    """
    if sources[0].suffix == '.csv' and not sources[0].is_dir():
        comparison = compare_recipes(read_table(sources[0]))
    else:
        comparison = compare_runs([read_run(folder) for folder in {path.resolve(): path for path in sources}.values()])
    for out in outs:
        if out.suffix == '.png':
            content = as_png(curves(comparison.runs))
        elif out.suffix == '.html':
            content = page(comparison).encode()
        elif out.suffix == '.json':
            content = (json.dumps(comparison.content, indent=1, ensure_ascii=False) + '\n').encode()
        else:
            content = comparison.markdown.encode()
        _write(out, content)
    return comparison.markdown


def _write(out: Path, content: bytes) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))


def page(comparison: Comparison) -> str:
    """The self-contained page."""
    check_jinja()
    from markupsafe import Markup

    drawn = {
        name: Markup(as_inline_svg(curves(comparison.runs, name == 'wide'), 'Validation top-1 and loss by epoch'))
        for name in ('wide', 'narrow')
        if comparison.runs
    }
    parts = {'rows': comparison.rows, 'notes': comparison.notes, 'pairs': comparison.pairs}
    return render(Path(__file__).with_name('run_comparison.html'), curves=drawn, **parts)


def curves(runs: Sequence[Run], wide: bool = True) -> Figure:
    """Validation top-1 and validation loss of each run by epoch, the best epoch marked.

    The loss has a logarithmic scale, so that a diverging run does not flatten the others. The two are side by side, or
    one above the other for a narrow screen.
    """
    figure = Figure(figsize=(9, 3.8) if wide else (5.2, 6.6), layout='constrained')
    FigureCanvasAgg(figure)
    fields = {'val_accuracy': 'Validation top-1 accuracy, %', 'val_loss': 'Validation loss'}
    panels = figure.subplots(1, 2) if wide else figure.subplots(2, 1)
    for axes, (field, title) in zip(panels, fields.items(), strict=True):
        axes.set_title(title, loc='left', fontweight='bold', fontsize=10)
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(color='#DDDDDD')
        for number, run in enumerate(runs):
            points = {record['epoch']: record[field] for record in run.history if record[field] is not None}
            if points:
                line = {'color': COLOURS[number % len(COLOURS)], 'marker': '.', 'label': shorten(run.name, 60)}
                style = STYLES[number // len(COLOURS) % len(STYLES)]
                axes.plot(*zip(*points.items(), strict=True), linestyle=style, **line)
                if field == 'val_accuracy' and run.best_epoch in points:
                    axes.plot(run.best_epoch, points[run.best_epoch], 'o', color=line['color'])
    panels[1].set_yscale('log')
    low, high = panels[1].get_ylim()
    panels[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.2, 1.5, 2, 3, 5, 7)))
    panels[1].yaxis.set_major_formatter('{x:g}')
    panels[1].yaxis.set_minor_formatter(NullFormatter())
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower left', ncols=2 if wide else 1, frameon=False, fontsize=9)
    return figure
