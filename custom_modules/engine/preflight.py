"""Checks before training: mistakes in a config, its datasets, its weights and the built run, each found by name."""

import inspect
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.datasets.annotation import SPLIT_NAMES
from custom_modules.datasets.manifest import read_manifest
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.errors import InputError, as_configured
from custom_modules.files import sha256_of
from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint

if TYPE_CHECKING:
    from custom_modules.engine.run import Run

MIN_LOADED = 0.95  # share of the backbone's keys that pretrained weights must cover
LEAKED = 0.02  # share of the validation images also in train, from which on the split is an error
# Keys that hold paths, and placeholders that people leave in them.
PATH_KEYS = {'data_root', 'ann_file', 'data_prefix', 'img_path', 'checkpoint', 'load_from', 'work_dir', 'pretrained'}
PLACEHOLDER = re.compile(r'path[/\\_-]to\b|<[^>]*>|\bx{3,}\b|\byour[_ -]?\w+', re.IGNORECASE)
# Random transforms that neither their name nor a parameter called ``prob`` reveals.
RANDOM = {'ColorJitter', 'Lighting', 'AutoAugment', 'RandAugment', 'AugMix', 'TrivialAugmentWide', 'Albumentations'}
SCALE_TO_1 = {'ToTensor', 'ConvertImageDtype', 'ToDtype'}  # give pixels of 0 to 1


class Finding(NamedTuple):
    """Something that a check found.

    Args:
        level: ``'error'`` stops the run, ``'warning'`` needs a look, ``'note'`` says what was adjusted.
        text: One line.
    """

    level: str
    text: str


def findings_of(checks: Mapping[str, Callable[..., Iterable[Finding]]], *arguments: Any) -> list[Finding]:
    """Runs checks and collects their findings; what a check raises is an error under the name of its setting."""
    found: list[Finding] = []
    for setting, check in checks.items():
        try:
            with as_configured(setting):
                found += check(*arguments)
        except InputError as error:
            found += [Finding('error', problem) for problem in error.problems]
    return found


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raises all errors among the findings at once.

    Raises:
        InputError: One line for each error.
    """
    errors = dict.fromkeys(text for level, text in findings if level == 'error')
    if errors:
        raise InputError(*errors)


def class_names(dataset: Any) -> list[str]:
    """The class names that a dataset gives, in label order; empty without any."""
    return [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()]


# --- before anything is read -----------------------------------------------------------------------------------------


def check_paths(cfg: Config, loaders: list[str]) -> Iterator[Finding]:
    """Paths that are placeholders, or that are on another person's machine."""
    read = ('model.', *(f'{name}_dataloader.' for name in loaders), 'load_from', 'work_dir')
    for dotted, value in _texts(cfg._cfg_dict, []):
        if dotted.rpartition('.')[2] not in PATH_KEYS or not dotted.startswith(read):
            continue
        if PLACEHOLDER.search(value) and not os.path.exists(value):
            yield Finding(
                'error', f'{dotted}: {value!r} is a placeholder; write the real path, relative to this folder'
            )
        elif (home := re.match(r'(/home/[^/]+|/Users/[^/]+|[A-Za-z]:[\\/])', value)) and not os.path.exists(home[1]):
            yield Finding(
                'error',
                f"{dotted}: {value!r} is on somebody else's machine (no {home[1]} here); "
                'write a path relative to this folder',
            )


def check_loaders(cfg: Config, loaders: list[str]) -> Iterator[Finding]:
    """Loaders that are missing or give no batches, and folders that are not prepared datasets."""
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            hint = '; --no-validate trains without one' if name == 'val' else ''
            yield Finding('error', f'{name}_dataloader: the config has none{hint}')
            continue
        if loader.get('batch_size', 1) is None:
            yield Finding('error', f'{name}_dataloader.batch_size: is None, which gives no batches; give a number')
        if loader.dataset.get('type') == 'FlowerDataset':
            root = Path(loader.dataset.get('data_root') or '')
            if not (root / 'classes.txt').is_file():
                yield Finding('error', f'{root}: {_how_to_prepare(root)}')


