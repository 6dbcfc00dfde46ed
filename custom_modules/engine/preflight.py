"""Before the first step: what in a config, its dataset or its weights would make the run not what one thinks."""

from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from custom_modules.datasets.annotation import check_disjoint, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.checkpoints import checkpoint_classes, load_checkpoint
from custom_modules.errors import InputError, as_configured

MIN_LOADED = 0.95  # share of the backbone's keys that pretrained weights must cover


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
