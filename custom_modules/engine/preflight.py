"""Checks before a training or a test: mistakes in a config, its datasets and its weights, each found by name.

To add a check, write a function that yields findings and list it in one of the tables, under the setting that it is
about: ``CONFIG_CHECKS`` (nothing is read yet), ``TRAIN_CHECKS`` or ``TEST_CHECKS`` (datasets and checkpoint are read),
``RUNNER_CHECKS`` in ``hooks/preflight_hook.py`` (the model is built).
"""

import functools
import inspect
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.datasets.annotation import SPLIT_NAMES
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.errors import InputError, as_configured
from custom_modules.files import sha256_of
from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint, saved_classes

if TYPE_CHECKING:
    from custom_modules.engine.run import Run

MIN_LOADED = 0.95  # share of the backbone's keys that pretrained weights must cover
LEAKED = 0.02  # share of the validation images also in train, from which on the split is an error
# Keys that hold paths, and placeholders that people leave in them.
PATH_KEYS = {'data_root', 'ann_file', 'data_prefix', 'img_path', 'checkpoint', 'load_from', 'work_dir', 'pretrained'}
PLACEHOLDER = re.compile(r'path[/\\_-]to\b|<[^>]*>|\bx{3,}\b|\byour[_ -]?\w+', re.IGNORECASE)
HOME = re.compile(r'/home/[^/]+|/Users/[^/]+|[A-Za-z]:[\\/]')
# Random transforms that neither their name nor a parameter called ``prob`` reveals.
RANDOM = {'ColorJitter', 'Lighting', 'AutoAugment', 'RandAugment', 'AugMix', 'TrivialAugmentWide', 'Albumentations'}
SCALE_TO_1 = {'ToTensor', 'ConvertImageDtype', 'ToDtype'}  # give pixels of 0 to 1


class Finding(NamedTuple):
    """One line on a mistake; an ``'error'`` stops the run, a ``'warning'`` does not."""

    level: str
    text: str


error = functools.partial(Finding, 'error')
warning = functools.partial(Finding, 'warning')


@contextmanager
def errors_added(findings: list[Finding]) -> Iterator[None]:
    """Adds the problems of an :class:`InputError` in its block to ``findings``."""
    try:
        yield
    except InputError as problems:
        findings += map(error, problems.problems)


def findings_of(checks: Mapping[str, Callable[..., Iterable[Finding]]], *arguments: Any) -> list[Finding]:
    """Runs checks and collects their findings; what a check raises is an error under the name of its setting."""
    found: list[Finding] = []
    for setting, check in checks.items():
        with errors_added(found), as_configured(setting):
            found += check(*arguments)
    return found


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raises one :class:`InputError` with all errors among the findings."""
    if errors := dict.fromkeys(text for level, text in findings if level == 'error'):
        raise InputError(*errors)


def class_names(dataset: Any) -> list[str]:
    """The class names that a dataset gives, in label order; empty without any."""
    return [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()]


def check_paths(cfg: Config, loaders: list[str]) -> Iterator[Finding]:
    """Paths that are placeholders, or that are on another person's machine."""
    read = ('model.', *(f'{name}_dataloader.' for name in loaders), 'load_from', 'work_dir')
    for key, value in _texts(cfg._cfg_dict, ''):
        if key.rpartition('.')[2] not in PATH_KEYS or not key.startswith(read) or os.path.exists(value):
            continue
        if PLACEHOLDER.search(value):
            yield error(f'{key}: {value!r} is a placeholder; write the real path, relative to this folder')
        elif (home := HOME.match(value)) and not os.path.exists(home[0]):
            yield error(f"{key}: {value!r} is on somebody else's machine; write a path relative to this folder")