def _how_to_prepare(root: Path) -> str:
    """Why ``root``, which has no classes.txt, is no prepared dataset, and the command that makes one."""
    if not root.is_dir():
        return f'no such folder; prepare it with: python tools/split_dataset.py RAW_PHOTOS {root}'
    if (root / 'train').is_dir() and (root / 'val').is_dir():
        return f'no prepared dataset yet (no classes.txt); finish it with: python tools/generate_metadata.py {root}'
    return (
        'no prepared dataset (no classes.txt, train/ and val/); if these are the raw photos, split them with: '
        f'python tools/split_dataset.py {root} data/flowers'
    )


def _texts(node: Any, path: list[str]) -> Iterator[tuple[str, str]]:
    """Each text in nested dicts and lists, with its dotted key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        if isinstance(value, str):
            yield '.'.join([*path, str(key)]), value
        else:
            yield from _texts(value, [*path, str(key)])


CONFIG_CHECKS = {'paths': check_paths, 'dataloaders': check_loaders}


# --- config, datasets and weights ------------------------------------------------------------------------------------


def check_classes(run: 'Run') -> Iterator[Finding]:
    """Classes that are the folders of a split, that have no images, or that model and datasets count differently."""
    given = {
        'model.head.num_classes': run.model.get('head', {}).get('num_classes'),
        'data_preprocessor.num_classes': (run.cfg.get('data_preprocessor') or {}).get('num_classes'),
    }
    split: list[str] = []
    for name, dataset in run.datasets.items():
        classes = class_names(dataset)
        if split := [found for found in classes if found.lower() in SPLIT_NAMES]:
            yield Finding(
                'error',
                f'{name}_dataloader.dataset: its classes are {", ".join(split)}: the folders of a split, not kinds of '
                "photo; point it at the folder whose subfolders are the classes, or take type='FlowerDataset' with "
                'data_root',
            )
            continue
        wrong = {key: n for key, n in given.items() if classes and n not in (None, len(classes))}
        given = {key: n for key, n in given.items() if key not in wrong}  # reported once
        if wrong:
            options = ' '.join(f'{key}={len(classes)}' for key in wrong)
            yield Finding(
                'error',
                f'{name}_dataloader.dataset has {len(classes)} classes ({_some(classes)}), but '
                + ', '.join(f'{key} is {n}' for key, n in wrong.items())
                + f'; add: --cfg-options {options}',
            )
    train: Any = run.datasets.get('train')
    if hasattr(train, 'get_gt_labels') and not split:
        there = set(train.get_gt_labels().tolist())
        if missing := [name for label, name in enumerate(class_names(train)) if label not in there]:
            yield Finding(
                'warning',
                f'train_dataloader.dataset: no photo of {_some(missing)} to learn from, so none will ever be '
                'recognised; look at its ann_file and indices',
            )


def _some(names: list[str]) -> str:
    return ', '.join(names[:5]) + (', …' if len(names) > 5 else '')


def check_leaks(run: 'Run') -> Iterator[Finding]:
    """Validation images that are among the training images, by name or by content."""
    train, val = (run.datasets.get(name) for name in ('train', 'val'))
    paths, tested = _image_paths(train), _image_paths(val)
    if not paths or not tested:
        return
    if len(tested) > len(paths):
        yield Finding(
            'warning',
            f'val_dataloader: {len(tested)} photos, but only {len(paths)} to train on: is the split broken?',
        )
    names = {_name(train, path) for path in paths}
    same_name = [path for path in tested if _name(val, path) in names]
    both = same_name or same_content(paths, tested, lambda: _recorded_hashes(run))
    if both:
        yield Finding(
            'error' if same_name or len(both) >= LEAKED * len(tested) else 'warning',
            f'val_dataloader: {len(both)} of its {len(tested)} photos are also in train (e.g. {both[0]}); split the '
            'raw photos again, into a new folder: python tools/split_dataset.py PHOTOS NEW_FOLDER',
        )


def _image_paths(dataset: Any) -> list[str]:
    """The image files of a dataset that names them."""
    try:
        return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    except (AttributeError, KeyError, TypeError):
        return []


def _name(dataset: Any, path: str) -> str:
    """``class/image`` for an image of a prepared dataset, which keeps the raw photos' names; else the path."""
    return os.path.relpath(path, dataset.img_prefix) if type(dataset).__name__ == 'FlowerDataset' else path


