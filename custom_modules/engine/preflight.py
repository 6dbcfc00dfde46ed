"""Checks before a training or a test: mistakes in a config, its datasets and its weights, each found by name.

To add a check, write a function that yields findings and list it in one of the tables, under the setting that it is
about: ``CONFIG_CHECKS`` (nothing is read yet), ``TRAIN_CHECKS`` or ``TEST_CHECKS`` (datasets and checkpoint are read),
``RUNNER_CHECKS`` in ``hooks/preflight_hook.py`` (the model is built).
"""

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmengine.config import Config
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.datasets.annotation import SPLIT_NAMES
from custom_modules.datasets.class_counts import innermost, labels_of
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.engine.run_config import head_problem, without_pretrained
from custom_modules.errors import InputError, as_configured, collect, said_by
from custom_modules.files import command_line, sha256_of
from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint, saved_classes
from custom_modules.models.saved_config import nested

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

TRACKERS = {f'{name}VisBackend': name.lower() for name in ('Wandb', 'MLflow', 'ClearML', 'Neptune', 'DVCLive', 'Aim')}


class Finding(NamedTuple):
    """One line on a mistake; an ``'error'`` stops the run, a ``'warning'`` does not."""

    level: str
    text: str


error = functools.partial(Finding, 'error')
warning = functools.partial(Finding, 'warning')


def run_checks(
    checks: Mapping[str, Callable[..., Iterable[Finding]]], errors: list[str], warnings: list[str], *arguments: Any
) -> None:
    """Runs checks and adds what they find to two lists; what a check raises is an error under its setting."""
    for setting, check in checks.items():
        with collect(errors), as_configured(setting):
            for level, text in check(*arguments):
                (errors if level == 'error' else warnings).append(text)


def class_names(dataset: Any) -> list[str]:
    """The class names that a dataset gives, in label order; empty without any."""
    return [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()]


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names as text; of many, the first ones."""
    return ', '.join(names[:most]) + ', …' * (len(names) > most)


def check_paths(cfg: Config, loaders: Sequence[str]) -> Iterator[Finding]:
    """Paths that are placeholders, or that are on another person's machine."""
    read = ('model.', *(f'{name}_dataloader.' for name in loaders), 'load_from', 'work_dir')
    for key, value in nested(cfg._cfg_dict):
        is_path = key.rpartition('.')[2] in PATH_KEYS and key.startswith(read) and isinstance(value, str)
        if not is_path or os.path.exists(value):
            continue
        if PLACEHOLDER.search(value):
            yield error(f'{key}: {value!r} is a placeholder. Write the real path, relative to this folder.')
        elif (home := HOME.match(value)) and not os.path.exists(home[0]):
            yield error(f"{key}: {value!r} is on somebody else's machine. Write a path relative to this folder.")


def check_loaders(cfg: Config, loaders: Sequence[str]) -> Iterator[Finding]:
    """Loaders that are missing or give no batches, and folders that are not prepared datasets."""
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            hint = ', or train with --no-validate' if name == 'val' else ''
            yield error(f'{name}_dataloader: the config has none. Add one{hint}.')
            continue
        if loader.get('batch_size', 1) is None:
            yield error(f'{name}_dataloader.batch_size: is None, which gives no batches. Give a number.')
        dataset = innermost(loader.dataset)
        root = Path(dataset.get('data_root') or '')
        if dataset.get('type') == 'FlowerDataset' and not (root / 'classes.txt').is_file():
            yield error(f'{root}: {_how_to_prepare(root)}')


def check_trackers(cfg: Config, loaders: list[str]) -> Iterator[Finding]:
    """Experiment trackers whose packages are not installed; MMEngine finds out once it has written to the work dir."""
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or [] if 'train' in loaders else []
    for kind in [str(backend.get('type')).rpartition('.')[2] for backend in backends]:
        package = TRACKERS.get(kind)
        if package and find_spec(package) is None:
            yield error(f'{kind}: {package} not installed. Run: pip install {package}')


def _how_to_prepare(root: Path) -> str:
    """The command that makes a prepared dataset of ``root``, which has no classes.txt."""
    if not root.is_dir():
        return f'no such folder. Prepare it with: {command_line("tools/split_dataset.py", "RAW_PHOTOS", root)}'
    if (root / 'train').is_dir():
        return f'no classes.txt yet. Write it with: {command_line("tools/generate_metadata.py", root)}'
    split = command_line('tools/split_dataset.py', root, 'data/flowers')
    return f'no prepared dataset. Split raw photos with: {split}'


CONFIG_CHECKS = {'paths': check_paths, 'dataloaders': check_loaders, 'visualizer': check_trackers}


