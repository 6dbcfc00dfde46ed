"""A model card in Markdown: what is known of a model, under the headings of Mitchell et al. that apply.

M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019. The template is model_card.md.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from custom_modules import __version__
from custom_modules.datasets.manifest import read_manifest
from custom_modules.errors import InputError
from custom_modules.evaluation.results import ECE, results_warning
from custom_modules.evaluation.training_log import dataset_settings, settings_table
from custom_modules.metrics.calibration import scaling_fault
from custom_modules.metrics.predictions import SURE, Proportion
from custom_modules.models.model_file import ModelFile
from custom_modules.models.publishing import count_parameters, describe
from custom_modules.models.saved_config import section
from custom_modules.models.weights_catalogue import LICENCES, WEIGHTS
from custom_modules.pages import render

FORKS = 'onedl-mmpretrain', 'onedl-mmengine', 'onedl-mmcv'
LIBRARIES = 'torch', 'torchvision', 'mmpretrain', 'mmengine', 'mmcv-lite', *FORKS, 'numpy', 'onnxruntime'
TEMPLATE = Path(__file__).with_name('model_card.md')


def card_path(model: Path) -> Path:
    """The path of a model file's card, beside it."""
    return model.with_name(f'{model.name}.MODEL_CARD.md')


def find_manifest(model: ModelFile, data_root: Path | None = None) -> dict[str, Any] | None:
    """The manifest with the digest of the training's dataset, in ``data_root`` or the folder in the saved config."""
    trained_on, digest = dataset_settings(model.settings, 'train_dataloader'), describe(model).get('dataset_digest')
    for root in filter(None, (data_root, trained_on.get('data_root'))):
        with suppress(InputError):  # a changed one has another digest
            manifest = read_manifest(Path(str(root)))
            if manifest and manifest['digest'] == digest:
                return manifest
    return None


def library_licences() -> dict[str, str]:
    """The licence that each installed main library states, by its name and version."""
    found = {}
    for name in LIBRARIES:
        try:
            about = metadata(name)
        except PackageNotFoundError:
            continue
        kinds = about.get_all('Classifier') or ()
        classified = [value.rpartition(' :: ')[2] for value in kinds if value.startswith('License ::')]
        expression, text = ((about.get_all(key) or [''])[0] for key in ('License-Expression', 'License'))
        stated = expression or ', '.join(classified) or ('see its LICENSE file' if '\n' in text else text)
        found[f'{name} {about["Version"]}'] = stated or 'not stated'
    return found


def model_card(
    name: str,
    model: ModelFile,
    results: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
    files: Sequence[tuple[str, bytes, str]] = (),
) -> str:
    """The card of the file ``name`` as Markdown; unknown values are called so.

    ``results`` is the ``metrics.json`` of a test of these weights, ``files`` the name, content and a remark of each
    file of the model. A meta that holds more than plain values is an InputError.
    """
    meta, settings = describe(model), model.settings
    recipe = dict(settings_table(settings))
    backbone, *_ = [recipe.pop(key, '') for key in ('Backbone', 'Pretrained', 'Seed')]  # in the model's details
    run = str(meta.get('run') or '')
    images = meta.get('photos') if meta.get('metric') == 'accuracy/top1' and 'value' in meta else None
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
        data_root=Path(str(dataset_settings(settings, 'train_dataloader').get('data_root') or '')).name,
        weights=model.digest,
        parameters=count_parameters(model.weights),
        results=results,
        warning=results_warning({'trained_on': meta.get('dataset_digest'), **(results or {})}),
        reached=Proportion(round(meta['value'] * images / 100), images) if images else None,
        manifest=manifest,
        libraries=library_licences(),
        files=[(path, len(content), sha256(content).hexdigest(), remark) for path, content, remark in files],
        pretrained_licence=LICENCES if pretrained in {f'{name}.pth' for name in WEIGHTS} else 'not known',
        ece=ECE,
        sure=SURE,
    )
