"""An exported model as one that MMEngine's Runner tests, with the dataset and the metrics of a config."""

from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from custom_modules.engine.run_config import leave_out_hooks
from custom_modules.errors import InputError
from custom_modules.inference.onnx_predictor import OnnxPredictor
from custom_modules.models.onnx_file import open_model
from custom_modules.models.preprocessing import Preprocessing


@MODELS.register_module()
class OnnxClassifier(BaseModel):
    """Classifies photos by ONNX Runtime; it cannot be trained.

    Args:
        path: A file of ``tools/export_onnx.py``.
        data_preprocessor: What stacks photos and turns BGR into RGB, without normalisation. Defaults to None.
    """

    def __init__(self, path: str, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.predictor = OnnxPredictor(path)

    def forward(
        self, inputs: torch.Tensor, data_samples: list[DataSample] | None = None, mode: str = 'predict'
    ) -> list[DataSample]:
        """Samples with ``pred_score`` (K,) and ``pred_label`` of (N, 3, H, W) RGB; ``mode`` is ``'predict'``."""
        scores = torch.from_numpy(self.predictor.score(inputs.to('cpu', torch.uint8).numpy()))
        samples = data_samples or [DataSample() for _ in scores]
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax())
        return samples


def read_exported(path: str, cfg: Config) -> dict[str, Any]:
    """What an exported model says of itself, in the form of a checkpoint without weights.

    Raises:
        InputError: It is no such file, or the config's test pipeline does not give the pixels that it takes.
    """
    _, metadata, _ = open_model(path)
    found = Preprocessing.of_pipeline(cfg.test_dataloader.dataset.pipeline, cfg.filename)
    if found != metadata.preprocessing:
        raise InputError(
            f'{cfg.filename}: its test pipeline gives {found}, but {path} takes {metadata.preprocessing}; '
            'use the config that it was trained with'
        )
    return {'meta': {**metadata.about, 'classes': metadata.classes}}


def use_exported(cfg: Config, path: str) -> None:
    """Makes ``path`` the model that ``cfg`` tests."""
    preprocessor = {'type': 'ClsDataPreprocessor', 'to_rgb': True}
    cfg.model = ConfigDict(type='OnnxClassifier', path=path, data_preprocessor=preprocessor)
    cfg.data_preprocessor = cfg.load_from = None
    leave_out_hooks(cfg, ('EMAHook',))  # copies the model it finds