def check_classes(run: 'Run') -> Iterator[Finding]:
    """Classes that are the folders of a split, have no images, or do not fit the head."""
    if problem := head_problem(run.model):  # it can be trained, but no tool can use its scores
        yield (warning if 'train' in run.datasets else error)(f'model.head: {problem}')
    counts = {
        'model.head.num_classes': run.model.get('head', {}).get('num_classes'),
        'data_preprocessor.num_classes': (run.cfg.get('data_preprocessor') or {}).get('num_classes'),
    }
    for name, dataset in run.datasets.items():
        key, classes = f'{name}_dataloader.dataset', class_names(dataset)
        if (images := _image_paths(dataset)) and 'gt_label' not in dataset.get_data_info(0):
            yield error(f'{key}: {len(images)} photos without labels. Set with_label=True, or use another dataset.')
        if split := ', '.join(found for found in classes if found.lower() in SPLIT_NAMES):
            yield error(f"{key}: its classes are {split}: the folders of a split. Use type='FlowerDataset'.")
            continue
        for setting, count in counts.items():
            if (n := len(classes)) and count not in (None, n):
                found = f'{setting}: is {count}, but the dataset has {n} classes ({listed(classes, 5)})'
                yield error(f'{found}. Add: --cfg-options {setting}={n}')
        labels = set(labels_of(dataset)) if name == 'train' else set()
        missing = listed([found for label, found in enumerate(classes) if label not in labels])
        if labels and missing:
            yield warning(f'{key}: no photo of {missing} to learn from. Look at its ann_file and indices.')


def check_leaks(run: 'Run') -> Iterator[Finding]:
    """Validation images whose content is also among the training images."""
    train, val = (_image_paths(run.datasets.get(name)) for name in ('train', 'val'))
    if train and len(val) > len(train):
        yield warning(f'val_dataloader: {len(val)} photos, but only {len(train)} to train on. Check the split.')
    if both := same_content(train, val):
        level = error if len(both) >= LEAKED * len(val) else warning
        yield level(
            f'val_dataloader: {len(both)} of its {len(val)} photos are also in train (e.g. {both[0]}). Split the raw '
            'photos again: python tools/split_dataset.py PHOTOS NEW_FOLDER'
        )


def _image_paths(dataset: Any) -> list[str]:
    """The image files of a dataset that names them."""
    try:
        return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    except (AttributeError, KeyError, TypeError):
        return []


def same_content(train: list[str], val: list[str]) -> list[str]:
    """The paths in ``val`` of files with the bytes of a file in ``train``; only files of the same size are read."""
    size = {path: os.path.getsize(path) for path in (*train, *val) if os.path.isfile(path)}
    common = {size.get(path) for path in train} & {size.get(path) for path in val} - {None}
    known = {sha256_of(Path(path)) for path in dict.fromkeys(train) if size.get(path) in common}
    return [path for path in val if size.get(path) in common and sha256_of(Path(path)) in known]


def check_pipelines(run: 'Run') -> Iterator[Finding]:
    """Random transforms in the pipelines of validation and test."""
    for name in ('val_dataloader', 'test_dataloader'):
        for key, step in nested(run.cfg.get(name), name):
            if '.pipeline.' in key and isinstance(step, dict) and is_random(step):
                yield error(f'{key}: {step["type"]} changes photos at random. Augment in train_dataloader alone.')


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
    for key, topk in nested({'model.head': run.model.get('head'), 'val_evaluator': run.cfg.get('val_evaluator')}):
        if not key.endswith('.topk') or not topk:
            continue
        largest = max(topk) if isinstance(topk, list | tuple) else topk
        if classes and largest >= classes:
            add = f'Add: --cfg-options "{key}=(1,)"'
            yield error(f'{key}: top-{largest} of {classes} classes is always 100 %. {add}')


def check_channels(run: 'Run') -> Iterator[Finding]:
    """A mean whose channels are in another order than those of the input."""
    inside = run.model.get('data_preprocessor')
    values = inside or run.cfg.get('data_preprocessor') or {}
    mean, to_rgb = list(values.get('mean') or []), bool(values.get('to_rgb'))
    if len(mean) == 3 and mean[0] != mean[2] and (mean[0] > mean[2]) != to_rgb:  # ImageNet's falls from red to blue
        key = 'model.data_preprocessor' if inside else 'data_preprocessor'
        order, other = ('RGB', 'BGR') if to_rgb else ('BGR', 'RGB')
        yield warning(f'{key}: to_rgb={to_rgb} gives {order}, but the mean {mean} looks like {other}. Correct one.')