def _recorded_hashes(run: 'Run') -> dict[str, str]:
    """The sha256 of each image that the dataset's manifest records, by path."""
    if run.digest is None:
        return {}
    files = (read_manifest(Path(run.data_root)) or {}).get('files', {})
    return {str(Path(run.data_root) / name): entry['sha256'] for name, entry in files.items()}


def same_content(train: list[str], val: list[str], recorded: Callable[[], Mapping[str, str]]) -> list[str]:
    """The images of ``val`` whose bytes are those of an image of ``train``; only files of the same size are compared.

    Args:
        train: Paths.
        val: Paths.
        recorded: Gives the sha256 of files that need not be read; called if there are files of the same size.
    """
    sizes = defaultdict(list)
    for path in filter(os.path.isfile, train):
        sizes[os.path.getsize(path)].append(path)
    twins = {path: sizes[os.path.getsize(path)] for path in filter(os.path.isfile, val)}
    known = recorded() if any(twins.values()) else {}

    @cache
    def digest(path: str) -> str:
        return known.get(path) or sha256_of(Path(path))

    return [path for path, same_size in twins.items() if same_size and digest(path) in set(map(digest, same_size))]


def check_pipelines(run: 'Run') -> Iterator[Finding]:
    """Random transforms in the pipelines of validation and test."""
    for name in ('val', 'test'):
        dataset = (run.cfg.get(f'{name}_dataloader') or {}).get('dataset') or {}
        for key, step in _steps(dataset.get('pipeline') or [], f'{name}_dataloader.dataset.pipeline'):
            if is_random(step):
                yield Finding(
                    'error',
                    f'{key}: {step["type"]} changes photos at random, so that no two validations can be compared; '
                    'remove it here, and augment in train_dataloader alone',
                )


def _steps(pipeline: Any, key: str) -> Iterator[tuple[str, dict]]:
    """Each transform of a pipeline with its dotted key, those within others too."""
    for index, step in enumerate(pipeline):
        if isinstance(step, list | tuple):
            yield from _steps(step, f'{key}.{index}')
        elif isinstance(step, dict):
            yield f'{key}.{index}', step
            yield from _steps(step.get('transforms') or [], f'{key}.{index}.transforms')


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
    metrics = {'val_evaluator': evaluator} if isinstance(evaluator, dict) else dict(enumerate(evaluator))
    given = {'model.head.topk': run.model.get('head', {}).get('topk')} | {
        (f'val_evaluator.{key}.topk' if isinstance(key, int) else f'{key}.topk'): metric.get('topk')
        for key, metric in metrics.items()
        if isinstance(metric, dict)
    }
    for key, value in given.items():
        topk = max(value) if isinstance(value, list | tuple) and value else value
        if topk and classes and topk >= classes:
            yield Finding(
                'error', f'{key}: top-{topk} of {classes} classes is always 100 %; add: --cfg-options "{key}=(1,)"'
            )


