"""A test as a folder to look at: metrics.json, predictions.csv, figures, a model card, one page. It tests nothing.

The page needs no network and no other file; report.html is its template.
"""

import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom_modules.datasets.annotation import read_samples
from custom_modules.datasets.manifest import read_manifest
from custom_modules.errors import InputError
from custom_modules.evaluation.model_card import card_path
from custom_modules.evaluation.results import set_aside
from custom_modules.evaluation.robustness import Example
from custom_modules.evaluation.training_log import read_history, settings_table
from custom_modules.files import write_folder_atomically
from custom_modules.metrics.calibration import (
    BINS,
    coverage_curve,
    cross_fitted,
    reliability_bins,
    scaling_fault,
)
from custom_modules.metrics.confusion import confused_pairs, confusion_matrix, row_normalised
from custom_modules.metrics.predictions import SURE, Counts, Prediction, columns, row, write_rows
from custom_modules.models.saved_config import config_text, parse_config
from custom_modules.pages import render as render_template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXTRAS = {'pytorch_grad_cam': 'grad-cam<2', 'jinja2': 'Jinja2'}
TEMPLATE = Path(__file__).with_name('report.html')

MAX_PICTURES = 300  # wrong photos with pictures, some 30 kB each; those after them are listed without
CONTRAST = 4  # right photos shown, of the least sure and of the surest each
PAIRS, PAIR_PHOTOS = 8, 5  # confused pairs shown, photos of each
PHOTO, HEAT, THUMB = 224, 128, 72  # pixels, longer side
MISCALLED = 12  # photos of none of the classes shown
SCORES, MIN_SCORE = 5, 0.0005  # classes whose scores a card shows, beside truth and prediction; 0.000 says nothing


@dataclass(frozen=True)
class Evaluation:
    """What a report tells of.

    Args:
        predictions: One a photo, in the test set's order, with its truth.
        classes: Class names in label order.
        counts: What was counted of them.
        results: The content of metrics.json.
        checkpoint: The tested file; curves are looked for in its folder.
        meta: Its meta data.
        data_root: The prepared dataset.
        model: The tested model, for the heat maps.
        dataset: The test set as the model sees it, without test-time augmentation; its order is that of predictions.
        warning: What the results suffer from; '' for nothing.
        card: The model card, Markdown; '' for an exported model, which has one already.
        examples: A photo under each condition of the test of robustness, if there was one.
        others: What was predicted of photos of none of the classes, if there were any.
    """

    predictions: Sequence[Prediction]
    classes: Sequence[str]
    counts: Counts
    results: dict[str, Any]
    checkpoint: Path
    meta: dict[str, Any]
    data_root: Path
    model: Any
    dataset: Any
    warning: str
    card: str
    examples: Sequence[Example] = ()
    others: Sequence[Prediction] = ()

    @property
    def truths(self) -> list[int]:
        """The true label of each photo."""
        return [prediction.truth for prediction in self.predictions if prediction.truth is not None]

    @property
    def labels(self) -> list[int]:
        """The predicted label of each photo."""
        return [prediction.label for prediction in self.predictions]


def check_extras() -> None:
    """Makes sure, before anything is tested, that a report can be made.

    Raises:
        InputError: A package is missing.
    """
    if missing := [name for module, name in EXTRAS.items() if find_spec(module) is None]:
        raise InputError(f'--report: {", ".join(missing)} not installed: pip install {shlex.join(missing)}')


