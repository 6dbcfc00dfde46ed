"""A model card: what is known of a model, as Markdown, for whoever is to use it. Nothing is measured here.

M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019: the headings that apply.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, NamedTuple

from custom_modules import __version__
from custom_modules.datasets.annotation import SIDES
from custom_modules.datasets.manifest import read_manifest
from custom_modules.datasets.raw_folders import printable
from custom_modules.engine.weights_catalogue import LICENCES, WEIGHTS
from custom_modules.errors import InputError
from custom_modules.evaluation.predictions import SURE, Proportion
from custom_modules.evaluation.results import ECE
from custom_modules.evaluation.training_log import config_text, parse_config, section, settings_table

LIBRARIES = 'torch', 'torchvision', 'mmpretrain', 'mmengine', 'mmcv-lite', 'numpy', 'onnxruntime'
UNKNOWN = 'not known'
_COMMAND = 'python tools/test.py CONFIG CHECKPOINT'


class ModelFile(NamedTuple):
    """A file of the model: its name, its size in bytes, its sha256 in hex, and what there is to say of it."""

    name: str
    size: int
    sha256: str
    remark: str = ''


def card_path(model: Path) -> Path:
    """Where the card of a model's file lies: beside it; ``best.pth`` and ``best.onnx`` each have theirs."""
    return model.with_name(f'{model.name}.MODEL_CARD.md')


def find_manifest(meta: Mapping[str, Any], data_root: Path | None = None) -> dict[str, Any] | None:
    """The manifest of the dataset that a model was trained on, by its digest; None where it is not at hand.

    Args:
        meta: Of the checkpoint.
        data_root: A dataset that may be it, beside the one in the folder that the checkpoint's config names.
    """
    loader = section(parse_config(config_text(dict(meta)) or ''), 'train_dataloader')
    for root in filter(None, (data_root, section(loader, 'dataset').get('data_root'))):
        try:
            manifest = read_manifest(Path(str(root)))
        except InputError:  # one that was changed is not the one with that digest
            continue
        if manifest and manifest['digest'] == meta.get('dataset_digest'):
            return manifest
    return None


def library_licences() -> dict[str, str]:
    """Name and version of the main libraries that are installed, and the licence that they state."""
    found = {}
    for name in LIBRARIES:
        try:
            about = metadata(name)
        except PackageNotFoundError:
            continue
        classified = [
            value.rpartition(' :: ')[2]
            for value in about.get_all('Classifier') or ()
            if value.startswith('License ::')
        ]
        expression, text = ((about.get_all(key) or [''])[0] for key in ('License-Expression', 'License'))
        stated = expression or ', '.join(classified) or text.partition('\n')[0]
        found[f'{name} {about["Version"]}'] = stated or 'not stated'
    return found


def card_of(
    name: str,
    checkpoint: dict,
    results: Mapping[str, Any] | None,
    data_root: Path | None = None,
    files: Sequence[ModelFile] = (),
) -> str:
    """The card of a loaded checkpoint, with what is found on this machine: :func:`model_card`.

    Raises:
        InputError: The checkpoint names no classes, or its meta holds more than plain values.
    """
    from custom_modules.engine.checkpoints import weights_digest
    from custom_modules.engine.publishing import count_parameters, describe

    meta, state = describe(checkpoint, name), checkpoint['state_dict']
    return model_card(
        name,
        meta,
        weights_digest(state),
        count_parameters(state),
        results,
        find_manifest(meta, data_root),
        library_licences(),
        files,
    )