def _texts(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Each text in nested dicts and lists, with its dotted key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        if isinstance(value, str):
            yield f'{prefix}{key}', value
        else:
            yield from _texts(value, f'{prefix}{key}.')


def check_loaders(cfg: Config, loaders: list[str]) -> Iterator[Finding]:
    """Loaders that are missing or give no batches, and folders that are not prepared datasets."""
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            hint = '; --no-validate trains without one' if name == 'val' else ''
            yield error(f'{name}_dataloader: the config has none{hint}')
            continue
        if loader.get('batch_size', 1) is None:
            yield error(f'{name}_dataloader.batch_size: is None, which gives no batches; give a number')
        root = Path(loader.dataset.get('data_root') or '')
        if loader.dataset.get('type') == 'FlowerDataset' and not (root / 'classes.txt').is_file():
            yield error(f'{root}: {_how_to_prepare(root)}')


def _how_to_prepare(root: Path) -> str:
    """The command that makes a prepared dataset of ``root``, which has no classes.txt."""
    if not root.is_dir():
        return f'no such folder; prepare it with: python tools/split_dataset.py RAW_PHOTOS {root}'
    if (root / 'train').is_dir() and (root / 'val').is_dir():
        return f'no classes.txt yet; write it with: python tools/generate_metadata.py {root}'
    return f'no prepared dataset; split raw photos with: python tools/split_dataset.py {root} data/flowers'


CONFIG_CHECKS = {'paths': check_paths, 'dataloaders': check_loaders}


def check_classes(run: 'Run') -> Iterator[Finding]:
    """Classes that are the folders of a split, that have no images, or that the config counts differently."""
    counts = {
        'model.head.num_classes': run.model.get('head', {}).get('num_classes'),
        'data_preprocessor.num_classes': (run.cfg.get('data_preprocessor') or {}).get('num_classes'),
    }
    for name, dataset in run.datasets.items():
        key, classes = f'{name}_dataloader.dataset', class_names(dataset)
        if split := ', '.join(found for found in classes if found.lower() in SPLIT_NAMES):
            yield error(f"{key}: its classes are {split}: the folders of a split; take type='FlowerDataset'")
            continue
        for setting, count in counts.items():
            if (n := len(classes)) and count not in (None, n):
                names = ', '.join(classes[:5]) + ', …' * (n > 5)
                add = f'add: --cfg-options {setting}={n}'
                yield error(f'the dataset has {n} classes ({names}), but {setting} is {count}; {add}')
        if name == 'train' and hasattr(dataset, 'get_gt_labels'):
            labels = set(dataset.get_gt_labels().tolist())
            if missing := ', '.join(found for label, found in enumerate(classes) if label not in labels):
                yield warning(f'{key}: no photo of {missing} to learn from; look at its ann_file and indices')


def check_leaks(run: 'Run') -> Iterator[Finding]:
    """Validation images that are among the training images, by name in a prepared dataset, or by content."""
    datasets = [run.datasets.get(name) for name in ('train', 'val')]
    train, val = map(_image_paths, datasets)
    if train and len(val) > len(train):
        yield warning(f'val_dataloader: {len(val)} photos, but only {len(train)} to train on; check the split')
    names = {_class_and_name(path) for path in train}
    prepared = all(type(dataset).__name__ == 'FlowerDataset' for dataset in datasets)
    same_name = [path for path in val if _class_and_name(path) in names] if prepared else []
    if both := same_name or same_content(train, val):
        level = error if same_name or len(both) >= LEAKED * len(val) else warning
        yield level(
            f'val_dataloader: {len(both)} of its {len(val)} photos are also in train (e.g. {both[0]}); split the raw '
            'photos again: python tools/split_dataset.py PHOTOS NEW_FOLDER'
        )


def _class_and_name(path: str) -> tuple[str, ...]:
    return Path(path).parts[-2:]


def _image_paths(dataset: Any) -> list[str]:
    """The image files of a dataset that names them."""
    try:
        return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    except (AttributeError, KeyError, TypeError):
        return []


def same_content(train: list[str], val: list[str]) -> list[str]:
    """The paths in ``val`` of files with the bytes of a file in ``train``; only files of the same size are read."""

    @functools.cache
    def digest(path: str) -> str:
        return sha256_of(Path(path))

    sizes = defaultdict(list)
    for path in filter(os.path.isfile, train):
        sizes[os.path.getsize(path)].append(path)
    twins = {path: sizes[os.path.getsize(path)] for path in filter(os.path.isfile, val)}
    return [path for path, same_size in twins.items() if same_size and digest(path) in set(map(digest, same_size))]


def check_pipelines(run: 'Run') -> Iterator[Finding]:
    """Random transforms in the pipelines of validation and test."""
    for name in ('val', 'test'):
        for key, step in _steps(run.cfg, name):
            if is_random(step):
                yield error(f'{key}: {step["type"]} changes photos at random; augment in train_dataloader alone')


def _steps(cfg: Config, loader: str) -> Iterator[tuple[str, dict]]:
    """Each transform of a loader's pipeline with its dotted key, those within others too."""
    dataset = (cfg.get(f'{loader}_dataloader') or {}).get('dataset') or {}
    pending: list[tuple[str, Any]] = [(f'{loader}_dataloader.dataset.pipeline', dataset.get('pipeline') or [])]
    while pending:
        key, node = pending.pop()
        if isinstance(node, list | tuple):
            pending += [(f'{key}.{index}', step) for index, step in reversed(list(enumerate(node)))]
        elif isinstance(node, dict):
            yield key, node
            pending.append((f'{key}.transforms', node.get('transforms')))


def is_random(step: dict) -> bool:
    """Whether a transform, as configured, gives a different result each time."""
    kind = step.get('type')
    if not isinstance(kind, str):
        return False
    name = re.split(r'[./]', kind)[-1]
    prob = step.get('prob', step.get('p'))
    if name == 'RandomFlip':  # with certainty, or never: how a test averages mirror images
        return prob not in (0, 1)
    transform = TRANSFORMS.get(kind)
    takes_prob = transform is not None and 'prob' in inspect.signature(transform).parameters
    return prob != 0 and ('Random' in name or name in RANDOM or takes_prob)


def check_topk(run: 'Run') -> Iterator[Finding]:
    """Top-k accuracies of so few classes that they are always 100 %."""
    classes = len(run.classes) or run.model.get('head', {}).get('num_classes')
    evaluator = run.cfg.get('val_evaluator') or []
    parts = {'model.head': run.model.get('head'), 'val_evaluator': evaluator}
    parts |= {f'val_evaluator.{index}': metric for index, metric in enumerate(evaluator)}
    for key, part in parts.items():
        topk = part.get('topk') if isinstance(part, dict) else None
        largest = max(topk) if isinstance(topk, list | tuple) and topk else topk
        if largest and classes and largest >= classes:
            add = f'add: --cfg-options "{key}.topk=(1,)"'
            yield error(f'{key}.topk: top-{largest} of {classes} classes is always 100 %; {add}')


def check_preprocessor(run: 'Run') -> Iterator[Finding]:
    """Mean, standard deviation and channel order that do not fit the pixels that the pipeline gives."""
    inside = run.model.get('data_preprocessor')
    key = 'model.data_preprocessor' if inside else 'data_preprocessor'
    values = inside or run.cfg.get('data_preprocessor') or {}
    mean, std = (list(values.get(name) or []) for name in ('mean', 'std'))
    if not mean or not std:
        return
    kinds = {re.split(r'[./]', str(step.get('type')))[-1] for _, step in _steps(run.cfg, 'train')}
    scaled, given = bool(kinds & SCALE_TO_1), f'{key}.mean, {key}.std: {mean}, {std}'
    if not scaled and 0 < max(mean) <= 1 and max(std) <= 1:
        yield error(f'{given} are for pixels of 0 to 1, but the pipeline gives 0 to 255; multiply both by 255')
    elif scaled and max(mean) > 1:
        yield error(f'{given} are for pixels of 0 to 255, but the pipeline scales them to 0 to 1; divide both by 255')
    if len(mean) == 3 and mean[0] > mean[2] and not values.get('to_rgb'):  # ImageNet's mean falls from red to blue
        yield warning(
            f'{key}.to_rgb: not set, but photos are loaded as BGR and the mean {mean} looks like RGB; set it'
        )
    elif len(mean) == 3 and mean[0] < mean[2] and values.get('to_rgb'):
        yield warning(f'{key}.mean: {mean} looks like BGR, but to_rgb turns photos to RGB; reverse mean and std')


def check_pretrained(run: 'Run') -> Iterator[Finding]:
    """Pretrained weights that are missing or do not fit the backbone; the line that describes them becomes a setting.

    ``cfg.pretrained`` appears in the table of settings, in ``best.pth`` and in test results.
    """
    backbone = run.model.get('backbone') or {}
    init = backbone.get('init_cfg')
    if not isinstance(init, dict) or init.get('type') != 'Pretrained':
        return
    name, prefix = init['checkpoint'], f'{init["prefix"].rstrip(".")}.' if init.get('prefix') else ''
    checkpoint = load_checkpoint(name)
    fitting, wanted = weights_fit('model.backbone', backbone, checkpoint, prefix)
    if fitting < MIN_LOADED * wanted:
        found = f'{fitting} of the {wanted} weights of the {backbone.get("type")} backbone'
        yield error(f'{name}: has {found}; import its weights: python tools/fetch_weights.py NAME --from FILE')
    note = (checkpoint.get('meta') or {}).get('note')
    run.cfg.pretrained = f'{name}, {fitting}/{wanted} of the backbone' + (f'; {note}' if note else '')


def check_checkpoint(run: 'Run') -> Iterator[Finding]:
    """A checkpoint that does not fit. A new run can take its backbone alone; a resume and a test need all of it."""
    checkpoint = run.checkpoint
    if checkpoint is None:
        return
    name = run.cfg.load_from or run.model.get('path')  # of an exported model
    resume, training = run.cfg.get('resume'), 'train' in run.datasets
    if resume and 'optimizer' not in checkpoint:  # mmpretrain #1970
        raise InputError(f'{name}: holds weights alone, no optimizer state; give an epoch_N.pth of that run')
    whole = resume or not training
    if run.cfg.load_from:
        yield from check_weights(run.model, checkpoint, name, whole)
    level = error if whole else warning
    trained = checkpoint_classes(checkpoint, name) if whole else saved_classes(checkpoint)
    if run.classes and trained and trained != run.classes:
        theirs, ours = ', '.join(trained), ', '.join(run.classes)
        yield level(f'{name} was trained for {theirs}; {run.data_root} has {ours}: names and order must be the same')
    if training and (other := _other_split(run, checkpoint)):
        yield level(f'{name} {other}, so it has learned validation photos; give the --data-root it was trained on')
    done, wanted = (checkpoint.get('meta') or {}).get('epoch', 0), run.cfg.get('train_cfg', {}).get('max_epochs')
    if resume and wanted is not None and done > wanted:
        add = f'add: --cfg-options train_cfg.max_epochs={done + 1}'
        yield error(f'{name}: has trained for {done} epochs, train_cfg.max_epochs is {wanted}; for more {add}')


def check_weights(model: ConfigDict, checkpoint: dict, name: str, whole: bool = True) -> Iterator[Finding]:
    """Weights in a checkpoint that are missing or of another shape: of the whole model, or of its backbone."""
    backbone = {key: value for key, value in model.backbone.items() if key != 'init_cfg'}
    if whole:
        fitting, wanted = weights_fit('model', {**model, 'backbone': backbone}, checkpoint)
    else:
        fitting, wanted = weights_fit('model.backbone', backbone, checkpoint, 'backbone.')
    if fitting < (1 if whole else MIN_LOADED) * wanted:
        part = f'{model.backbone.type} {"model" if whole else "backbone"}'
        found = f'{name}: has {fitting} of the {wanted} weights of the {part}'
        yield error(f'{found}; use the config that it was trained with')


def _other_split(run: 'Run', checkpoint: dict) -> str | None:
    """Says that a checkpoint was trained on another split than the run's; None where that is not known."""
    known = [checkpoint.get('meta') or {}, checkpoint.get('BestCheckpointHook') or {}]
    before = next((found['dataset_digest'] for found in known if found.get('dataset_digest')), None)
    if not before or not run.digest or before == run.digest:
        return None
    return f'was trained on another split ({before[:12]}) than {run.data_root} ({run.digest[:12]})'


def weights_fit(key: str, part: dict, checkpoint: dict, prefix: str = '') -> tuple[int, int]:
    """Compares a part of the model with the weights in a checkpoint.

    Args:
        key: The key of the part in the config.
        part: Its settings.
        checkpoint: A checkpoint or a bare state dict.
        prefix: The beginning of the part's keys in the checkpoint.

    Returns:
        How many of the part's weights the checkpoint has with the same shape, and how many the part has.
    """
    with random_state_kept(), as_configured(key):
        built = MODELS.build({k: v for k, v in part.items() if k != 'init_cfg'})
    wanted = {f'{prefix}{k}': v.shape for k, v in built.state_dict().items() if not k.endswith('num_batches_tracked')}
    weights = checkpoint.get('state_dict', checkpoint)
    return sum(getattr(weights.get(k), 'shape', None) == shape for k, shape in wanted.items()), len(wanted)


TRAIN_CHECKS = {
    'dataset': check_classes,
    'images': check_leaks,
    'pipeline': check_pipelines,
    'topk': check_topk,
    'data_preprocessor': check_preprocessor,
    'model.backbone.init_cfg': check_pretrained,
    'load_from': check_checkpoint,
}
TEST_CHECKS = {'dataset': check_classes, 'load_from': check_checkpoint}
