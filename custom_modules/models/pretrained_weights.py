"""ImageNet weights for MMPretrain's backbones: fetched, or converted from torchvision's and timm's checkpoints.

A file is recognised by its keys and converted. It is written only if the converted backbone computes the same features
as the model that the file was made for.
"""

import http.client
import re
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from mmpretrain.registry import MODELS
from torch import hub, nn

from custom_modules.errors import InputError
from custom_modules.models.checkpoints import file_sha256, load_checkpoint, named_hash, save_atomically
from custom_modules.models.weights_catalogue import NOTES, WEIGHTS, Source

State = dict[str, torch.Tensor]

TIMEOUT = 30.0
"""Seconds a server may stay silent before the next source is tried."""

TOLERANCE = 1e-4
"""Largest difference of two models' features allowed, as a share of the largest feature.

Rounding in float32 gives 1e-6. Two swapped layers of equal shape give 0.5 or more, another epsilon 0.04.
"""

COUNTER = 'num_batches_tracked'  # batch norm's step counter, not read by any computation here

_CLASSIFIER = re.compile(r'(classifier|fc|head|conv_head)(\.|$)')


@dataclass(frozen=True)
class Imported:
    """A written weights file, and its proof."""

    path: Path
    meta: dict[str, str]  # model, source, sha256 and layout of the source (``converted_from``), note
    converted: int  # tensors
    difference: float | None  # of features, relative to the largest; None where strict loading is the proof
    hash_known: bool  # whether the source file's name has the beginning of its sha256


def module_names(name: str, layout: str) -> dict[str, str]:
    """Maps the modules of a source model (mmpretrain, torchvision or timm) to those of MMPretrain's backbone.

    The models define the same layers in the same order, so the n-th module of one is the n-th of the other; the
    classifier comes last, and is left out. :func:`convert` proves each mapping by the features.
    """
    targets = _modules(build_backbone(name).state_dict())
    if layout == 'mmpretrain':
        return {f'backbone.{target}': target for target in targets}
    return dict(zip(_modules(_build_source(name, layout)[0].state_dict()), targets, strict=False))


def _modules(state: Iterable[str]) -> list[str]:
    """The modules that hold the tensors of a state_dict, each once, in order."""
    return list(dict.fromkeys(key.rpartition('.')[0] for key in state))


def recognise(state: Mapping[str, Any], name: str, file: str) -> str:
    """The layout of a state_dict by its keys, which must be those of the model ``name``."""
    modules = set(_modules(state))
    if any(module.startswith('backbone.') for module in modules):
        layout = 'mmpretrain'
    else:  # timm's ResNets have torchvision's keys
        layout = 'timm' if 'conv_stem' in modules else 'torchvision'

    def differences(model: str) -> set[str]:
        return {part for part in modules ^ set(module_names(model, layout)) if not _CLASSIFIER.match(part)}

    if not (found := differences(name)):
        return layout
    if other := [model for model in WEIGHTS if not differences(model)]:
        raise InputError(
            f'{file}: looks like {other[0]} ({layout} keys), not {name}. '
            f'Call python tools/fetch_weights.py {other[0]} --from "{file}".'
        )
    raise InputError(
        f'{file}: another model, no {name} with {layout} keys: they differ in {_some(found)}. '
        f'Give one of {", ".join(WEIGHTS)} with MMPretrain, torchvision or timm keys.'
    )


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    return ', '.join(known[:3]) + (f' … ({len(known)} in all)' if len(known) > 3 else '')


def read_state(path: Path) -> State:
    """The tensors of a checkpoint, bare or under ``state_dict`` or ``model``, in float32; all must be finite."""
    state: Any = load_checkpoint(path)
    for wrapper in ('state_dict', 'model'):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not state:
        raise InputError(f'{path}: holds no state_dict. Give a checkpoint of the whole model.')
    if odd := [str(key) for key, value in state.items() if not _is_usable(key, value)]:
        raise InputError(f'{path}: no tensor of finite floating-point numbers: {_some(odd)}. Give another file.')
    return {key: value if key.endswith(COUNTER) else value.float() for key, value in state.items()}


def _is_usable(key: Any, value: Any) -> bool:
    """Whether a value is a dense tensor of finite floating-point numbers, or a step counter."""
    if not isinstance(key, str) or not isinstance(value, torch.Tensor):
        return False
    plain = value.is_floating_point() and value.layout == torch.strided and not value.is_meta
    return key.endswith(COUNTER) or (plain and bool(value.isfinite().all()))


def convert(name: str, state: State, file: str) -> tuple[State, str, float | None]:
    """Converts a float32 state_dict of the model ``name`` to MMPretrain's names; its features must be the same.

    Returns:
        The backbone's state, the layout of the source, and the largest difference of the features relative to the
        largest one (``None`` for MMPretrain's own).
    """
    layout = recognise(state, name, file)
    table = module_names(name, layout)
    state = {key: value for key, value in state.items() if key.rpartition('.')[0] in table}
    split = {key: key.rpartition('.') for key in state}
    converted = {f'{table[module]}.{leaf}': state[key].clone() for key, (module, _, leaf) in split.items()}
    backbone = build_backbone(name)
    if layout == 'mmpretrain':
        _load(backbone, converted, name, file)
        return converted, layout, None
    source, features = _build_source(name, layout)
    _load(source, state, f"{layout}'s {name}", file)
    _match_eps(converted, backbone, source)
    backbone.load_state_dict(converted, strict=False)

    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = features(batch), backbone(batch)[-1]
    largest = theirs.abs().max()
    difference = float((theirs - ours).abs().max() / largest) if theirs.shape == ours.shape else float('inf')
    if not difference <= TOLERANCE:  # NaN is no proof
        raise InputError(
            f'{file}: not written, the features differ by {difference:.1e} of the largest after conversion from '
            f'{layout} keys ({TOLERANCE:.0e} allowed). Give another file.'
        )
    return converted, layout, difference


