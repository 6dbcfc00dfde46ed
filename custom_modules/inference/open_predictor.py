"""A trained classifier opened from its file: a checkpoint by torch, an exported model by ONNX Runtime."""

from custom_modules.errors import InputError
from custom_modules.inference.journal import Engine
from custom_modules.inference.onnx_file import INSTALL


def is_exported(path: str) -> bool:
    """Whether a model's file is one of ``tools/export_onnx.py``, which needs no torch."""
    return path.endswith('.onnx')


def open_predictor(path: str, config: str | None = None) -> Engine:
    """What classifies photos with the model in ``path``.

    Args:
        path: ``best.pth``, ``epoch_N.pth`` or an ``.onnx`` of ``tools/export_onnx.py``.
        config: For a checkpoint, the config that it was trained with; None for the one that it carries.

    Raises:
        InputError: The file cannot be used.
    """
    if is_exported(path):
        try:
            from custom_modules.inference.onnx_predictor import OnnxPredictor
        except ModuleNotFoundError as error:
            raise InputError(f'{path}: {error}: {INSTALL}') from None

        return OnnxPredictor(path)

    from custom_modules.engine.checkpoints import load_checkpoint
    from custom_modules.engine.run_config import read_config
    from custom_modules.inference.predictor import Predictor
    from custom_modules.inference.saved_config import read_saved_config

    checkpoint = load_checkpoint(path)
    cfg = read_config(config, {}, None, None) if config else read_saved_config(checkpoint, path)
    return Predictor(cfg, checkpoint, path)