def check_preprocessor(run: 'Run') -> Iterator[Finding]:
    """Mean, standard deviation and channel order that do not fit the pixels that the pipeline gives."""
    inside = run.model.get('data_preprocessor')
    key = 'model.data_preprocessor' if inside else 'data_preprocessor'
    values = inside or run.cfg.get('data_preprocessor') or {}
    mean, std = (list(values.get(name) or []) for name in ('mean', 'std'))
    if not mean or not std:
        return
    dataset = (run.cfg.get('train_dataloader') or {}).get('dataset') or {}
    steps = [str(step['type']) for _, step in _steps(dataset.get('pipeline') or [], '') if 'type' in step]
    scaled = any(re.split(r'[./]', step)[-1] in SCALE_TO_1 for step in steps)
    if not scaled and 0 < max(mean) <= 1 and max(std) <= 1:
        yield Finding(
            'error',
            f'{key}.mean, {key}.std: {mean}, {std} are for pixels of 0 to 1, but the pipeline gives 0 to 255; '
            f'set mean={[round(255 * value, 3) for value in mean]} std={[round(255 * value, 3) for value in std]}',
        )
    elif scaled and max(mean) > 1:
        yield Finding(
            'error',
            f'{key}.mean, {key}.std: {mean}, {std} are for pixels of 0 to 255, but the pipeline scales them to 0 '
            'to 1; remove that step, or divide both by 255',
        )
    if len(mean) == 3 and mean[0] > mean[2] and not values.get('to_rgb'):  # ImageNet's mean falls from red to blue
        yield Finding(
            'warning',
            f'{key}.to_rgb: not set, but photos are loaded as BGR and the mean {mean} looks like RGB; add: '
            f'--cfg-options {key}.to_rgb=True',
        )
    elif len(mean) == 3 and mean[0] < mean[2] and values.get('to_rgb'):
        yield Finding(
            'warning', f'{key}.mean: {mean} looks like BGR, but to_rgb turns photos to RGB; reverse mean and std'
        )


def schedules(cfg: Config) -> list[tuple[str, Any]]:
    """Each schedule as configured, with its dotted key."""
    written = cfg.get('param_scheduler') or []
    if isinstance(written, dict):
        return [('param_scheduler', written)]
    return [(f'param_scheduler.{index}', item) for index, item in enumerate(written)]


def check_pretrained(run: 'Run') -> Iterator[Finding]:
    """Pretrained weights that are missing or do not fit the backbone; the line that describes them becomes a setting.

    ``cfg.pretrained`` appears in the table of settings, in ``best.pth`` and in test results.
    """
    backbone = run.model.get('backbone') or ConfigDict()
    init = backbone.get('init_cfg')
    if not isinstance(init, dict) or init.get('type') != 'Pretrained':
        return
    name, prefix = init['checkpoint'], f'{init["prefix"].rstrip(".")}.' if init.get('prefix') else ''
    checkpoint = load_checkpoint(name)
    fitting, wanted = backbone_fit(run.model, checkpoint, prefix)
    if fitting < MIN_LOADED * wanted:
        yield Finding(
            'error',
            f'{name}: has {fitting} of the {wanted} weights of the {backbone.type} backbone: of another architecture, '
            'or key names of another project; import it with: python tools/fetch_weights.py NAME --from FILE',
        )
    note = (checkpoint.get('meta') or {}).get('note')
    run.cfg.pretrained = f'{name}, {fitting}/{wanted} of the backbone' + (f'; {note}' if note else '')


def check_checkpoint(run: 'Run') -> Iterator[Finding]:
    """A checkpoint that does not fit: to resume from, to test, or to take the weights of."""
    if run.checkpoint is None:
        return
    name = run.cfg.load_from or run.model.get('path')  # of an exported model
    if run.cfg.get('resume'):
        yield from _check_resume(run, run.checkpoint, name)
    elif 'train' in run.datasets:
        yield from _check_load_from(run, run.checkpoint, name)
    else:
        if run.cfg.load_from:
            check_weights(run.model, run.checkpoint, name)
        same_classes(run.checkpoint, name, run)


def _check_resume(run: 'Run', checkpoint: dict, name: str) -> Iterator[Finding]:
    """Whether training can continue from a checkpoint."""
    if 'optimizer' not in checkpoint:
        raise InputError(  # mmpretrain #1970
            f'{name}: holds weights alone, no optimizer state to resume; give an epoch_N.pth of that run instead'
        )
    check_weights(run.model, checkpoint, name)
    same_classes(checkpoint, name, run)
    if other := _other_split(run, checkpoint):
        yield Finding(
            'error',
            f'{name}: {other}, so photos it has learned would be validated on; go on with its own --data-root, or '
            'train again in another --work-dir',
        )
    done, wanted = checkpoint['meta'].get('epoch', 0), run.cfg.train_cfg.get('max_epochs')
    if wanted is not None and done > wanted:
        yield Finding(
            'error',
            f'{name}: has trained for {done} epochs, train_cfg.max_epochs is {wanted}: nothing is left to do; '
            f'for more epochs add: --cfg-options train_cfg.max_epochs={done + 1}',
        )


