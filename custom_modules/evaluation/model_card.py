"""A model card: what is known of a model, as Markdown, for whoever is to use it. Nothing is measured here.

M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019: the headings that apply. model_card.md is its template.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, NamedTuple

from custom_modules import __version__
from custom_modules.datasets.manifest import read_manifest
from custom_modules.errors import InputError
from custom_modules.evaluation.results import ECE, results_warning
from custom_modules.evaluation.training_log import settings_table
from custom_modules.metrics.calibration import scaling_fault
from custom_modules.metrics.predictions import SURE, Proportion
from custom_modules.models.saved_config import config_text, parse_config, section
from custom_modules.models.weights_catalogue import LICENCES, WEIGHTS
from custom_modules.pages import render

LIBRARIES = 'torch', 'torchvision', 'mmpretrain', 'mmengine', 'mmcv-lite', 'numpy', 'onnxruntime'
TEMPLATE = Path(__file__).with_name('model_card.md')


class PublishedFile(NamedTuple):
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
    files: Sequence[PublishedFile] = (),
) -> str:
    """The card of a loaded checkpoint, with what is found on this machine: :func:`model_card`.

    Raises:
        InputError: The checkpoint names no classes, or its meta holds more than plain values.
    """
    from custom_modules.models.checkpoints import weights_digest
    from custom_modules.models.publishing import count_parameters, describe

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
    files: Sequence[PublishedFile] = (),
) -> str:
    """The card as Markdown; what is not known is said to be so.

    Args:
        name: What the model is called: its file.
        meta: Of its checkpoint, as :func:`custom_modules.models.publishing.describe` gives it.
        weights: Its :func:`custom_modules.models.checkpoints.weights_digest`.
        parameters: How many numbers were, or could be, trained.
        results: ``metrics.json`` of a test of these weights; None without one.
        manifest: That of the dataset it was trained on, where it is at hand.
        libraries: Of :func:`library_licences`.
        files: What the model is handed on as.
    """
    settings = parse_config(config_text(dict(meta)) or '')
    recipe = dict(settings_table(settings))
    backbone = recipe.pop('Backbone', '')
    for key in ('Pretrained', 'Seed'):  # said under the model's details
        recipe.pop(key, None)
    run = str(meta.get('run') or '')
    reached = None
    if meta.get('metric') == 'accuracy/top1' and 'value' in meta and meta.get('photos'):
        reached = Proportion(round(meta['value'] * meta['photos'] / 100), meta['photos'])
    pretrained = Path(str(meta.get('pretrained')).partition(',')[0]).name
    return render(
        TEMPLATE,
        scaling_fault=scaling_fault,
        title=name if run in name else f'{run}, {name}',
        version=__version__,
        meta=meta,
        settings=settings,
        backbone=backbone,
        recipe=recipe,
        epochs=section(settings, 'train_cfg').get('max_epochs'),
        data_root=Path(str(section(section(settings, 'train_dataloader'), 'dataset').get('data_root') or '')).name,
        weights=weights,
        parameters=parameters,
        results=results,
        warning=results_warning({'trained_on': meta.get('dataset_digest'), **(results or {})}),
        reached=reached,
        manifest=manifest,
        libraries=libraries or {},
        files=files,
        pretrained_licence=LICENCES if pretrained in {known.file for known in WEIGHTS.values()} else 'not known',
        ece=ECE,
        sure=SURE,
    )
