"""Predictions of a checkpoint, with the pixels and scores of a test."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.registry import FUNCTIONS, init_default_scope
from mmpretrain.registry import MODELS
from numpy.typing import NDArray

from custom_modules import register  # noqa: F401  the classes that configs name
from custom_modules.datasets.class_counts import innermost
from custom_modules.datasets.transforms.reduced_decoding import build_pipeline
from custom_modules.engine.performance import (
    channels_last_pays,
    keep_freed_memory,
    to_channels_last,
    without_batch_norm,
)
from custom_modules.engine.run_config import follow_classes, head_problem, model_settings, read_config
from custom_modules.errors import InputError, as_configured
from custom_modules.inference.predictor import Predictor
from custom_modules.models.model_file import ModelFile, open_model_file
from custom_modules.upstream import silenced

ANOTHER = 'Give another checkpoint.'


class TorchPredictor(Predictor):
    """Classifies images as ``tools/test.py`` does: same test pipeline, same model.

    The ``model`` is in evaluation mode, with batch norm fused into the convolutions, on MMEngine's choice of device if
    ``device`` is None.

    Raises:
        InputError: The config cannot be built, or the weights are of another model.
    """

    def __init__(self, file: ModelFile, device: str | None = None) -> None:
        super().__init__(file)
        init_default_scope('mmpretrain')
        loader = file.config.test_dataloader
        if problem := head_problem(file.config.model):
            raise InputError(f'{file.path}: model.head: {problem}')
        device = device or get_device()
        with as_configured(f'{file.path}: model, test_dataloader', 'give another --config'):
            settings = model_settings(file.config)
            with silenced():  # timm's backbones list their layers, MobileNetV3's HSigmoid warns
                model = MODELS.build(settings)
            self._pipeline = build_pipeline(innermost(loader.dataset).pipeline)
            self._collate = FUNCTIONS.get(loader.get('collate_fn', {'type': 'pseudo_collate'})['type'])
            _load_weights(model, file)
            self.model: Any = without_batch_norm(model.to(device).eval())
        if device == 'cpu':
            keep_freed_memory()
        if channels_last_pays(device):
            to_channels_last(self.model)
        decisive = [file.digest, file.classes, settings, innermost(loader.dataset).pipeline]
        self.digest = hashlib.sha256(repr(decisive).encode()).hexdigest()

    def load(self, path: str) -> dict[str, Any]:
        """The output of the test pipeline: ``inputs``, (3, H, W) uint8, and ``data_samples``."""
        return self._pipeline({'img_path': path})

    @torch.inference_mode()
    def score(self, images: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
        """Softmax scores, (N, K), of N images from :meth:`load`."""
        # A model that could be built may still fail to compute.
        with as_configured(f'{self.file.path}: model', 'give a smaller --batch-size or another --config'):
            samples = self.model.test_step(self._collate(images))
            return torch.stack([sample.pred_score for sample in samples]).cpu().numpy()


def open_checkpoint(path: str, config: str | None = None) -> ModelFile:
    """Opens a checkpoint with the config file ``config``, or with the config saved in it."""
    if config is None:
        return open_model_file(path)
    cfg = read_config(config, {}, None, None, quiet=True)
    file = open_model_file(path, cfg)
    follow_classes(cfg, len(file.classes))
    return file


def _load_weights(model: torch.nn.Module, file: ModelFile) -> None:
    try:
        missing = model.load_state_dict(file.weights, strict=False).missing_keys
    except (RuntimeError, TypeError, AttributeError) as error:  # other shapes, or no tensors
        said = str(error).splitlines()[-1].strip()
        raise InputError(f'{file.path}: its weights are not of its model ({said}). {ANOTHER}') from error
    if missing:
        raise InputError(f'{file.path}: lacks {len(missing)} weights of its model, such as {missing[0]}. {ANOTHER}')
