"""An exported model as an MMEngine model, so that a Runner tests it with the dataset and metrics of a config."""

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from custom_modules.datasets.class_counts import innermost
from custom_modules.errors import InputError
from custom_modules.models.model_file import open_model_file
from custom_modules.models.onnx_file import score
from custom_modules.models.onnx_preprocessing import Preprocessing


@MODELS.register_module()
class OnnxClassifier(BaseModel):
    """Classifies images with ONNX Runtime; it cannot be trained.

    Args:
        path: A file of ``tools/export_onnx.py``.
        data_preprocessor: Stacks images and turns BGR into RGB, without normalization. Defaults to None.
    """

    def __init__(self, path: str, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.file = open_model_file(path)

    def forward(
        self, inputs: torch.Tensor, data_samples: list[DataSample] | None = None, mode: str = 'predict'
    ) -> list[DataSample]:
        """Samples with ``pred_score`` (K,) and ``pred_label`` of (N, 3, H, W) RGB; ``mode`` is ``'predict'``."""
        images = inputs.to('cpu', torch.uint8).numpy()
        scores = torch.from_numpy(score(self.file.session, images, self.file.classes, str(self.file.path)))
        samples = data_samples or [DataSample() for _ in scores]
        for sample, own in zip(samples, scores, strict=True):
            sample.set_pred_score(own).set_pred_label(own.argmax())
        return samples


def check_pipeline(cfg: Config, preprocessing: Preprocessing, path: str) -> None:
    """Raises an :class:`InputError` if the config's test pipeline gives other pixels than an exported model takes."""
    found = Preprocessing.of_pipeline(innermost(cfg.test_dataloader.dataset).pipeline, cfg.filename)
    if found != preprocessing:
        raise InputError(
            f'{cfg.filename}: its test pipeline gives {found}, but {path} takes {preprocessing}. '
            'Use the config that it was trained with.'
        )


def use_exported(cfg: Config, path: str) -> None:
    """Replaces the model of ``cfg`` by the exported model in ``path``."""
    preprocessor = {'type': 'ClsDataPreprocessor', 'to_rgb': True}
    cfg.model = ConfigDict(type='OnnxClassifier', path=path, data_preprocessor=preprocessor)
    cfg.data_preprocessor = cfg.load_from = None
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {name: hook for name, hook in hooks.items() if not (hook and hook['type'] == 'EMAHook')}
