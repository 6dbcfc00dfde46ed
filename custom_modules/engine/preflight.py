"""Before anything is built: what in a config, its dataset or its weights would make the run not what one thinks.

What only the built run can show is found by preflight_hook.py.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS, TRANSFORMS
from torch import Tensor

from custom_modules.datasets.annotation import check_disjoint, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.hooks.seed_hook import random_state_kept
from custom_modules.engine.parameters import parameters
from custom_modules.errors import InputError, as_configured
from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint

MIN_LOADED = 0.95  # share of the backbone's keys that pretrained weights must cover
# Keys that hold paths, and what is written in their place by those who mean to fill it in later.
PATH_KEYS = {'data_root', 'ann_file', 'data_prefix', 'img_path', 'checkpoint', 'load_from', 'work_dir', 'pretrained'}
PLACEHOLDER = re.compile(r'path[/\\_-]to\b|<[^>]*>|\bx{3,}\b|\byour[_ -]?\w+', re.IGNORECASE)
# Transforms that draw at random though neither their name nor a parameter called ``prob`` says so.
RANDOM = {'ColorJitter', 'Lighting', 'AutoAugment', 'RandAugment', 'AugMix', 'TrivialAugmentWide', 'Albumentations'}
SCALE_TO_1 = {'ToTensor', 'ConvertImageDtype', 'ToDtype'}  # give pixels of 0 to 1


@dataclass
class Findings:
    """What is wrong with a run: errors stop it, warnings are to be looked at, notes say what was mended or is odd."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Takes an :class:`InputError` as errors, so that the checks after it are made too."""
        try:
            yield
        except InputError as error:
            self.errors += error.problems

    def refuse(self) -> None:
        """Stops the run, with all errors at once, if there are any.

        Raises:
            InputError: One line for each error.
        """
        if self.errors:
            raise InputError(*dict.fromkeys(self.errors))


def check_run(cfg: Config, loaders: Iterable[str]) -> tuple[Findings, str | None]:
    """Checks all that a config, its dataset and its weights show before anything is built.

    Args:
        cfg: The config of the run.
        loaders: Those that it uses: ``'train'``, ``'val'``.

    Returns:
        What was found, and one line on the pretrained weights (None without any).

    Raises:
        InputError: All errors at once.
    """
    findings = Findings()
    findings.errors += check_paths(cfg)
    findings.refuse()  # what is left to be filled in cannot be looked at
    classes: list[str] = []
    with findings.collected():
        classes = check_dataset(cfg, loaders)
    findings.errors += check_pipelines(cfg)
    findings.errors += check_topk(cfg, len(classes) or cfg.model.get('head', {}).get('num_classes'))
    with findings.collected(), as_configured('param_scheduler'):
        findings.errors += check_begins(cfg)
    with findings.collected(), as_configured('data_preprocessor'):
        check_preprocessor(cfg, findings)
    pretrained = None
    with findings.collected():
        pretrained = check_pretrained(cfg.model)
    if cfg.get('load_from'):
        with findings.collected():
            checkpoint = load_checkpoint(cfg.load_from)
            if cfg.get('resume'):
                check_resume(cfg, checkpoint, cfg.load_from, classes)
            else:
                findings.warnings += check_load_from(cfg, checkpoint, cfg.load_from, classes)
    findings.refuse()
    return findings, pretrained


def check_workers(cfg: Config) -> list[str]:
    """The loaders that are to keep workers that they do not have; to be asked before :func:`place` mends it."""
    return [
        f'{name}.persistent_workers: turned off, for {name}.num_workers is 0: there are none to keep'
        for name in ('train_dataloader', 'val_dataloader')
        if (cfg.get(name) or {}).get('persistent_workers') and not cfg[name].get('num_workers')
    ]


def check_paths(cfg: Config) -> list[str]:
    """The paths in ``cfg`` that were left to be filled in, or that are somebody else's."""
    problems = []
    read = ('model.', 'train_dataloader.', 'val_dataloader.', 'load_from', 'work_dir')
    for dotted, value in _texts(cfg._cfg_dict, []):
        if dotted.rpartition('.')[2] not in PATH_KEYS or not dotted.startswith(read):
            continue
        if PLACEHOLDER.search(value) and not os.path.exists(value):
            problems.append(f'{dotted}: {value!r} is a placeholder; write the real path, relative to this folder')
        elif (home := re.match(r'(/home/[^/]+|/Users/[^/]+|[A-Za-z]:[\\/])', value)) and not os.path.exists(home[1]):
            problems.append(
                f"{dotted}: {value!r} is on somebody else's machine (no {home[1]} here); "
                'write a path relative to this folder'
            )
    return problems