def _check_load_from(run: 'Run', checkpoint: dict, name: str) -> Iterator[Finding]:
    """Whether a new run can start from the weights of a checkpoint."""
    fitting, wanted = backbone_fit(run.model, checkpoint, 'backbone.')
    if fitting < MIN_LOADED * wanted:
        yield Finding(
            'error',
            f'load_from: {name} has {fitting} of the {wanted} weights of the {run.model.backbone.type} backbone: '
            'of another architecture; use the config that it was trained with',
        )
    meta = checkpoint.get('meta') or {}
    trained = [str(one) for one in meta.get('classes') or (meta.get('dataset_meta') or {}).get('classes') or ()]
    if run.classes and trained and trained != run.classes:
        yield Finding(
            'warning',
            f'load_from: {name} was trained for {", ".join(trained)}, not for {", ".join(run.classes)}: '
            'its head is of no use here',
        )
    if other := _other_split(run, checkpoint):
        yield Finding(
            'warning',
            f'load_from: {name} {other}: photos it has learned would be validated on, and then the score means '
            'nothing',
        )


def same_classes(checkpoint: dict, name: str, run: 'Run') -> None:
    """Makes sure that a checkpoint's classes are the dataset's, in the same order.

    Raises:
        InputError: They differ, or the checkpoint names none.
    """
    trained = checkpoint_classes(checkpoint, name)
    if run.classes and trained != run.classes:
        raise InputError(
            f'{name} was trained for {", ".join(trained)}; {run.data_root} has {", ".join(run.classes)}: '
            'names and order must be the same'
        )


def _other_split(run: 'Run', checkpoint: dict) -> str | None:
    """Says that a checkpoint was trained on another split than the run's; None where that is not known."""
    known = [checkpoint.get('meta') or {}, checkpoint.get('BestCheckpointHook') or {}]
    before = next((found['dataset_digest'] for found in known if found.get('dataset_digest')), None)
    if not before or not run.digest or before == run.digest:
        return None
    return f'was trained on another split ({before[:12]}) than {run.data_root} ({run.digest[:12]})'


def check_weights(model: ConfigDict, checkpoint: dict, name: str) -> None:
    """Makes sure that a trained checkpoint is of this model.

    Raises:
        InputError: Any weight of the model is missing in it, or of another shape.
    """
    plain = {**model, 'backbone': {k: v for k, v in model.backbone.items() if k != 'init_cfg'}}
    fitting, wanted = _fit('model', plain, checkpoint, '')
    if fitting < wanted:
        raise InputError(
            f'{name}: has {fitting} of the {wanted} weights of this {model.backbone.type} model; '
            'use the config that it was trained with'
        )


def backbone_fit(model: ConfigDict, checkpoint: dict, prefix: str) -> tuple[int, int]:
    """How many of the backbone's weights are in a checkpoint with the same shape, and how many it has."""
    return _fit('model.backbone', model.backbone, checkpoint, prefix)


def _fit(key: str, part: dict, checkpoint: dict, prefix: str) -> tuple[int, int]:
    """Compares a part of the model, built without memory where it can be, with the weights in a checkpoint.

    Args:
        key: The key of the part in the config.
        part: Its settings.
        checkpoint: A checkpoint or a bare state dict.
        prefix: The beginning of the part's keys in the checkpoint.
    """
    plain = {k: v for k, v in part.items() if k != 'init_cfg'}
    with random_state_kept(), as_configured(key):
        try:
            with torch.device('meta'):
                built = MODELS.build(dict(plain))
        except Exception:  # some read numbers while they are built, and the meta device has none
            built = MODELS.build(dict(plain))
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
