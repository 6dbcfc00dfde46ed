"""A comparison of trainings or configs as a file: Markdown, JSON, a self-contained page, or the curves."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from custom_modules.evaluation import cross_validation
from custom_modules.evaluation.run_comparison import Pair, Run, as_dict, as_markdown, compare_pairs, notes, table
from custom_modules.evaluation.runs import read_run
from custom_modules.files import write_atomically
from custom_modules.metrics.plots import as_inline_svg, as_png, shorten
from custom_modules.pages import check_jinja, render

TEMPLATE = Path(__file__).with_name('run_comparison.html')
# Okabe and Ito's colours, distinct for colour-blind readers; a second round is dashed.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
STYLES = ('-', '--', ':', '-.')


def compare_runs(work_dirs: Sequence[Path], outs: Sequence[Path]) -> str:
    """Compares trainings, and writes the comparison as ``.md``, ``.json``, ``.html`` or ``.png`` (curves).

    Args:
        work_dirs: The work dirs; each counts once, however it is spelled.
        outs: Files to write.

    Returns:
        The comparison in Markdown.

    Raises:
        InputError: A run cannot be read, or Jinja2 is not installed (``.html``).
    """
    runs = [read_run(folder) for folder in {path.resolve(): path for path in work_dirs}.values()]
    pairs = compare_pairs(runs)
    for out in outs:
        if out.suffix == '.png':
            _write(out, as_png(curves(runs)))
        elif out.suffix == '.html':
            _write(out, page(runs, pairs).encode())
        else:
            _write_text(out, as_markdown(runs, pairs), as_dict(runs, pairs))
    return as_markdown(runs, pairs)


def compare_recipes(table: Path, outs: Sequence[Path]) -> str:
    """Compares configs by the table of a cross-validation, and writes it as ``.md``, ``.json`` or ``.html``.

    Returns:
        The comparison in Markdown.

    Raises:
        InputError: The table cannot be read, or Jinja2 is not installed (``.html``).
    """
    recipes = cross_validation.read_table(table)
    found = recipes, cross_validation.differences(recipes)
    markdown = cross_validation.as_markdown(*found)
    for out in outs:
        if out.suffix == '.html':
            rows, remarks = cross_validation.summary(*found), cross_validation.remarks(*found)
            _write(out, render(TEMPLATE, rows=rows, notes=remarks, pairs=[], curves=None).encode())
        else:
            _write_text(out, markdown, cross_validation.as_dict(*found))
    return markdown


def _write_text(out: Path, markdown: str, content: dict) -> None:
    text = markdown if out.suffix == '.md' else json.dumps(content, indent=1, ensure_ascii=False) + '\n'
    _write(out, text.encode())


def _write(out: Path, content: bytes) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))


def curves(runs: Sequence[Run], wide: bool = True) -> Figure:
    """Validation top-1 and validation loss of each run by epoch, the best epoch marked.

    The loss has a logarithmic scale, so that a diverging run does not flatten the others.

    Args:
        runs: The runs.
        wide: Side by side; or one above the other, for a narrow screen.
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
            points = [(record['epoch'], record[field]) for record in run.history if record[field] is not None]
            if not points:
                continue
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
            axes.plot(
                *zip(*points, strict=True), color=colour, linestyle=style, marker='.', label=shorten(run.name, 60)
            )
            best = [point for point in points if point[0] == run.best_epoch and field == 'val_accuracy']
            axes.plot(*zip(*best, strict=True), 'o', color=colour) if best else None
    panels[1].set_yscale('log')
    low, high = panels[1].get_ylim()
    panels[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.2, 1.5, 2, 3, 5, 7)))
    panels[1].yaxis.set_major_formatter('{x:g}')
    panels[1].yaxis.set_minor_formatter(NullFormatter())
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower left', ncols=2 if wide else 1, frameon=False, fontsize=9)
    return figure


def page(runs: Sequence[Run], pairs: Sequence[Pair]) -> str:
    """The self-contained page.

    Raises:
        InputError: Jinja2 is not installed.
    """
    check_jinja()
    from markupsafe import Markup

    shown = {
        name: Markup(as_inline_svg(curves(runs, name == 'wide'), 'Validation top-1 and loss of each run by epoch'))
        for name in ('wide', 'narrow')
    }
    return render(TEMPLATE, rows=table(runs), notes=notes(runs, pairs), pairs=pairs, curves=shown)