def _texts(node: Any, path: list[str]) -> Iterator[tuple[str, str]]:
    """Each text in nested dicts and lists, with its dotted key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        if isinstance(value, str):
            yield '.'.join([*path, str(key)]), value
        else:
            yield from _texts(value, [*path, str(key)])


def check_pipelines(cfg: Config) -> list[str]:
    """The transforms that would change validation photos at random."""
    problems = []
    for name in ('val', 'test'):
        dataset = (cfg.get(f'{name}_dataloader') or {}).get('dataset') or {}
        for key, step in _steps(dataset.get('pipeline') or [], f'{name}_dataloader.dataset.pipeline'):
            if is_random(step):
                problems.append(
                    f'{key}: {step["type"]} changes photos at random, so that no two validations can be compared; '
                    'remove it here, and augment in train_dataloader alone'
                )
    return problems


def _steps(pipeline: Any, key: str) -> Iterator[tuple[str, dict]]:
    """Each transform of a pipeline with its dotted key, those within others too."""
    for index, step in enumerate(pipeline):
        if isinstance(step, list | tuple):
            yield from _steps(step, f'{key}.{index}')
        elif isinstance(step, dict):
            yield f'{key}.{index}', step
            yield from _steps(step.get('transforms') or [], f'{key}.{index}.transforms')


def is_random(step: dict) -> bool:
    """Whether a transform, as configured, gives something else each time."""
    kind = step.get('type')
    if not isinstance(kind, str):
        return False
    name = re.split(r'[./]', kind)[-1]
    takes = parameters(TRANSFORMS.get(kind)).named if TRANSFORMS.get(kind) else {}
    prob = step.get('prob', step.get('p'))
    if name == 'RandomFlip':  # with certainty, or never: how a test averages mirror images
        return prob not in (0, 1)
    return prob != 0 and ('Random' in name or name in RANDOM or 'prob' in takes)


def check_topk(cfg: Config, classes: int | None) -> list[str]:
    """The accuracies among so many classes that they are always 100 %."""
    evaluator = cfg.get('val_evaluator') or []
    metrics = {'val_evaluator': evaluator} if isinstance(evaluator, dict) else dict(enumerate(evaluator))
    given = {'model.head.topk': cfg.model.get('head', {}).get('topk')} | {
        (f'val_evaluator.{key}.topk' if isinstance(key, int) else f'{key}.topk'): metric.get('topk')
        for key, metric in metrics.items()
        if isinstance(metric, dict)
    }
    return [
        f'{key}: top-{max(topk)} of {classes} classes is always 100 %; add: --cfg-options "{key}=(1,)"'
        for key, value in given.items()
        if value and classes and max(topk := (value if isinstance(value, list | tuple) else [value])) >= classes
    ]


def check_begins(cfg: Config) -> list[str]:
    """The schedules that begin when the run is over: MMEngine ends them with it, and cannot build them."""
    written = cfg.get('param_scheduler') or []
    items = {f'param_scheduler.{index}': item for index, item in enumerate(written)}
    if isinstance(written, dict):
        items = {'param_scheduler': written}
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    return [
        f'{key}.begin: {item["begin"]}, but the run has {epochs} epochs: it would never step; '
        'train longer, or write a schedule for so few'
        for key, item in items.items()
        if epochs and item.get('by_epoch', True) and 'end' not in item and item.get('begin', 0) >= epochs
    ]


def check_preprocessor(cfg: Config, findings: Findings) -> None:
    """Compares the preprocessor's mean, standard deviation and channel order with what the pipeline gives."""
    inside = cfg.model.get('data_preprocessor')
    key = 'model.data_preprocessor' if inside else 'data_preprocessor'
    values = inside or cfg.get('data_preprocessor') or {}
    mean, std = (list(values.get(name) or []) for name in ('mean', 'std'))
    if not mean or not std:
        return
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    steps = [str(step['type']) for _, step in _steps(dataset.get('pipeline') or [], '') if 'type' in step]
    scaled = any(re.split(r'[./]', step)[-1] in SCALE_TO_1 for step in steps)
    if not scaled and 0 < max(mean) <= 1 and max(std) <= 1:
        findings.errors.append(
            f'{key}.mean, {key}.std: {mean}, {std} are for pixels of 0 to 1, but the pipeline gives 0 to 255; '
            f'set mean={[round(255 * value, 3) for value in mean]} std={[round(255 * value, 3) for value in std]}'
        )
    elif scaled and max(mean) > 1:
        findings.errors.append(
            f'{key}.mean, {key}.std: {mean}, {std} are for pixels of 0 to 255, but the pipeline scales them to 0 '
            'to 1; remove that step, or divide both by 255'
        )
    if len(mean) == 3 and mean[0] != mean[2]:  # ImageNet's mean falls from red to blue
        rgb = mean[0] > mean[2]
        if rgb and not values.get('to_rgb'):
            findings.warnings.append(
                f'{key}.to_rgb: not set, but photos are loaded as BGR and the mean {mean} looks like RGB; add: '
                f'--cfg-options {key}.to_rgb=True'
            )
        elif not rgb and values.get('to_rgb'):
            findings.warnings.append(
                f'{key}.mean: {mean} looks like BGR, but to_rgb turns photos to RGB; reverse mean and std'
            )


