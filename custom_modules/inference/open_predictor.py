"""A trained classifier opened from its file: a checkpoint by torch, an exported model by ONNX Runtime."""

from typing import TYPE_CHECKING, Any

from custom_modules.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

    from custom_modules.inference.journal import Engine


def is_exported(path: str) -> bool:
    """Whether a model's file is one of ``tools/export_onnx.py``, which needs no torch."""
    return path.endswith('.onnx')


def open_predictor(path: str, config: str | None = None) -> 'Engine':
    """What classifies photos with the model in ``path``.

    Args:
        path: ``best.pth``, ``epoch_N.pth`` or an ``.onnx`` of ``tools/export_onnx.py``.
        config: For a checkpoint, the config that it was trained with; None for the one that it carries.

    Raises:
        InputError: The file cannot be used.
    """
    if is_exported(path):
        from custom_modules.models.onnx_file import INSTALL

        try:
            from custom_modules.inference.onnx_predictor import OnnxPredictor
        except ModuleNotFoundError as error:
            raise InputError(f'{path}: {error}: {INSTALL}') from None

        return OnnxPredictor(path)

    from custom_modules.inference.predictor import Predictor

    cfg, checkpoint = open_checkpoint(path, config)
    return Predictor(cfg, checkpoint, path)


def open_checkpoint(path: str, config: str | None = None) -> 'tuple[Config, dict[str, Any]]':
    """A checkpoint, after the config of its model: that in the file ``config``, or None for the one that it carries.

    Raises:
        InputError: One of the two cannot be used.
    """
    from custom_modules.engine.run_config import read_config
    from custom_modules.models.checkpoints import load_checkpoint
    from custom_modules.models.saved_config import read_saved_config

    checkpoint = load_checkpoint(path)
    return read_config(config, {}, None, None) if config else read_saved_config(checkpoint, path), checkpoint
