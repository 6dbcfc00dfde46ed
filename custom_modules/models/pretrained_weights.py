"""ImageNet weights before training: their way into MMPretrain's key names. Which there are: weights_catalogue.py.

A file is fetched or imported, recognised by its keys, converted by an explicit table of module names, and written only
once the converted backbone is shown to compute the same features as the model the file was made for. No training here.
"""

import http.client
import re
import socket
import tempfile
import warnings
from collections.abc import Mapping
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

float32 rounds at 6e-8; some 50 layers summed in another order stay near 1e-6. Two equal-shaped layers in each
other's place move MobileNetV2's features by 0.5 and more (64 pairs tried), timm's other epsilon MobileNetV3's by 0.04.
"""

LAYOUTS = ('mmpretrain', 'torchvision', 'timm')


@dataclass(frozen=True)
class Imported:
    """What was written, and how it was proven.

    Args:
        path: The written file.
        layout: Whose key names the source file had.
        converted: Number of tensors taken over.
        covered: Share of the backbone's tensors among them, 0 to 1 (batch norm's step counters left aside).
        difference: Largest difference of features relative to the largest feature; ``None`` where the file was
            MMPretrain's own and strict loading is the proof.
        sha256: Of the source file.
        hash_known: Whether the sha256 begins as the file's name says; ``False`` where it says nothing.
        note: What has to be known about these weights, or empty.
    """

    path: Path
    layout: str
    converted: int
    covered: float
    difference: float | None
    sha256: str
    hash_known: bool
    note: str


# ---------------------------------------------------------------------------------------------- names of the modules

_DEPTHS = {
    'mobilenet_v2': (1, 2, 3, 4, 3, 3, 1),
    'mobilenet_v3_large': (1, 2, 3, 4, 2, 3),
    'mobilenet_v3_small': (1, 2, 3, 2, 3),
}
"""Blocks per stage as timm counts stages (MobileNetV2: as everybody does)."""

_RESNETS = {'resnet18': ((2, 2, 2, 2), 2), 'resnet50': ((3, 4, 6, 3), 3)}
"""Blocks per stage, and convolutions per block."""

_SQUEEZE = {
    'mobilenet_v2': set(),
    'mobilenet_v3_large': {4, 5, 6, 11, 12, 13, 14, 15},
    'mobilenet_v3_small': {1, 4, 5, 6, 7, 8, 9, 10, 11},
}
"""Numbers of the blocks, from 1, that have squeeze-and-excitation."""

_CLASSIFIER = re.compile(r'(classifier|fc|head|conv_head)(\.|$)')


def module_names(name: str, layout: str) -> dict[str, str]:
    """Which module of a source model is which module of MMPretrain's backbone.

    Args:
        name: A model of :data:`WEIGHTS`.
        layout: ``mmpretrain``, ``torchvision`` or ``timm``.

    Returns:
        Source module → backbone module, for every module that holds tensors, classifier excepted.
    """
    if layout == 'mmpretrain':
        return {f'backbone.{target}': target for target in module_names(name, 'torchvision').values()}
    if name in _RESNETS:  # the three agree
        return {module: module for module in _resnet_modules(*_RESNETS[name])}

    v2, torchvision = name == 'mobilenet_v2', layout == 'torchvision'
    depths = _DEPTHS[name]
    stem, last = ('conv1', 'conv2') if v2 else ('layer0', f'layer{sum(depths) + 1}')
    table = {}

    def add(conv: str, bn: str, target: str) -> None:
        table.update({conv: f'{target}.conv', bn: f'{target}.bn'})

    if torchvision:
        add('features.0.0', 'features.0.1', stem)
        add(f'features.{sum(depths) + 1}.0', f'features.{sum(depths) + 1}.1', last)
    else:
        add('conv_stem', 'bn1', stem)
        add(*(('conv_head', 'bn2') if v2 else (f'blocks.{len(depths)}.0.conv', f'blocks.{len(depths)}.0.bn1')), last)

    number = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            number += 1
            convs = ['expand', 'depthwise', 'linear'][number == 1 :]  # the first block does not expand
            squeeze = number in _SQUEEZE[name]
            for i, conv in enumerate(convs):
                target = f'layer{stage + 1}.{block}.conv.{i}' if v2 else f'layer{number}.{conv}_conv'
                if not torchvision:
                    kind = {'expand': 'pw', 'depthwise': 'dw', 'linear': 'pw' if number == 1 else 'pwl'}[conv]
                    add(f'blocks.{stage}.{block}.conv_{kind}', f'blocks.{stage}.{block}.bn{i + 1}', target)
                elif v2 and conv == 'linear':  # without an activation it stands loose, not in a Conv2dNormActivation
                    add(f'features.{number}.conv.{i}', f'features.{number}.conv.{i + 1}', target)
                else:
                    part = f'conv.{i}' if v2 else f'block.{i + (squeeze and conv == "linear")}'
                    add(f'features.{number}.{part}.0', f'features.{number}.{part}.1', target)
            if squeeze:
                prefix = (
                    f'features.{number}.block.{len(convs) - 1}.fc' if torchvision else f'blocks.{stage}.{block}.se.'
                )
                for i, part in enumerate(('1', '2') if torchvision else ('conv_reduce', 'conv_expand')):
                    table[f'{prefix}{part}'] = f'layer{number}.se.conv{i + 1}.conv'
    return table


def _resnet_modules(depths: tuple[int, ...], convs: int) -> list[str]:
    blocks = [f'layer{stage}.{block}' for stage, depth in enumerate(depths, 1) for block in range(depth)]
    parts = [f'{kind}{number}' for number in range(1, convs + 1) for kind in ('conv', 'bn')]
    # Where blocks have three convolutions, layer1 widens too; a block that keeps its width has no downsample.
    widening = [f'layer{stage}.0' for stage in range(1 if convs == 3 else 2, 5)]
    names = ['conv1', 'bn1', *(f'{block}.{part}' for block in blocks for part in parts)]
    return names + [f'{block}.downsample.{i}' for block in widening for i in (0, 1)]


def recognise(state: Mapping[str, Any], name: str, file: str) -> str:
    """The layout of a state_dict, told by its keys.

    Args:
        state: A state_dict; only its keys are read.
        name: The model it should be.
        file: What to call it in the messages.

    Raises:
        InputError: If it is another model's or nobody's.
    """
    modules = {key.rpartition('.')[0] for key in state}
    candidates: list[tuple[float, bool, int, str, str, set[str], set[str]]] = []
    for model in WEIGHTS:
        for layout in LAYOUTS:
            expected = set(module_names(model, layout))
            found = {module for module in modules if module in expected or not _CLASSIFIER.match(module)}
            likeness = len(expected & found) / len(expected | found)
            # On a tie the model asked for, then the first layout: torchvision's and timm's ResNets are one.
            candidates.append((likeness, model == name, -len(candidates), model, layout, expected, found))
    likeness, _, _, model, layout, expected, found = max(candidates)
    if likeness < 0.5:
        raise InputError(
            f'{file}: its keys ({_some(state)}) are not those of {", ".join(WEIGHTS)} as MMPretrain, torchvision or '
            'timm name them'
        )
    if likeness < 1:
        lacks, more = expected - found, found - expected
        said = [f'lacks {_some(lacks)}'] * bool(lacks) + [f'has {_some(more)} besides'] * bool(more)
        raise InputError(f'{file}: nearest to {model} with {layout} keys, but {" and ".join(said)}: another model')
    if model != name:
        raise InputError(
            f'{file}: looks like {model} ({layout} keys), not {name}: '
            f'call python tools/fetch_weights.py {model} --from "{file}"'
        )
    return layout


def _some(names: Any) -> str:
    shown = sorted(names)[:3]
    return ', '.join(shown) + (f' … ({len(names)} in all)' if len(names) > 3 else '')


# ------------------------------------------------------------------------------------------- reading and converting


def read_state(path: Path) -> State:
    """The float32 tensors of a checkpoint, bare or under ``state_dict`` or ``model``.

    Raises:
        InputError: If it cannot be read as plain data, or holds no finite tensors under names.
    """
    state: Any = load_checkpoint(path)
    for wrapper in ('state_dict', 'model'):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not state:
        raise InputError(f'{path}: holds no state_dict')
    if odd := [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]:
        raise InputError(f'{path}: not a state_dict: {_some([str(key) for key in odd])} is no tensor under a name')
    steps = {key: value for key, value in state.items() if key.endswith('num_batches_tracked')}
    weights = {key: value for key, value in state.items() if key not in steps}
    if odd := [
        key for key, value in weights.items() if not value.is_floating_point() or value.layout != torch.strided
    ]:
        raise InputError(f'{path}: no plain floating-point numbers in {_some(odd)}: quantised or sparse weights')
    weights = {key: value.float() for key, value in weights.items()}
    if odd := [key for key, value in weights.items() if value.is_meta or not value.isfinite().all()]:
        raise InputError(f'{path}: NaN, infinity or nothing in {_some(odd)}')
    return weights | steps


def convert(name: str, state: State, file: str) -> tuple[State, str, float | None, float]:
    """A backbone's state_dict in MMPretrain's names, proven to compute what the source computes.

    Args:
        name: A model of :data:`WEIGHTS`.
        state: float32 tensors in any of :data:`LAYOUTS`.
        file: What to call it in the messages.

    Returns:
        The state, the layout it came in, the largest difference of the features relative to the largest one (``None``
        for MMPretrain's own), and the share of the backbone's tensors given (step counters left aside).

    Raises:
        InputError: If it is another model, does not fit, or the features differ.
    """
    layout = recognise(state, name, file)
    table = module_names(name, layout)
    state = {key: value for key, value in state.items() if key.rpartition('.')[0] in table}
    converted = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition('.')
        converted[f'{table[module]}.{leaf}'] = value.clone()

    backbone = build_backbone(name)
    needed = {key for key in backbone.state_dict() if not key.endswith('num_batches_tracked')}
    covered = len(needed & converted.keys()) / len(needed)
    misfit = f"{file}: does not fit {layout}'s {name}"
    if layout == 'mmpretrain':
        _load(backbone, converted, misfit)
        return converted, layout, None, covered
    source, features = _build_source(name, layout)
    _load(source, state, misfit)
    _match_eps(converted, backbone, source)
    _load(backbone, converted, f'{file}: converted, does not fit the backbone of {name}')

    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = features(batch), backbone(batch)[-1]
    largest = theirs.abs().max()
    difference = float((theirs - ours).abs().max() / largest) if theirs.shape == ours.shape else float('inf')
    if not difference <= TOLERANCE:  # NaN is no proof
        raise InputError(
            f'{file}: converted from {layout} keys, the features differ by {difference:.1e} of the largest '
            f'({TOLERANCE:.0e} allowed): not written'
        )
    return converted, layout, difference, covered


def build_backbone(name: str) -> nn.Module:
    """MMPretrain's backbone of that name, in eval mode, as its base config has it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # HSigmoid's, which says nothing about these models
        backbone = MODELS.build(dict(WEIGHTS[name].backbone))
    backbone.eval()  # returns None: MMPretrain's backbones override train() without returning themselves
    return backbone


def _build_source(name: str, layout: str) -> tuple[nn.Module, Any]:
    """The model a file was made for, in eval mode, and the function that gives its features before pooling."""
    if layout == 'torchvision':
        model = torchvision.models.get_model(name, weights=None).eval()
        if name in _RESNETS:
            return model, nn.Sequential(*list(model.children())[:-2])  # without avgpool and fc
        return model, model.features
    try:
        import timm
    except ImportError as error:
        raise InputError('the file has timm keys, and checking it needs timm: pip install timm') from error
    model = timm.create_model(WEIGHTS[name].timm_name, pretrained=False).eval()
    return model, model.forward_features


def _load(model: nn.Module, state: State, complaint: str) -> None:
    """Loads strictly, but for the classifier and for batch norm's step counters, which no computation here reads."""
    modules = {key.rpartition('.')[0] for key in state}
    needed = {key for key in model.state_dict() if key.rpartition('.')[0] in modules}
    try:
        missing = needed & set(model.load_state_dict(state, strict=False).missing_keys)
    except RuntimeError as error:  # shapes
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        more = f' … ({len(lines)} in all)' if len(lines) > 1 else ''
        raise InputError(f'{complaint}: {lines[0]}{more}') from error
    if unexpected := set(state) - set(model.state_dict()):
        raise InputError(f'{complaint}: it has no {_some(unexpected)}')
    if missing := {key for key in missing if not key.endswith('num_batches_tracked')}:
        raise InputError(f'{complaint}: {_some(missing)} not in the file')


def _match_eps(state: State, backbone: nn.Module, source: nn.Module) -> None:
    """Lets batch norm's scale absorb another epsilon: w / sqrt(var + eps) stays what it was.

    timm's MobileNetV3 uses 1e-5, MMPretrain's and torchvision's 1e-3.
    """
    (source_eps,) = {module.eps for module in source.modules() if isinstance(module, nn.BatchNorm2d)}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.eps != source_eps:
            var = state[f'{name}.running_var']
            state[f'{name}.weight'] *= ((var + module.eps) / (var + source_eps)).sqrt()


# ------------------------------------------------------------------------------------------------ importing, fetching


def import_weights(name: str, file: Path, out: Path, source: str | None = None) -> Imported:
    """Writes a model's weights file from a local one; on failure nothing is written.

    Args:
        name: A model of :data:`WEIGHTS`.
        file: A checkpoint with MMPretrain's, torchvision's or timm's keys.
        out: Folder to write to; made if absent.
        source: What to remember as its origin. Defaults to the file's name.

    Raises:
        InputError: If the file is unusable, or cannot be proven to be that model's.
    """
    sha256 = file_sha256(file)
    state, layout, difference, covered = convert(name, read_state(file), str(file))
    note = NOTES.get(sha256, '')
    meta = {'model': name, 'source': source or file.name, 'sha256': sha256, 'converted_from': layout, 'note': note}
    path = out / WEIGHTS[name].file
    out.mkdir(parents=True, exist_ok=True)
    save_atomically({'state_dict': {f'backbone.{k}': v for k, v in state.items()}, 'meta': meta}, path)
    return Imported(path, layout, len(state), covered, difference, sha256, named_hash(file) is not None, note)


def fetch_weights(name: str, out: Path, progress: bool = False) -> Imported:
    """Writes a model's weights file from the first of its sources that delivers a good one.

    Args:
        name: A model of :data:`WEIGHTS`.
        out: Folder to write to; made if absent.
        progress: Whether to draw a progress bar.

    Raises:
        InputError: If every source fails: what each one said, and how to go on.
    """
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
        f'{name}: none of its sources delivered',
        *failures,
        'download one of these by other means and call: '
        f'python tools/fetch_weights.py {name} --from FILE (MMPretrain, torchvision or timm keys)',
    )