def check_dataset(cfg: Config, loaders: Iterable[str]) -> list[str]:
    """Reads the annotations of ``loaders`` (``'train'``, ``'val'``, ``'test'``) and returns the class names.

    Raises:
        InputError: All that is wrong with ``classes.txt``, the annotation files, or their fit to the model.
    """
    samples = {}
    problems: list[str] = []
    classes: list[str] = []
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            hint = '; --no-validate trains without one' if name == 'val' else ''
            raise InputError(f'{name}_dataloader: the config has none{hint}')
        if loader.get('batch_size', 1) is None:
            raise InputError(f'{name}_dataloader.batch_size: is None, which gives no batches; give a number of photos')
        dataset = loader.dataset
        if dataset.get('type') != 'FlowerDataset':  # preflight_hook.py looks at it once it is built
            continue
        root = Path(dataset.data_root)
        if not (root / 'classes.txt').is_file():
            raise InputError(f'{root}: {_how_to_prepare(root)}')
        classes = read_classes(root / 'classes.txt')
        lists, photos = dataset.get('ann_file', 'train.txt'), dataset.get('data_prefix', 'train')
        try:
            samples[name] = read_samples(
                root / lists, classes, root / (photos['img_path'] if isinstance(photos, dict) else photos)
            )
        except InputError as error:
            problems += error.problems
        read_manifest_digest(root)  # what is wrong with it is better known now than after an epoch
    if {'train', 'val'} <= samples.keys():
        try:
            check_disjoint(samples['train'], samples['val'])
        except InputError as error:
            problems += error.problems
    wrong = {
        key: n
        for key, n in (
            ('model.head.num_classes', cfg.model.head.get('num_classes')),
            ('data_preprocessor.num_classes', (cfg.get('data_preprocessor') or {}).get('num_classes')),
        )
        if classes and n not in (None, len(classes))
    }
    if wrong:
        options = ' '.join(f'{key}={len(classes)}' for key in wrong)
        problems.append(
            f'{root / "classes.txt"} names {len(classes)} classes, but '
            + ', '.join(f'{key} is {n}' for key, n in wrong.items())
            + f'; add: --cfg-options {options}'
        )
    if problems:
        raise InputError(*problems)
    return classes


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


def check_classes(checkpoint: dict, name: str, classes: list[str], data_root: str) -> None:
    """Makes sure that a checkpoint's classes are the dataset's, in the same order.

    Raises:
        InputError: They differ, or the checkpoint names none.
    """
    trained = checkpoint_classes(checkpoint, name)
    if classes and trained != classes:
        raise InputError(
            f'{name} was trained for {", ".join(trained)}; {data_root} has {", ".join(classes)}: '
            'names and order must be the same'
        )


def check_resume(cfg: Config, checkpoint: dict, name: str, classes: list[str]) -> None:
    """Makes sure that training can go on from ``checkpoint``.

    Raises:
        InputError: It has no optimizer state, is of another model, other classes or another split, or has nothing left
            to train.
    """
    if 'optimizer' not in checkpoint:
        raise InputError(  # mmpretrain #1970
            f'{name}: holds weights alone, no optimizer state to resume; give an epoch_N.pth of that run instead'
        )
    check_weights(cfg.model, checkpoint, name)
    check_classes(checkpoint, name, classes, cfg.train_dataloader.dataset.get('data_root', 'the dataset'))
    if other := _other_split(cfg, checkpoint):
        raise InputError(
            f'{name}: {other}, so photos it has learned would be validated on; go on with its own --data-root, or '
            'train anew in another --work-dir'
        )
    done, wanted = checkpoint['meta'].get('epoch', 0), cfg.train_cfg.get('max_epochs')
    if wanted is not None and done > wanted:
        raise InputError(
            f'{name}: has trained for {done} epochs, train_cfg.max_epochs is {wanted}: nothing is left to do; '
            f'for more epochs add: --cfg-options train_cfg.max_epochs={done + 1}'
        )