def build_backbone(name: str) -> nn.Module:
    """MMPretrain's backbone of that name, in eval mode, as its base config has it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # HSigmoid's, irrelevant to these models
        backbone = MODELS.build(dict(WEIGHTS[name].backbone))
    backbone.eval()  # returns None: MMPretrain's backbones override train() without returning themselves
    return backbone


def _build_source(name: str, layout: str) -> tuple[nn.Module, Callable]:
    """The model of torchvision or timm, in eval mode, and the function that gives its features before pooling."""
    if layout == 'torchvision':
        model = torchvision.models.get_model(name, weights=None).eval()
        # A ResNet has no ``features``: all of it but avgpool and fc.
        return model, getattr(model, 'features', None) or nn.Sequential(*list(model.children())[:-2])
    try:
        import timm
    except ImportError as error:
        raise InputError('the file has timm keys, and checking it needs timm: pip install timm') from error
    model = timm.create_model(WEIGHTS[name].timm_name, pretrained=False).eval()
    return model, model.forward_features


def _load(model: nn.Module, state: State, name: str, file: str) -> None:
    """Loads strictly, except for modules that the state lacks (the classifier) and batch norm's step counters."""
    modules = set(_modules(state))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
        missing = [key for key in missing if key.rpartition('.')[0] in modules and not key.endswith(COUNTER)]
        problems = [f'unexpected {_some(unexpected)}'] * bool(unexpected)
        problems += [f'{_some(missing)} not in the file'] * bool(missing)
    except RuntimeError as error:  # shapes
        problems = [line.strip() for line in str(error).splitlines()[1:2]]
    if problems:
        raise InputError(f'{file}: does not fit {name}: {"; ".join(problems)}. Give another file.')


def _match_eps(state: State, backbone: nn.Module, source: nn.Module) -> None:
    """Lets batch norm's scale absorb another epsilon, so that w / sqrt(var + eps) stays the same.

    timm's MobileNetV3 uses 1e-5, MMPretrain's and torchvision's 1e-3.
    """
    (source_eps,) = {module.eps for module in source.modules() if isinstance(module, nn.BatchNorm2d)}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.eps != source_eps:
            var = state[f'{name}.running_var']
            state[f'{name}.weight'] *= ((var + module.eps) / (var + source_eps)).sqrt()


def import_weights(name: str, file: Path, out: Path, source: str | None = None) -> Imported:
    """Writes a model's weights file into the folder ``out`` from a checkpoint, whose origin is ``source``.

    Nothing is written if the file is unusable or another model's (InputError).
    """
    sha256 = file_sha256(file)
    state, layout, difference = convert(name, read_state(file), str(file))
    meta = {'model': name, 'source': source or file.name, 'sha256': sha256, 'converted_from': layout}
    meta['note'] = NOTES.get(sha256, '')
    path = out / f'{name}.pth'
    out.mkdir(parents=True, exist_ok=True)
    save_atomically({'state_dict': {f'backbone.{key}': value for key, value in state.items()}, 'meta': meta}, path)
    return Imported(path, meta, len(state), difference, named_hash(file) is not None)


def fetch_weights(name: str, out: Path, progress: bool = False) -> Imported:
    """Writes a model's weights file into ``out``, from the first source with a valid file."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for source in WEIGHTS[name].sources:
            file = Path(folder, source.file_name)
            try:
                _download(source, file, progress)
                return import_weights(name, file, out, source.url)
            except InputError as error:
                failures.append(f'{source.owner}: {source.url}: {error}'.replace(f'{file}: ', ''))
    raise InputError(
        f'{name}: no source could be used',
        *failures,
        'Download one of these by other means, then call: '
        f'python tools/fetch_weights.py {name} --from FILE (MMPretrain, torchvision or timm keys)',
    )


def present(name: str, out: Path, file: Path | None = None) -> dict | None:
    """The ``meta`` of an existing weights file in ``out``, or ``None`` if there is none.

    Refuses one that is damaged, is something else, or was made from another file than ``file``.
    """
    path = out / f'{name}.pth'
    if not path.exists():
        return None
    meta = load_checkpoint(path).get('meta') or {}
    if meta.get('model') != name:
        raise InputError(
            f'{path}: exists, and was not written by this tool. Move it elsewhere, then call: '
            f'python tools/fetch_weights.py {name} --from FILE'
        )
    convert(name, read_state(path), str(path))
    if file is not None and file_sha256(file) != meta.get('sha256'):
        raise InputError(f'{path}: exists with other weights (from {meta.get("source")}). Move it elsewhere first.')
    return meta


def _download(source: Source, file: Path, progress: bool) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub sets none, and would wait for a silent server forever
    try:
        hub.download_url_to_file(source.url, str(file), hash_prefix=source.hash_prefix, progress=progress)
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: the hash
        raise InputError(str(error) or type(error).__name__) from error
    finally:
        socket.setdefaulttimeout(before)