def write_report(folder: Path, test: Evaluation) -> Path | None:
    """Writes the report, whole or not at all; an earlier one of the same test is replaced.

    Returns:
        Where the report of another test, which had been there, is now.
    """
    drawn = draw(test)
    page = render(test, drawn)

    def fill(new: Path) -> None:
        from custom_modules.metrics.plots import as_png, as_svg

        (new / 'metrics.json').write_text(json.dumps(test.results, indent=1))
        with (new / 'predictions.csv').open('wb') as file:
            write_rows(file, (row(p, test.classes) for p in test.predictions), columns(test.classes), '.csv')
        if test.card:
            (new / card_path(test.checkpoint).name).write_text(test.card, encoding='utf-8', errors='backslashreplace')
        (new / 'figures').mkdir()
        for name, figure in drawn.items():
            (new / 'figures' / f'{name}.png').write_bytes(as_png(figure))
            (new / 'figures' / f'{name}.svg').write_text(as_svg(figure), encoding='utf-8')
        (new / 'index.html').write_text(page, encoding='utf-8', errors='backslashreplace')

    kept = set_aside(folder, test.results)
    write_folder_atomically(folder, fill)
    return kept


def draw(test: Evaluation) -> dict[str, 'Figure']:
    """The figures by their file names; those of the training are left out where nothing was logged."""
    import numpy as np

    from custom_modules.metrics import plots as figures

    scores, truths = np.array([p.scores for p in test.predictions]), np.array(test.truths)
    drawn = {
        'confusion': figures.confusion(confusion_matrix(truths, test.labels, len(test.classes)), test.classes),
        'per_class': figures.per_class(test.counts),
        'coverage': figures.coverage(coverage_curve(scores, truths)),
    }
    drawn['reliability'] = figures.reliability(reliability_bins(scores, truths), 'Scores as they are')
    if (scaling := test.results['temperature_scaling']) and (fitted := cross_fitted(scores, truths, scaling['seed'])):
        drawn['reliability_scaled'] = figures.reliability(reliability_bins(fitted[0], truths), 'After scaling')
    if history := read_history(test.checkpoint.parent):
        drawn['curves'] = figures.curves(history)
    return drawn


def render(test: Evaluation, drawn: dict[str, 'Figure']) -> str:
    """The page as text."""
    from markupsafe import Markup

    from custom_modules.evaluation.cam import resized
    from custom_modules.metrics.plots import as_inline_svg
    from custom_modules.photos.thumbnails import data_address, thumbnail

    descriptions = {
        'coverage': 'Accuracy over the share of photos that are kept, the surest first',
        'reliability': 'Accuracy over the score of the predicted class, and how many photos have such scores',
        'reliability_scaled': 'The same after temperature scaling',
        'curves': 'Accuracy, loss and learning rate over the epochs',
    }
    settings = config_text(test.meta)
    wrong, right, thumbs = _cards(test)
    matrix = confusion_matrix(test.truths, test.labels, len(test.classes))
    surest = sorted(test.others, key=lambda other: -max(other.scores))[:MISCALLED]
    return render_template(
        TEMPLATE,
        scaling_fault=scaling_fault,
        test=test,
        name=test.checkpoint.resolve().parent.name,
        results=test.results,
        counts=test.counts,
        bins=BINS,
        matrix=matrix.tolist(),
        shares=row_normalised(matrix).tolist(),
        pairs=[
            (pair, [(i, thumbs[i]) for i in pair.photos if i in thumbs][:PAIR_PHOTOS])
            for pair in confused_pairs(test.truths, test.labels)
        ],
        shown_pairs=PAIRS,
        wrong=wrong,
        right=right,
        lowest=_lowest(test.counts),
        figures={
            name: Markup(as_inline_svg(drawn[name], text)) for name, text in descriptions.items() if name in drawn
        },
        examples=[(data_address(resized(example.picture, PHOTO)), example) for example in test.examples],
        miscalled=[
            (thumbnail(Path(other.path), PHOTO), os.path.relpath(other.path, test.results['ood']['folder']), other)
            for other in surest
        ],
        sure=SURE,
        data=_data(test),
        settings=settings_table(parse_config(settings)) if settings else [],
        config=settings,
        versions=_versions(),
        trained_with=test.meta.get('versions') or {},
    )