def check_load_from(cfg: Config, checkpoint: dict, name: str, classes: list[str]) -> list[str]:
    """Compares a checkpoint whose weights a new run starts from; returns what is to be looked at, a line each.

    Raises:
        InputError: It is of another architecture.
    """
    wanted = _shapes('model', {**cfg.model, 'backbone': {**cfg.model.backbone, 'init_cfg': None}})
    backbone = {key: shape for key, shape in wanted.items() if key.startswith('backbone.')}
    weights = _state_dict(checkpoint)
    fitting, count = _fit(weights, backbone)
    if fitting < MIN_LOADED * count:
        raise InputError(
            f'load_from: {name} has {fitting} of the {count} weights of the {cfg.model.backbone.type} backbone: of '
            'another architecture; use the config that it was trained with'
        )
    warnings = []
    meta = checkpoint.get('meta') or {}
    trained = list(meta.get('classes') or (meta.get('dataset_meta') or {}).get('classes') or [])
    if classes and trained and trained != classes:
        warnings.append(
            f'load_from: {name} was trained for {", ".join(map(str, trained))}, not for {", ".join(classes)}: '
            'its head is of no use here'
        )
    if other := _other_split(cfg, checkpoint):
        warnings.append(
            f'load_from: {name} {other}: photos it has learned would be validated on, and then the score means nothing'
        )
    return warnings


def _other_split(cfg: Config, checkpoint: dict) -> str | None:
    """Says that a checkpoint was trained on another split than the run's; None where that is not known."""
    known = [checkpoint.get('meta') or {}, checkpoint.get('BestCheckpointHook') or {}]
    before = next((found['dataset_digest'] for found in known if found.get('dataset_digest')), None)
    root = cfg.train_dataloader.dataset.get('data_root')  # a wrapper of datasets has none
    now = read_manifest_digest(Path(root)) if root else None
    if not before or not now or before == now:
        return None
    return f'was trained on another split ({before[:12]}) than {root} ({now[:12]})'


def check_pretrained(model: ConfigDict) -> str | None:
    """Makes sure that the backbone's pretrained weights fit it; returns one line that says how well, None without any.

    Raises:
        InputError: The file is missing or unsafe, or covers under 95 % of the backbone's keys.
    """
    init = model.backbone.get('init_cfg')
    if not isinstance(init, dict) or init.get('type') != 'Pretrained':
        return None
    checkpoint = load_checkpoint(init['checkpoint'])
    prefix = f'{init["prefix"].rstrip(".")}.' if init.get('prefix') else ''
    weights = {k.removeprefix(prefix): v for k, v in _state_dict(checkpoint).items() if k.startswith(prefix)}
    fitting, wanted = _fit(weights, _shapes('model.backbone', model.backbone))
    if fitting < MIN_LOADED * wanted:
        raise InputError(
            f'{init["checkpoint"]}: has {fitting} of the {wanted} weights of the {model.backbone.type} backbone: of '
            'another architecture, or key names of another project; import it with: '
            'python tools/fetch_weights.py NAME --from FILE'
        )
    note = (checkpoint.get('meta') or {}).get('note')
    return f'{init["checkpoint"]}, {fitting}/{wanted} of the backbone' + (f'; {note}' if note else '')


def check_weights(model: ConfigDict, checkpoint: dict, name: str) -> None:
    """Makes sure that a trained checkpoint is of this model.

    Raises:
        InputError: Any weight of the model is missing in it, or of another shape.
    """
    plain = {**model, 'backbone': {k: v for k, v in model.backbone.items() if k != 'init_cfg'}}
    fitting, wanted = _fit(_state_dict(checkpoint), _shapes('model', plain))
    if fitting < wanted:
        raise InputError(
            f'{name}: has {fitting} of the {wanted} weights of this {model.backbone.type} model; '
            'use the config that it was trained with'
        )


def _state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """The weights in a checkpoint, which may be a bare state dict."""
    return {k: v for k, v in checkpoint.get('state_dict', checkpoint).items() if isinstance(v, Tensor)}


def _shapes(name: str, part: dict) -> dict[str, torch.Size]:
    """The shape of each weight that a part of the model will have; it is built without memory where it can be."""
    plain = {k: v for k, v in part.items() if k != 'init_cfg'}
    with random_state_kept(), as_configured(name):
        try:
            with torch.device('meta'):
                built = MODELS.build(dict(plain))
        except Exception:  # some read numbers while they are built, and the meta device has none
            built = MODELS.build(dict(plain))
    return {k: v.shape for k, v in built.state_dict().items() if not k.endswith('num_batches_tracked')}


def _fit(weights: dict[str, Tensor], wanted: dict[str, torch.Size]) -> tuple[int, int]:
    """How many of the weights ``wanted`` are in ``weights`` with the same shape, and how many those are."""
    return sum(k in weights and weights[k].shape == shape for k, shape in wanted.items()), len(wanted)
