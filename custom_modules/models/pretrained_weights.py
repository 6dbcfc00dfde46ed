"""ImageNet weights for MMPretrain's backbones: fetched, or converted from torchvision's and timm's checkpoints.

A file is recognised by its keys and converted. It is written only if the converted backbone computes the same features
as the model that the file was made for.
"""

import http.client
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from mmpretrain.registry import MODELS
from torch import hub, nn

from custom_modules.errors import InputError, require_packages
from custom_modules.files import check_folder, sha256_of
from custom_modules.models.checkpoints import load_checkpoint, named_hash, save_atomically
from custom_modules.models.weights_catalogue import NOTES, WEIGHTS, require_file
from custom_modules.upstream import silenced

State = dict[str, torch.Tensor]

TIMEOUT = 30.0
"""Seconds a server may stay silent before the next source is tried."""

TOLERANCE = 1e-4
"""Largest difference of two models' features allowed, as a share of the largest feature.

Rounding in float32 gives 1e-6. Two swapped layers of equal shape give 0.5 or more, another epsilon 0.04.
"""

INTEGERS = 'num_batches_tracked', 'relative_position_index'  # batch norm's steps, Swin's places


def provide_weights(name: str, out: Path, file: Path | None = None, progress: bool = False) -> list[str]:
    """Writes a model's weights as ``{name}.pth`` into the folder ``out``, unless they are there.

    Args:
        name: A model of the catalogue.
        out: The folder.
        file: A checkpoint to convert; None to fetch one, from the first source with a valid file.
        progress: Whether to show a bar for downloads.

    Returns:
        Lines for the user.

    Raises:
        InputError: No file is usable, or another one is there. Nothing is written then.
    """
    if file is not None:
        require_file(file)
    path = out / f'{name}.pth'
    if path.exists():
        return _check_existing(path, name, file)
    check_folder(out)
    if file is not None:
        return _import(file, name, path, file.name)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for publisher, url in WEIGHTS[name].sources.items():
            file = Path(folder, Path(url).name)
            try:
                _download(url, file, progress)
                return _import(file, name, path, url)
            except InputError as error:
                failures.append(f'{publisher}: {url}: {error}'.replace(f'{file}: ', ''))
    raise InputError(
        f'{name}: no source could be used',
        *failures,
        'Download one of these by other means, then call: '
        f'python tools/fetch_weights.py {name} --from FILE (MMPretrain, torchvision or timm keys)',
    )


def _check_existing(path: Path, name: str, file: Path | None) -> list[str]:
    """Refuses an existing weights file that is damaged, is something else, or was made from another file."""
    checkpoint = load_checkpoint(path)
    meta = checkpoint.get('meta') or {}
    if meta.get('model') != name:
        raise InputError(
            f'{path}: exists, and was not written by this tool. Move it elsewhere, then call: '
            f'python tools/fetch_weights.py {name} --from FILE'
        )
    convert(name, usable_state(checkpoint, path), path)
    if file is not None and sha256_of(file) != meta.get('sha256'):
        raise InputError(f'{path}: exists with other weights (from {meta.get("source")}). Move it elsewhere first.')
    done = f'{path}: already there and intact, from {meta["source"]}; nothing done'
    return [done, *_remark(meta)]


def _import(file: Path, name: str, path: Path, source: str) -> list[str]:
    """Writes the weights in ``file``, which came from ``source``, to ``path``."""
    sha256 = sha256_of(file)
    state, layout, proof = convert(name, usable_state(load_checkpoint(file), file), file)
    meta = {'model': name, 'source': source, 'sha256': sha256, 'converted_from': layout}
    meta['note'] = NOTES.get(sha256, '')
    path.parent.mkdir(parents=True, exist_ok=True)
    save_atomically({'state_dict': {f'backbone.{key}': value for key, value in state.items()}, 'meta': meta}, path)
    return [
        f'{len(state)} tensors from {layout} keys: 100 % of the backbone',
        f'proof: {proof}',
        f'source sha256 {sha256} ({"as in its name" if named_hash(file) else "not in its name"})',
        *_remark(meta),
        f'written: {path}',
    ]


def _remark(meta: Mapping[str, str]) -> list[str]:
    return [f'note: {meta["note"]}'] if meta['note'] else []


def usable_state(checkpoint: dict[str, Any], path: Path) -> State:
    """The tensors of a checkpoint, bare or under ``state_dict`` or ``model``, in float32; all must be finite."""
    state: Any = checkpoint
    for wrapper in ('state_dict', 'model'):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not state:
        raise InputError(f'{path}: holds no state_dict. Give a checkpoint of the whole model.')
    if odd := [str(key) for key, value in state.items() if not _is_usable(key, value)]:
        raise InputError(f'{path}: no tensor of finite floating-point numbers: {_some(odd)}. Give another file.')
    return {key: value if key.endswith(INTEGERS) else value.float() for key, value in state.items()}


def _is_usable(key: Any, value: Any) -> bool:
    """Whether a value is a dense tensor of finite floating-point numbers, or of integers."""
    if not isinstance(key, str) or not isinstance(value, torch.Tensor):
        return False
    plain = value.is_floating_point() and value.layout == torch.strided and not value.is_meta
    return key.endswith(INTEGERS) or (plain and bool(value.isfinite().all()))


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    return ', '.join(known[:3]) + (f' … ({len(known)} in all)' if len(known) > 3 else '')