def present(name: str, out: Path, file: Path | None = None) -> dict | None:
    """The ``meta`` of the weights file that is already there, or ``None`` if there is none.

    Args:
        name: A model of :data:`WEIGHTS`.
        out: Folder to look in.
        file: The file about to be imported.

    Raises:
        InputError: If what is there is damaged, is something else, or comes from another file than ``file``.
    """
    path = out / WEIGHTS[name].file
    if not path.exists():
        return None
    meta = load_checkpoint(path).get('meta')
    if not isinstance(meta, dict) or meta.get('model') != name:
        raise InputError(
            f'{path}: in the way, and not written by this tool; move it elsewhere, '
            f'then call: python tools/fetch_weights.py {name} --from FILE'
        )
    convert(name, read_state(path), str(path))
    if file is not None and file_sha256(file) != meta.get('sha256'):
        raise InputError(
            f'{path}: in the way, holds other weights (from {meta.get("source")}); move it elsewhere first'
        )
    return meta


def _download(source: Source, file: Path, progress: bool) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub passes none, and would wait for a silent server for ever
    try:
        hub.download_url_to_file(source.url, str(file), hash_prefix=source.hash_prefix, progress=progress)
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: the hash
        raise InputError(str(error) or type(error).__name__) from error
    finally:
        socket.setdefaulttimeout(before)
