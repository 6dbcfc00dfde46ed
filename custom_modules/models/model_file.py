"""A trained model opened from its file: a checkpoint (``.pth``) or an exported model (``.onnx``), read once.

Importing this module needs neither torch nor ONNX Runtime; opening a file needs the one of its format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom_modules.errors import InputError
from custom_modules.models.saved_config import config_text, parse_config, read_saved_config

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

    from custom_modules.models.onnx_preprocessing import Preprocessing


def is_exported(path: str | Path) -> bool:
    """Whether a model's file is one of ``tools/export_onnx.py``, which needs no torch."""
    return str(path).endswith('.onnx')


@dataclass(frozen=True)
class ModelFile:
    """What a model's file holds; the last fields are of a checkpoint or of an exported model alone."""

    path: Path
    classes: list[str]  # in label order
    meta: dict[str, Any]  # of the training: run, epoch, metric, dataset_digest, …
    digest: str  # hex sha256 of the weights of a checkpoint, or of the whole file of an exported model
    checkpoint: dict[str, Any] = field(default_factory=dict)  # all that a checkpoint holds
    given_config: 'Config | None' = None  # used in place of the saved one
    session: Any = None  # the InferenceSession of an exported model
    preprocessing: 'Preprocessing | None' = None  # of images, for an exported model

    @property
    def weights(self) -> 'dict[str, Tensor]':
        """The state dict of a checkpoint, on the CPU; empty for an exported model."""
        return self.checkpoint.get('state_dict', {})

    @cached_property
    def config(self) -> 'Config':
        """The config of a checkpoint: the one given, or else the saved one, as :func:`read_saved_config` parses it."""
        return self.given_config or read_saved_config(self.checkpoint, str(self.path))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The saved config as plain settings, for tables and cards; empty where it cannot be parsed."""
        return parse_config(config_text(self.meta) or '')

    @cached_property
    def temperature(self) -> float | None:
        """The temperature that divides the logits of calibrated scores, if any."""
        return read_temperature(self.meta, str(self.path))


def open_model_file(path: str | Path, config: 'Config | None' = None) -> ModelFile:
    """Opens a checkpoint or an exported model; no code in it is run.

    ``config`` replaces the saved config of a checkpoint. A file that is corrupt, unsafe or without class names is an
    InputError.
    """
    if is_exported(path):
        from custom_modules.models.onnx_file import open_model  # imports Pillow and NumPy, which no checkpoint needs

        return open_model(path)
    import torch

    from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint, weights_digest

    checkpoint = load_checkpoint(path)
    classes = checkpoint_classes(checkpoint, str(path))
    weights, meta = checkpoint.get('state_dict'), checkpoint.get('meta') or {}
    if not weights:
        raise InputError(f'{path}: holds no state_dict. Give a best.pth or epoch_N.pth.')
    for key, value in weights.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(f'{path}: {key} is no tensor of numbers: the weights are broken. Use another checkpoint.')
    return ModelFile(Path(path), classes, meta, weights_digest(weights), checkpoint, config)


def read_temperature(about: Mapping[str, Any], name: str) -> float | None:
    """The ``temperature`` in a model's meta data or a test's results, if any; a positive finite number."""
    value = about.get('temperature')
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise InputError(f'{name}: its temperature is {value!r}, no positive number. Export or publish it again.')
    return float(value)