def model_card(
    name: str,
    meta: Mapping[str, Any],
    weights: str,
    parameters: int,
    results: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
    libraries: Mapping[str, str] | None = None,
    files: Sequence[ModelFile] = (),
) -> str:
    """The card as Markdown; what is not known is said to be so.

    Args:
        name: What the model is called: its file.
        meta: Of its checkpoint, as :func:`custom_modules.engine.publishing.describe` gives it.
        weights: Its :func:`custom_modules.engine.checkpoints.weights_digest`.
        parameters: How many numbers were, or could be, trained.
        results: ``metrics.json`` of a test of these weights; None without one.
        manifest: That of the dataset it was trained on, where it is at hand.
        libraries: Of :func:`library_licences`.
        files: What the model is handed on as.
    """
    settings = parse_config(config_text(dict(meta)) or '')
    recipe = dict(settings_table(settings))
    classes = ', '.join(map(_text, meta['classes']))
    backbone = recipe.pop('Backbone', None)
    for key in ('Pretrained', 'Seed'):  # said under the model's details
        recipe.pop(key, None)
    run = str(meta.get('run') or '')
    title = name if run in name else f'{run}, {name}'
    kind = _text(backbone.partition('(')[0]) if backbone else 'A classifier'
    parts = [
        f'# Model card: {_text(title)}',
        f'{kind} that tells {len(meta["classes"])} classes of photos apart: {classes}. Written by the flower '
        f'classifier {__version__} from the checkpoint, its test and the manifest of its dataset, under the headings '
        'that apply of Mitchell et al. 2019, *Model Cards for Model Reporting*. What they do not say is called '
        f'*{UNKNOWN}*.',
        '## Model details',
        _details(meta, settings, backbone, weights, parameters),
        _files(files),
        '## Intended use',
        f'For photos that show one of {classes}. The answer is a score for each of them, and the scores add up to 1. '
        'One answer is given for a whole photo: nothing is located or counted in it.',
        'Not for decisions in which a wrong answer does harm, such as whether a plant can be eaten.',
        '## Training data',
        _training_data(meta, settings, manifest),
        '## Recipe',
        _table(('setting', 'value'), ((key, _code(value)) for key, value in recipe.items()))
        if recipe
        else f'The settings are {UNKNOWN}: the checkpoint carries no config that can be read.',
        '## Metrics',
        _metrics(meta, results),
        '## Calibration',
        _calibration(meta, results),
        '## Robustness',
        _robustness(results),
        '## Out of distribution',
        _ood(results),
        '## Limits',
        _limits(meta, results, manifest),
        '## Licences',
        _licences(meta, libraries or {}),
    ]
    return '\n\n'.join(filter(None, parts)) + '\n'


def _details(
    meta: Mapping[str, Any], settings: dict[str, Any], backbone: str | None, weights: str, parameters: int
) -> str:
    seeds = meta.get('seeds')
    most = section(settings, 'train_cfg').get('max_epochs')
    epoch = f'{meta.get("epoch", UNKNOWN)}{f" of at most {most}" if most else ""}'
    if seeds:
        epoch = f'the last of {len(seeds)} trainings{f", of at most {most} epochs each" if most else ""}; averaged'
    versions = meta.get('versions') or {}
    rows = {
        'Architecture': _code(backbone) if backbone else UNKNOWN,
        'Parameters': f'{parameters:,}',
        'Classes, in the order of the scores': ', '.join(map(_text, meta['classes'])),
        'Run': (_code(meta['run']) if meta.get('run') else UNKNOWN) + (' and its other seeds' if seeds else ''),
        'Epoch': epoch,
        'Seeds' if seeds else 'Seed': ', '.join(map(str, seeds)) if seeds else meta.get('seed', UNKNOWN),
        'Pretrained weights': _pretrained(meta, settings),
        'Trained with': ', '.join(_text(f'{key} {value}') for key, value in versions.items()) or UNKNOWN,
        'sha256 of the weights': _code(weights),
    }
    return _table(('what', 'value'), rows.items())


def _pretrained(meta: Mapping[str, Any], settings: dict[str, Any]) -> str:
    if meta.get('pretrained'):
        return _text(meta['pretrained'])
    # A config that a training has saved says what was found, None where that was nothing.
    scratch = 'pretrained' in settings and not settings.get('load_from')
    return 'none: trained from scratch' if scratch else UNKNOWN


def _files(files: Sequence[ModelFile]) -> str:
    if not files:
        return ''
    rows = ((_code(file.name), f'{file.size / 1e6:.1f} MB', _code(file.sha256), _text(file.remark)) for file in files)
    return _table(('file', 'size', 'sha256', 'remark'), rows)


def _training_data(meta: Mapping[str, Any], settings: dict[str, Any], manifest: Mapping[str, Any] | None) -> str:
    digest = meta.get('dataset_digest')
    root = section(section(settings, 'train_dataloader'), 'dataset').get('data_root')
    folder = _code(Path(str(root)).name) if root else f'folder {UNKNOWN}'
    told = f'Dataset {folder}, whose manifest has the digest {_code(digest) if digest else UNKNOWN}.'
    if manifest is None:
        return f'{told} How many photos of each class: {UNKNOWN}, for that manifest was not at hand.'
    compared = any('phash' in entry for entry in manifest['files'].values())
    told += (
        f' Split by seed {manifest["seed"]}, {100 * manifest["ratio"]:g} % of each class to train; '
        f'{len(manifest["left_out"])} files were left out. '
        + (
            f'The photos were compared: {len(manifest["groups"])} groups of near-duplicates each stand on one side.'
            if compared
            else 'The photos were not compared, so look-alikes can stand on both sides.'
        )
    )
    counts = [manifest['counts'][side] for side in SIDES]
    rows = [(_text(name), *(count[name] for count in counts)) for name in manifest['classes']]
    total = ('all', *(sum(count.values()) for count in counts))
    return f'{told}\n\n{_table(("class", *SIDES), [*rows, total])}'