def convert(name: str, state: State, file: Path) -> tuple[State, str, str]:
    """Converts a float32 state_dict of the model ``name`` to MMPretrain's names; its features must be the same.

    The models define the same layers in the same order, so the n-th tensor of one is the n-th of the other. The
    classifier comes last, and is left out.

    Returns:
        The backbone's state, the layout of the source (mmpretrain, torchvision or timm), and the proof in words.
    """
    backbone = build_backbone(name)
    ours = list(backbone.state_dict())
    if any(key.startswith('backbone.') for key in state):
        inner = {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
        _load(backbone, inner, ours, f'{file}: does not fit {name}')
        return backbone.state_dict(), 'mmpretrain', 'loads strictly into the backbone'

    # timm's ResNets have torchvision's keys.
    layout = 'timm' if any(key.startswith(('conv_stem.', 'cls_token')) for key in state) else 'torchvision'
    if not (WEIGHTS[name].timm_name if layout == 'timm' else 'torchvision' in WEIGHTS[name].sources):
        known = f"neither MMPretrain's keys (backbone.…) nor others that {name} is converted from"
        raise InputError(f'{file}: has {known}. See checkpoints/README.md for files that can be used.')
    source, features = _build_source(name, layout)
    theirs = list(source.state_dict())
    needed, classifier = theirs[: len(ours)], theirs[len(ours) :]
    state = {key: value for key, value in state.items() if key not in classifier}
    _load(source, state, needed, f"{file}: does not fit {layout}'s {name}")
    converted = {own: state[key] for own, key in zip(ours, needed, strict=True) if key in state}
    _match_eps(converted, backbone, source)
    backbone.load_state_dict(converted)

    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = features(batch), backbone(batch)[-1]
    expected = expected[:, 0] if expected.ndim == 3 else expected  # a vision transformer's class token
    largest = expected.abs().max()
    difference = float((expected - found).abs().max() / largest) if expected.shape == found.shape else float('inf')
    if not difference <= TOLERANCE:  # NaN is no proof
        raise InputError(
            f'{file}: not written, the features differ by {difference:.1e} of the largest after conversion from '
            f'{layout} keys ({TOLERANCE:.0e} allowed). Give another file.'
        )
    proof = f'features differ by at most {difference:.1e} of the largest ({TOLERANCE:.0e} allowed: float32 rounding)'
    return converted, layout, proof


def build_backbone(name: str) -> nn.Module:
    """MMPretrain's backbone of that name, in eval mode, as its base config has it."""
    with silenced():  # MobileNetV3's HSigmoid warns
        backbone = MODELS.build(dict(WEIGHTS[name].backbone))
    backbone.eval()  # returns None: MMPretrain's backbones override train() without returning themselves
    return backbone


def _build_source(name: str, layout: str) -> tuple[nn.Module, Callable]:
    """The model of torchvision or timm, in eval mode, and the function that gives its features before pooling."""
    if layout == 'torchvision':
        model = torchvision.models.get_model(name, weights=None).eval()
        # A ResNet has no ``features``: all of it but avgpool and fc.
        return model, getattr(model, 'features', None) or nn.Sequential(*list(model.children())[:-2])
    require_packages({'timm': 'timm'}, 'converting from timm keys')
    import timm

    model = timm.create_model(WEIGHTS[name].timm_name, pretrained=False).eval()
    return model, model.forward_features


def _load(model: nn.Module, state: State, needed: list[str], complaint: str) -> None:
    """Loads a state with exactly the ``needed`` keys; step counters may be missing."""
    problems = []
    try:
        # A state_dict without torch's own metadata may lack batch norm's step counters.
        missing, unexpected = model.load_state_dict(state, strict=False)
        if unexpected:
            problems.append(f'unexpected {_some(unexpected)}')
        if missing := set(missing).intersection(needed):
            problems.append(f'{_some(missing)} not in the file')
    except RuntimeError as error:  # shapes
        problems = [line.strip() for line in str(error).splitlines()[1:2]]
    if problems:
        known = ', '.join(WEIGHTS)
        raise InputError(f'{complaint}: {"; ".join(problems)}. Give another file, or the name of its model: {known}.')


def _match_eps(state: State, backbone: nn.Module, source: nn.Module) -> None:
    """Lets batch norm's scale absorb another epsilon, so that w / sqrt(var + eps) stays the same.

    timm's MobileNetV3 uses 1e-5, MMPretrain's and torchvision's 1e-3.
    """
    eps = {module.eps for module in source.modules() if isinstance(module, nn.BatchNorm2d)}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d) and {module.eps} != eps:
            var = state[f'{name}.running_var']
            scale = ((var + module.eps) / (var + min(eps))).sqrt()
            state[f'{name}.weight'] = state[f'{name}.weight'] * scale


def _download(url: str, file: Path, progress: bool) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub sets none, and would wait for a silent server forever
    try:
        hub.download_url_to_file(url, str(file), progress=progress)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(str(error) or type(error).__name__) from error
    finally:
        socket.setdefaulttimeout(before)
