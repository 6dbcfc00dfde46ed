"""Before the first step: what in a config, its dataset or its weights would make the run not what one thinks."""

import difflib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine import registry as mmengine_registries
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmpretrain import registry as registries
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from custom_modules.datasets.annotation import check_disjoint, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.checkpoints import checkpoint_classes, load_checkpoint
from custom_modules.errors import InputError, as_configured

MIN_LOADED = 0.95  # share of the backbone's keys that pretrained weights must cover

# Keys that MMEngine reads from a part of the config itself, beside the parameters of the class it builds from it.
READ_BY_MMENGINE = {
    '': {'compile', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'efficient_conv_bn_eval',
         'activation_checkpointing'},
    'dataloader': {'num_batch_per_epoch', 'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn'},
    'optim_wrapper': {'optimizer', 'paramwise_cfg', 'constructor'},
    'param_scheduler': {'convert_to_iter_based'},
    'train_cfg': {'by_epoch'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
}  # fmt: skip
# What MMEngine builds where a config names no type.
DEFAULT_TYPES = {
    'optim_wrapper': 'OptimWrapper',
    'train_cfg': 'EpochBasedTrainLoop',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'log_processor': 'LogProcessor',
}
# Names that configs give to what they use in several places: already put there when options are laid over them.
VARIABLES = {
    'data_root': '--data-root DIR',
    'num_classes': 'model.head.num_classes and data_preprocessor.num_classes',
    'train_pipeline': 'train_dataloader.dataset.pipeline',
    'test_pipeline': 'val_dataloader.dataset.pipeline and test_dataloader.dataset.pipeline',
    'vis_backends': 'visualizer.vis_backends',
}


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuses ``--cfg-options`` keys that nothing would read: MMEngine creates misspelt keys in silence.

    Args:
        cfg: The config before the options are merged.
        options: Dotted key to value, as ``DictAction`` parses them.

    Raises:
        InputError: One line for each unknown key, with the nearest known one.
    """
    problems = []
    for dotted in options:
        node: Any = cfg._cfg_dict
        path: list[str] = []
        for key in dotted.split('.'):
            known = _known_keys(node, path, options)
            if known is None:  # nothing is there yet whose keys could be known
                break
            if key not in known:
                where = '.'.join(path) or 'the config'
                near = difflib.get_close_matches(key, sorted(known), n=1)
                hint = f'; did you mean {".".join([*path, near[0]])}?' if near else ''
                if not path and key in VARIABLES:
                    problems.append(f'--cfg-options {dotted}: has no effect any more; set {VARIABLES[key]}')
                else:
                    problems.append(f'--cfg-options {dotted}: {where} has no {key!r}{hint}')
                break
            path.append(key)
            node = node[int(key)] if isinstance(node, list | tuple) else (node or {}).get(key)
        else:
            value = options[dotted]
            if isinstance(node, dict) and node and not isinstance(value, dict | list | None):
                problems.append(
                    f'--cfg-options {dotted}: holds settings, of which {value!r} is none; set {dotted}.KEY'
                )
            elif dotted.endswith('.type') and isinstance(value, str) and _resolve(value) is None:
                near = [name for name in _registered() if name.lower() == value.lower()]
                near = near or difflib.get_close_matches(value, sorted(_registered()), n=1)
                hint = f'; did you mean {near[0]}?' if near else ''
                problems.append(f'--cfg-options {dotted}: nothing is registered as {value!r}{hint}')
    if problems:
        raise InputError(*problems)


def _known_keys(node: Any, path: list[str], options: dict[str, Any]) -> set[str] | None:
    """The keys that ``node``, found at ``path``, has, that its class takes or that MMEngine reads; None for any."""
    if isinstance(node, list | tuple):
        return {str(i) for i in range(len(node))}
    if not isinstance(node, dict | None):
        return set()
    where = '.'.join(path)
    part = 'dataloader' if re.fullmatch(r'\w+_dataloader', where) else where
    kind = options.get(f'{where}.type') or (node or {}).get('type') or DEFAULT_TYPES.get(part)
    built = {'': Runner, 'dataloader': DataLoader}.get(part) or (_resolve(kind) if isinstance(kind, str) else None)
    if built is None and node is None and part not in READ_BY_MMENGINE:
        return None
    parameters = _parameters(built)
    if parameters is None:
        return None
    known = parameters | READ_BY_MMENGINE.get(part, set())
    if not path:  # what else a config has at the top are its own variables
        return known - {'cfg'}
    if part == 'default_hooks':  # a new hook may have any name, but has a type
        known |= {key.split('.')[1] for key in options if re.fullmatch(r'default_hooks\.\w+\.type', key)}
    return known | set(node or {}) | {'type', '_delete_'}


def _resolve(name: str) -> Any:
    """The class that is registered as ``name``, in whichever registry; None for none."""
    found = (registry.get(name) for registry in _registries())
    return next((cls for cls in found if cls is not None), None)


def _registries() -> list[Registry]:
    """MMPretrain's registries, then MMEngine's, some of which MMPretrain has no child of."""
    both = [*vars(registries).values(), *vars(mmengine_registries).values()]
    return [item for item in both if isinstance(item, Registry)]


def _registered() -> set[str]:
    """The names of all registered classes."""
    return {name for registry in _registries() for name in registry.module_dict}


def _parameters(cls: Any) -> set[str] | None:
    """The named parameters of ``cls`` and of the bases that its ``**kwargs`` reach; None where those go elsewhere."""
    names: set[str] = set()
    open_ended = False
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if base is object or '__init__' not in vars(base):
            continue
        parameters = inspect.signature(vars(base)['__init__']).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if not open_ended:
            break
    return None if open_ended else names


def check_dataset(cfg: Config, loaders: Iterable[str]) -> list[str]:
    """Reads the annotations of ``loaders`` (``'train'``, ``'val'``, ``'test'``) and returns the class names.

    Raises:
        InputError: All that is wrong with ``classes.txt``, the annotation files, or their fit to the model.
    """
    samples = {}
    classes: list[str] = []
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            hint = '; --no-validate trains without one' if name == 'val' else ''
            raise InputError(f'{name}_dataloader: the config has none{hint}')
        dataset = loader.dataset
        if dataset.type != 'FlowerDataset':
            continue
        root = Path(dataset.data_root)
        if not (root / 'classes.txt').is_file():
            raise InputError(f'{root}: {_how_to_prepare(root)}')
        classes = read_classes(root / 'classes.txt')
        samples[name] = read_samples(root / dataset.ann_file, classes, root / dataset.data_prefix)
        read_manifest_digest(root)  # what is wrong with it is better known now than after an epoch
    if {'train', 'val'} <= samples.keys():
        check_disjoint(samples['train'], samples['val'])
    wrong = {
        key: n
        for key, n in (
            ('model.head.num_classes', cfg.model.head.get('num_classes')),
            ('data_preprocessor.num_classes', cfg.get('data_preprocessor', {}).get('num_classes')),
        )
        if classes and n not in (None, len(classes))
    }
    if wrong:
        options = ' '.join(f'{key}={len(classes)}' for key in wrong)
        raise InputError(
            f'{root / "classes.txt"} names {len(classes)} classes, but '
            + ', '.join(f'{key} is {n}' for key, n in wrong.items())
            + f'; add: --cfg-options {options}'
        )
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
    data_root = cfg.train_dataloader.dataset.data_root
    check_classes(checkpoint, name, classes, data_root)
    before = checkpoint.get('BestCheckpointHook', {}).get('dataset_digest')
    now = read_manifest_digest(Path(data_root))
    if before and now and before != now:
        raise InputError(
            f'{name}: was trained on another split ({before[:12]}) than {data_root} ({now[:12]}), so photos it has '
            'learned would be validated on; go on with its own --data-root, or train anew in another --work-dir'
        )
    done, wanted = checkpoint['meta'].get('epoch', 0), cfg.train_cfg.get('max_epochs')
    if wanted is not None and done > wanted:
        raise InputError(
            f'{name}: has trained for {done} epochs, train_cfg.max_epochs is {wanted}: nothing is left to do; '
            f'for more epochs add: --cfg-options train_cfg.max_epochs={done + 1}'
        )


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
    with as_configured('model.backbone'):
        backbone = MODELS.build({k: v for k, v in model.backbone.items() if k != 'init_cfg'})
    fitting, wanted = _fit(weights, backbone)
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
    with as_configured('model'):
        built = MODELS.build(plain)
    fitting, wanted = _fit(_state_dict(checkpoint), built)
    if fitting < wanted:
        raise InputError(
            f'{name}: has {fitting} of the {wanted} weights of this {model.backbone.type} model; '
            'use the config that it was trained with'
        )


def _state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """The weights in a checkpoint, which may be a bare state dict."""
    return {k: v for k, v in checkpoint.get('state_dict', checkpoint).items() if isinstance(v, Tensor)}


def _fit(weights: dict[str, Tensor], module: nn.Module) -> tuple[int, int]:
    """How many weights of ``module`` are in ``weights`` with the same shape, and how many it has."""
    wanted = {k: v.shape for k, v in module.state_dict().items() if not k.endswith('num_batches_tracked')}
    return sum(k in weights and weights[k].shape == shape for k, shape in wanted.items()), len(wanted)