def describe_pretrained(backbone: dict) -> str | None:
    """One line on the pretrained weights of a backbone's settings; None for a backbone without any.

    Raises:
        InputError: The weights are missing, or fit less than 95 % of the backbone.
    """
    if own := backbone.get('checkpoint_path') or (backbone.get('pretrained') and backbone.get('model_name')):
        try:
            with random_state_kept():
                MODELS.build(backbone)
        except Exception as failure:  # timm, its hub and torch raise almost anything
            raise InputError(
                f'model.backbone: timm cannot load {own} ({said_by(failure)}). Correct its name, fetch it once with a '
                'network, or train from scratch: --cfg-options model.backbone.pretrained=False'
            ) from failure
        return f'{own}, loaded by timm'
    init = backbone.get('init_cfg')
    if not isinstance(init, dict) or init.get('type') != 'Pretrained':
        return None
    name, prefix = init['checkpoint'], f'{init["prefix"].rstrip(".")}.' if init.get('prefix') else ''
    checkpoint = load_checkpoint(name)
    fitting, wanted = weights_fit(backbone, checkpoint, prefix)
    if fitting < MIN_LOADED * wanted:
        found = f'{fitting} of the {wanted} weights of the {backbone.get("type")} backbone'
        raise InputError(f'{name}: has {found}. Import its weights: python tools/fetch_weights.py NAME --from FILE')
    note = (checkpoint.get('meta') or {}).get('note')
    return f'{name}, {fitting}/{wanted} of the backbone' + (f'; {note}' if note else '')


def check_checkpoint(run: 'Run') -> Iterator[Finding]:
    """A checkpoint that does not fit. A new run can take its backbone alone; a resume and a test need all of it."""
    checkpoint = run.checkpoint
    if checkpoint is None:
        return
    name = run.cfg.load_from or run.model.get('path')  # of an exported model
    resume, training = run.cfg.get('resume'), 'train' in run.datasets
    if resume and 'optimizer' not in checkpoint:  # mmpretrain #1970
        raise InputError(f'{name}: holds weights alone, no optimizer state. Give an epoch_N.pth of that run.')
    whole = resume or not training
    level = error if whole else warning
    if run.cfg.load_from:
        part, prefix = (run.model, '') if whole else (run.model.backbone, 'backbone.')
        fitting, wanted = weights_fit(part, checkpoint, prefix)
        if fitting < (1 if whole else MIN_LOADED) * wanted:
            found = f'{fitting} of the {wanted} weights of the {part.type}'
            yield error(f'{name}: has {found}. Use the config that it was trained with.')
    trained = checkpoint_classes(checkpoint, name) if whole else saved_classes(checkpoint)
    if run.classes and trained and trained != run.classes:
        pairs = enumerate(zip(trained, run.classes, strict=False))
        first = next((at for at, (old, new) in pairs if old != new), 0) if len(trained) > 20 else 0
        theirs, ours = listed(trained[first:]), listed(run.classes[first:])
        yield level(f'{name}: was trained for {theirs}, but {run.data_root} has {ours}. Use the same names and order.')
    known = [checkpoint.get('meta') or {}, checkpoint.get('BestCheckpointHook') or {}]
    before = next((found['dataset_digest'] for found in known if found.get('dataset_digest')), None)
    if training and before and run.digest and before != run.digest:
        other = f'was trained on another split ({before[:12]}) than {run.data_root} ({run.digest[:12]})'
        yield level(f'{name}: {other}: it has learned validation photos. Give the --data-root that it was trained on.')
    for key in ('epoch', 'iter') if resume else ():
        done, wanted = (checkpoint.get('meta') or {}).get(key, 0), run.cfg.get('train_cfg', {}).get(f'max_{key}s')
        if wanted is not None and done > wanted:
            add = f'--cfg-options train_cfg.max_{key}s={done + 1}'
            yield error(f'{name}: has trained for {done} {key}s, but train_cfg.max_{key}s is {wanted}. Add: {add}')


def weights_fit(part: dict, checkpoint: dict, prefix: str = '') -> tuple[int, int]:
    """How many weights of a part of the model a checkpoint has with the same shape, and how many the part has.

    The keys of the part begin with ``prefix`` in the checkpoint, which may be a bare state dict.
    """
    with random_state_kept(), as_configured('model'):
        built = MODELS.build(without_pretrained(part))
    wanted = {f'{prefix}{k}': v.shape for k, v in built.state_dict().items() if not k.endswith('num_batches_tracked')}
    weights = checkpoint.get('state_dict', checkpoint)
    return sum(getattr(weights.get(k), 'shape', None) == shape for k, shape in wanted.items()), len(wanted)


TRAIN_CHECKS = {
    'dataset': check_classes,
    'images': check_leaks,
    'pipeline': check_pipelines,
    'topk': check_topk,
    'data_preprocessor': check_channels,
    'load_from': check_checkpoint,
}
TEST_CHECKS = {'dataset': check_classes, 'load_from': check_checkpoint}
