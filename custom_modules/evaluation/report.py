"""The report of a test: a folder with metrics.json, predictions.csv, figures, a model card and one HTML page.

The page needs no network and no other file. The template is report.html.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mmcv
import mmengine
import mmpretrain
import torch
from markupsafe import Markup
from matplotlib.figure import Figure

import custom_modules
from custom_modules.datasets.annotation import read_samples
from custom_modules.datasets.manifest import read_manifest
from custom_modules.errors import InputError
from custom_modules.evaluation.cam import Explained, explain, heat
from custom_modules.evaluation.model_card import card_path, find_manifest, model_card
from custom_modules.evaluation.results import Evaluation, results_warning, set_aside
from custom_modules.evaluation.robustness import examples
from custom_modules.evaluation.training_log import read_history, settings_table
from custom_modules.files import write_folder_atomically
from custom_modules.metrics import calibration, plots
from custom_modules.metrics.confusion import confused_pairs, confusion_matrix, row_normalised
from custom_modules.metrics.curves import draw_curves
from custom_modules.metrics.predictions import SURE, columns, row, write_rows
from custom_modules.models.model_file import is_exported
from custom_modules.models.saved_config import config_text
from custom_modules.pages import render as render_template
from custom_modules.photos.thumbnails import data_address, resized, thumbnail

TEMPLATE = Path(__file__).with_name('report.html')
TOOLS = custom_modules, torch, mmengine, mmpretrain, mmcv  # whose versions are in the report

MAX_PICTURES = 300  # misclassified images shown, some 30 kB each; the others are listed without a picture
CONTRAST = 4  # correct images shown, of the least and of the most confident each
PAIRS, PAIR_PHOTOS = 8, 5  # confused pairs shown, images of each
PHOTO, HEAT, THUMB = 224, 128, 72  # pixels, longer side
MISCALLED = 12  # OOD images shown
SCORES, MIN_SCORE = 5, 0.0005  # scores shown per image, besides truth and prediction; smaller ones read 0.000
DESCRIPTIONS = {
    'coverage': 'Accuracy over coverage, the most confident images first',
    'reliability': 'Reliability diagram: accuracy over confidence, and the number of images',
    'reliability_scaled': 'The same after temperature scaling',
    'curves': 'Accuracy, loss and learning rate over the epochs',
}


def write_report(folder: Path, test: Evaluation) -> Path | None:
    """Writes the report, whole or not at all, and returns the new path of the report of another test in ``folder``."""
    file, classes, drawn = test.file, test.file.classes, draw(test)
    page = render(test, drawn)
    card = ''
    if not is_exported(file.path):
        card = model_card(file.path.name, file, test.results, find_manifest(file, test.data_root))

    def fill(new: Path) -> None:
        (new / 'metrics.json').write_text(json.dumps(test.results, indent=1))
        with (new / 'predictions.csv').open('wb') as table:
            write_rows(table, (row(p, classes) for p in test.predictions), columns(classes), '.csv')
        if card:
            (new / card_path(file.path).name).write_text(card, encoding='utf-8', errors='backslashreplace')
        (new / 'figures').mkdir()
        for name, figure in drawn.items():
            (new / 'figures' / f'{name}.png').write_bytes(plots.as_png(figure))
            (new / 'figures' / f'{name}.svg').write_text(plots.as_svg(figure), encoding='utf-8')
        (new / 'index.html').write_text(page, encoding='utf-8', errors='backslashreplace')

    kept = set_aside(folder, test.results)
    write_folder_atomically(folder, fill)
    return kept


def draw(test: Evaluation) -> dict[str, Figure]:
    """The figures by their file names; no curves where no training was logged."""
    (scores, truths), classes = calibration.arrays(test.predictions), test.file.classes
    drawn = {
        'confusion': plots.confusion(confusion_matrix(truths, test.labels, len(classes)), classes),
        'per_class': plots.per_class(test.results['classes']),
        'coverage': plots.coverage(calibration.coverage_curve(scores, truths)),
        'reliability': plots.reliability(calibration.reliability_bins(scores, truths), 'Unscaled scores'),
    }
    if test.results['temperature_scaling']:
        scaled, _ = calibration.cross_fitted(scores, truths)
        drawn['reliability_scaled'] = plots.reliability(calibration.reliability_bins(scaled, truths), 'Scaled scores')
    if history := read_history(test.file.path.parent):
        drawn['curves'] = draw_curves(history, narrow=True)
    return drawn


def render(test: Evaluation, drawn: dict[str, Figure]) -> str:
    """The page as text."""
    wrong, right = _cards(test)
    cards = {card['id']: card for card in wrong}
    matrix = confusion_matrix(test.truths, test.labels, len(test.file.classes))
    shown = examples(test.dataset, test.changed) if test.changed else []
    surest = sorted(test.others, key=lambda other: -max(other.scores))[:MISCALLED]
    return render_template(
        TEMPLATE,
        scaling_fault=calibration.scaling_fault,
        test=test,
        classes=test.file.classes,
        warning=results_warning(test.results),
        name=test.file.path.resolve().parent.name,
        results=test.results,
        bins=calibration.BINS,
        matrix=matrix.tolist(),
        shares=row_normalised(matrix).tolist(),
        pairs=[
            (pair, [cards[i] for i in pair.photos if 'thumb' in cards[i]][:PAIR_PHOTOS])
            for pair in confused_pairs(test.truths, test.labels)
        ],
        shown_pairs=PAIRS,
        wrong=wrong,
        right=right,
        lowest=_lowest(test.results['classes']),
        figures={
            name: Markup(plots.as_inline_svg(drawn[name], text))
            for name, text in DESCRIPTIONS.items()
            if name in drawn
        },
        examples=[(data_address(resized(example.picture, PHOTO)), example) for example in shown],
        miscalled=[
            (thumbnail(Path(other.path), PHOTO), os.path.relpath(other.path, test.results['ood']['folder']), other)
            for other in surest
        ],
        sure=SURE,
        data=_data(test),
        settings=settings_table(test.file.settings),
        config=config_text(test.file.meta),
        versions={**{tool.__name__: str(tool.__version__) for tool in TOOLS}, 'Python': platform.python_version()},
        trained_with=test.file.meta.get('versions') or {},
    )


def _cards(test: Evaluation) -> tuple[list[dict], dict[str, list[dict]]]:
    """Cards of the misclassified images, most confident first, and of two groups of correct ones."""
    labels, truths = test.labels, test.truths
    order = sorted(range(len(labels)), key=lambda i: -max(test.predictions[i].scores))
    wrong = [i for i in order if labels[i] != truths[i]]
    right = [i for i in order if labels[i] == truths[i]]
    groups = {'Least confident': right[CONTRAST:][-CONTRAST:][::-1], 'Most confident': right[:CONTRAST]}
    shown = [*wrong[:MAX_PICTURES], *groups['Least confident'], *groups['Most confident']]
    cards = {i: _card(test, i) for i in (*wrong, *shown)}
    wanted = {i: tuple(dict.fromkeys((labels[i], truths[i]))) for i in shown}
    for explained in explain(test.model, test.dataset, wanted):
        cards[explained.index] |= _pictures(explained, test.file.classes)
    return [cards[i] for i in wrong], {title: [cards[i] for i in group] for title, group in groups.items() if group}


def _card(test: Evaluation, i: int) -> dict[str, Any]:
    prediction = test.predictions[i]
    order = sorted(range(len(prediction.scores)), key=lambda label: -prediction.scores[label])
    highest = [label for label in order[:SCORES] if prediction.scores[label] >= MIN_SCORE]
    shown = [label for label in order if label in (*highest, prediction.label, prediction.truth)]
    path = Path(prediction.path)
    return {
        'id': i,
        'path': (path.relative_to(test.data_root) if path.is_relative_to(test.data_root) else path).as_posix(),
        'truth': prediction.truth,
        'label': prediction.label,
        'scores': [(label, prediction.scores[label]) for label in shown],
    }


def _pictures(explained: Explained, classes: Sequence[str]) -> dict[str, Any]:
    picture, maps = explained.picture, explained.maps or {}
    return {
        'picture': data_address(resized(picture, PHOTO)),
        'thumb': data_address(resized(picture, THUMB)),
        'heat': [
            (classes[label], data_address(heat(picture, cam, HEAT)) if cam.any() else None)
            for label, cam in maps.items()
        ],
    }


def _lowest(classes: Mapping[str, Any]) -> float:
    """The start of the axis of the classes' intervals, in percent: a multiple of ten below all of them."""
    intervals = [found[key]['wilson95'] for found in classes.values() for key in ('recall', 'precision')]
    return min(90, 10 * (min(interval[0] for interval in intervals if interval) // 10))


def _data(test: Evaluation) -> dict[str, Any]:
    """Images per class and subset, and facts from the manifest; an unreadable train.txt is left out."""
    tested = Path(str(test.results.get('tested') or 'val.txt')).stem
    found: dict[str, list[int]] = {}
    if tested != 'train':
        with suppress(InputError):  # not needed for a test
            found['train'] = [item.label for item in read_samples(test.data_root / 'train.txt', test.file.classes)]
    found[tested] = test.truths
    subsets = {name: [labels.count(i) for i in range(len(test.file.classes))] for name, labels in found.items()}
    manifest = read_manifest(test.data_root) or {}
    facts = {'Split seed': manifest.get('seed'), 'Train ratio': manifest.get('ratio')}
    if 'left_out' in manifest:
        facts['Left out'] = len(manifest['left_out'])
    most = max(map(sum, zip(*subsets.values(), strict=True)))
    return {'name': test.data_root.resolve().name, 'subsets': subsets, 'most': most, 'facts': facts}