def _metrics(meta: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    if results is None:
        told = f'Not tested, or its results are not beside it; `{_COMMAND}`, and write this card anew.'
        if meta.get('metric') == 'accuracy/top1' and meta.get('photos'):
            reached = Proportion(round(meta['value'] * meta['photos'] / 100), meta['photos'])
            told += (
                f' In its training, it reached a top-1 accuracy of {reached} on the validation photos, by which its '
                'epoch was chosen: on others it is likely to be lower.'
            )
        return told
    dataset, trained_on = results.get('dataset'), meta.get('dataset_digest')
    where = {
        True: 'the dataset above',
        False: f'a dataset with the digest {_code(dataset) if dataset else UNKNOWN}',
    }[bool(dataset) and dataset == trained_on]
    tta = ', the scores of each photo averaged with those of its mirror image' if results.get('tta') else ''
    rows = [
        ('top-1 accuracy', _share(results['accuracy/top1'])),
        ('top-1 error', _share(results['error/top1'])),
        *([('mean NLL', f'{results["nll/mean"]:.4f}')] if 'nll/mean' in results else []),
    ]
    per_class = [
        (_text(name), _share(found['recall']), _share(found['precision']), f'{found["f1"]:.2f} %')
        for name, found in results['classes'].items()
    ]
    return '\n\n'.join(
        (
            f'Tested on {_code(results.get("tested") or UNKNOWN)} of {where}{tta}. In brackets: the photos counted, '
            'and a 95 % interval (Wilson).',
            _table(('measure', 'value'), rows),
            _table(('class', 'recall', 'precision', 'F1'), per_class),
            _chosen(meta, dataset is not None and dataset == trained_on),
        )
    )


def _chosen(meta: Mapping[str, Any], same_dataset: bool) -> str:
    """By what the epoch was chosen, and what that means for the figures."""
    if meta.get('seeds'):
        return 'No epoch was chosen by these figures: the weights are averages of last epochs.'
    if not meta.get('metric'):
        return (
            f'Whether the epoch was chosen by these photos is {UNKNOWN}; it is an epoch of the run, not its best.pth.'
        )
    chosen = f'Epoch {meta.get("epoch", UNKNOWN)} was chosen for its {_code(meta["metric"])} on the validation photos'
    if same_dataset:
        return f'{chosen} of this dataset: on the same photos these figures are somewhat too high.'
    return f'{chosen} of its training.'


def _calibration(meta: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    if results is None:
        carried = meta.get('temperature')
        told = f' The weights carry the temperature {carried:.3f}, from a test of them.' if carried else ''
        return f'{_untested()}{told}'
    scaling = results.get('temperature_scaling')
    if not scaling:
        return f'ECE {100 * results[ECE]:.2f} %; too few photos for temperature scaling.'
    rows = []
    for when, found in (('as they are', scaling['before']), ('after temperature scaling', scaling['after'])):
        ece, low, high, chance = (100 * e for e in (found['ece'], *found['ece_interval95'], found['ece_by_chance']))
        rows.append((when, f'{ece:.2f} % ({low:.2f}–{high:.2f})', f'{chance:.2f} %', f'{found["nll"]:.4f}'))
    advice = (
        f'Divided by the temperature {scaling["temperature"]:.3f}, fitted on all of these photos, the logits of other '
        'photos give scores like the scaled ones; the model itself does not divide them.'
        if scaling['after']['nll'] < scaling['before']['nll']
        else f'The temperature, {scaling["temperature"]:.3f}, does not lower the NLL: leave the scores as they are.'
    )
    return '\n\n'.join(
        (
            'How far scores can be believed. Each photo is scaled by a temperature that was fitted on others. Of so '
            'few photos, perfect scores would show the ECE in the third column, by chance alone.',
            _table(('scores', 'ECE (95 % interval)', 'by chance alone', 'mean NLL'), rows),
            advice,
        )
    )


def _robustness(results: Mapping[str, Any] | None) -> str:
    tested = (results or {}).get('robustness')
    if not tested:
        return _untested('--robustness')
    rows = [
        (
            _text(found['condition']),
            _share(found['accuracy/top1']),
            f'{found["lost"]:.2f}' if i else '',
            f'{found["calibration"]["nll"]:.4f}',
            found['sure_but_wrong']['k'],
        )
        for i, found in enumerate(tested['conditions'])
    ]
    lines = [f'- {_text(line)}' for line in tested['collapses']]
    table = _table(('the same photos', 'top-1', 'points lost', 'mean NLL', f'wrong with a score ≥ {SURE}'), rows)
    return '\n\n'.join(filter(None, (table, '\n'.join(lines))))


def _ood(results: Mapping[str, Any] | None) -> str:
    """What the model makes of photos that show something else."""
    found = (results or {}).get('ood')
    if not found:
        return _untested('--ood DIR')
    threshold = found['threshold']
    scaled = ', after temperature scaling' if threshold['calibrated'] else ''
    rows = [
        (f'{threshold["min_score"]}{scaled}', _share(threshold['kept']), _share(threshold['called'])),
        (f'{found["score_at_95_tpr"]:.4f}', 'at least 95 %', _share(found['fpr_at_95_tpr'])),
    ]
    if scaled:
        rows.append((f'{SURE}', '–', _share(found[f'called_at_{SURE}'])))
    return '\n\n'.join(
        (
            f'{found["photos"]} photos of {_code(Path(found["folder"]).name)}, which show something else. AUROC of '
            f'the score of the predicted class: {found["auroc"]:.3f} (1: it tells them from test photos, 0.5: not).',
            _table(('score at least', 'test photos kept', 'others called one of the classes'), rows),
        )
    )


def _limits(meta: Mapping[str, Any], results: Mapping[str, Any] | None, manifest: Mapping[str, Any] | None) -> str:
    classes = ', '.join(map(_text, meta['classes']))
    lines = [f'It knows {classes}, and nothing else: whatever a photo shows, it is called one of these.']
    if manifest:
        train = manifest['counts'][SIDES[0]]
        least = min(train, key=train.__getitem__)
        lines.append(
            f'It was trained on {sum(train.values())} photos, {train[least]} of {_text(least)}. Kinds, places and '
            'cameras that are not among them may be answered worse than the figures say.'
        )
    if results:
        least = min(results['classes'], key=lambda name: results['classes'][name]['recall']['n'])
        lines.append(
            f'It was tested on {results["accuracy/top1"]["n"]} photos, '
            f'{results["classes"][least]["recall"]["n"]} of {_text(least)}: the intervals say how little that is.'
        )
        trained_on, tested_on = meta.get('dataset_digest'), results.get('dataset')
        if trained_on and tested_on and trained_on != tested_on:
            lines.append(
                'It was trained on another split than it was tested on: some of the photos may have been trained on, '
                'and the figures mean nothing if so.'
            )
    return '\n'.join(f'- {line}' for line in lines)


def _licences(meta: Mapping[str, Any], libraries: Mapping[str, str]) -> str:
    pretrained = str(meta.get('pretrained') or '')
    known = Path(pretrained.partition(',')[0]).name in {weights.file for weights in WEIGHTS.values()}
    rows = [
        ('these weights', 'not stated: they who hand them on decide, within what follows'),
        ('the photos', UNKNOWN),
        *([(_text(pretrained), LICENCES if known else UNKNOWN)] if pretrained else []),
        (f'flower classifier {__version__}', 'Apache-2.0'),
        *((_text(name), _text(licence)) for name, licence in libraries.items()),
    ]
    return _table(('of', 'licence'), rows)


def _untested(flag: str = '') -> str:
    return f'Not tested; `{f"{_COMMAND} {flag}".strip()}`.'


def _share(share: Mapping[str, Any]) -> str:
    """``96.50 % (441/457, 94.39–97.83)``."""
    found = Proportion(share['k'], share['n'])
    if found.interval is None:
        return '– (0/0)'
    low, high = found.interval
    return f'{found.percent:.2f} % ({found.k}/{found.n}, {low:.2f}–{high:.2f})'


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, cells))} |' for cells in lines)


def _text(value: Any) -> str:
    """Shown as it is: what means something to Markdown or HTML becomes a character reference."""
    return re.sub(r'[\\`*\[\]<>&|~]|(?<!\w)_|_(?!\w)', lambda found: f'&#{ord(found[0])};', printable(str(value)))


def _code(value: Any) -> str:
    """As code, where the characters in it allow that."""
    text = printable(str(value))
    return _text(text) if not text or set('`|') & set(text) else f'`{text}`'