def _cards(test: Evaluation) -> tuple[list[dict], list[tuple[str, list[dict]]], dict[int, str]]:
    """Cards of the wrong photos, worst first, and of groups of right ones; a thumbnail of each wrong photo's index."""
    from custom_modules.evaluation.cam import explain, heat, resized
    from custom_modules.photos.thumbnails import data_address

    labels, truths = test.labels, test.truths
    order = sorted(range(len(labels)), key=lambda i: -max(test.predictions[i].scores))
    wrong = [i for i in order if labels[i] != truths[i]]
    right = [i for i in order if labels[i] == truths[i]]
    surest, least = right[:CONTRAST], right[CONTRAST:][-CONTRAST:][::-1]

    wanted: dict[int, tuple[int, ...]] = {i: (labels[i], truths[i]) for i in wrong[:MAX_PICTURES]}
    wanted |= {i: (labels[i],) for i in (*least, *surest)}
    cards, thumbs = {i: _card(test, i) for i in (*wrong, *least, *surest)}, {}
    for explained in explain(test.model, test.dataset, wanted):
        card, picture = cards[explained.index], explained.picture
        card['picture'] = data_address(resized(picture, PHOTO))
        card['heat'] = [
            (test.classes[label], data_address(heat(picture, cam, HEAT))) if cam.any() else (test.classes[label], None)
            for label, cam in (explained.maps or {}).items()
        ]
        if labels[explained.index] != truths[explained.index]:
            thumbs[explained.index] = data_address(resized(picture, THUMB))
    groups = [('Least sure', least), ('Surest', surest)]
    return [cards[i] for i in wrong], [(title, [cards[i] for i in group]) for title, group in groups if group], thumbs


def _card(test: Evaluation, i: int) -> dict[str, Any]:
    prediction = test.predictions[i]
    order = sorted(range(len(test.classes)), key=lambda label: -prediction.scores[label])
    told = prediction.label, prediction.truth
    shown = [k for place, k in enumerate(order) if k in told or (place < SCORES and prediction.scores[k] >= MIN_SCORE)]
    path = Path(prediction.path)
    return {
        'id': i,
        'path': (path.relative_to(test.data_root) if path.is_relative_to(test.data_root) else path).as_posix(),
        'truth': prediction.truth,
        'label': prediction.label,
        'scores': [(label, prediction.scores[label]) for label in shown],
        'picture': None,
        'heat': [],
    }


def _lowest(counts: Counts) -> float:
    """Where the axis of the classes' intervals begins, in percent: a multiple of ten below all of them."""
    shares = [*counts.recall.values(), *counts.precision.values()]
    lows = [share.interval[0] for share in shares if share.interval]
    return min(90, 10 * (min(lows) // 10))


def _data(test: Evaluation) -> dict[str, Any]:
    """Photos per class and list, and what the manifest says; what cannot be read is left out, it was not tested."""
    sides: dict[str, list[int]] = {}
    tested = Path(str(test.results.get('tested') or 'val.txt')).stem
    for side in dict.fromkeys(('train', tested)):
        try:
            found = [sample.label for sample in read_samples(test.data_root / f'{side}.txt', test.classes)]
        except InputError:
            continue
        sides[side] = [found.count(label) for label in range(len(test.classes))]
    sides[tested] = [test.truths.count(label) for label in range(len(test.classes))]
    manifest = read_manifest(test.data_root) or {}
    facts = {'Split seed': manifest.get('seed'), 'Train ratio': manifest.get('ratio')}
    if 'left_out' in manifest:
        facts['Left out'] = len(manifest['left_out'])
    return {
        'name': test.data_root.resolve().name,
        'sides': sides,
        'most': max(map(sum, zip(*sides.values(), strict=True))),
        'facts': facts,
    }


def _versions() -> dict[str, str]:
    import mmcv
    import mmengine
    import mmpretrain
    import torch

    import custom_modules

    modules = (custom_modules, torch, mmengine, mmpretrain, mmcv)
    return {**{module.__name__: str(module.__version__) for module in modules}, 'Python': platform.python_version()}
