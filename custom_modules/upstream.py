"""Patches of upstream libraries, each with its upstream issue. ``register.py`` adds a file backend to MMEngine.

The functions may be called any number of times. Worker processes inherit the settings as environment variables.
"""

import contextlib
import importlib.util
import inspect
import io
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def quieten() -> None:
    """Silences library logging and turns off telemetry. Needs no third-party package.

    Problems with images are reported by this project, with the path. Tools call this before anything is imported.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # official builds of ONNX Runtime report to Microsoft
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # read when OpenCV is imported
    if 'cv2' in sys.modules:
        sys.modules['cv2'].utils.logging.setLogLevel(0)
    logging.getLogger('PIL').setLevel(logging.CRITICAL)
    warnings.filterwarnings('ignore', module=r'PIL\.')
    # mmcv-lite has no compiled operators and warns at every start; no model here needs one (mmcv #3325).
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
    warnings.filterwarnings('ignore', message=r'Glyph \d+')  # matplotlib's, of class names with emoji
    # Python 3.12 and newer warn of '\d' when they compile this file, which can be at every start.
    warnings.filterwarnings('ignore', category=SyntaxWarning, module=r'.*mmpretrain.evaluation.metrics.vqa')


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hides the log lines, warnings and prints of libraries about their own workings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action='ignore'), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def patch_upstream() -> None:
    """Makes MMEngine and torch read this project's configs and checkpoints.

    Patched are the search for ``mmpretrain::`` base configs (mmcv #3325) and torch's list of classes that a checkpoint
    may hold (mmengine #1650, #1655).
    """
    quieten()
    import numpy as np
    import torch
    from mmengine.config import Config
    from mmengine.logging.history_buffer import HistoryBuffer
    from numpy._core import multiarray

    Config._get_cfg_path = staticmethod(base_path)
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,  # message_hub: the logged scalars
            (_history_method, '__builtin__.getattr'),  # their statistics, pickled under protocol 2
            (_history_method, 'builtins.getattr'),
            # A HistoryBuffer holds two arrays of numbers; numpy rebuilds them from these.
            np.ndarray,
            np.dtype,
            np.dtypes.Float64DType,
            np.dtypes.Int64DType,
            (multiarray._reconstruct, 'numpy._core.multiarray._reconstruct'),
            (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),  # written under numpy 1
            (multiarray.scalar, 'numpy._core.multiarray.scalar'),
            (multiarray.scalar, 'numpy.core.multiarray.scalar'),
        ]
    )


def patch_tools() -> None:
    """Makes MMPretrain's tools run with current matplotlib and grad-cam, which they have imported by now.

    browse_dataset.py calls matplotlib's private ``adjust_bbox`` without the argument that 3.11 added (matplotlib
    #26291). vis_cam.py passes ``use_cuda``, which grad-cam 1.5 removed (grad-cam #504).
    """
    if layout := sys.modules.get('matplotlib._tight_bbox'):
        layout.adjust_bbox.__defaults__ = (None, None)
    cam = sys.modules.get('pytorch_grad_cam')
    if cam and 'use_cuda' not in inspect.signature(cam.GradCAM).parameters:
        for method in {cam.GradCAMPlusPlus, *cam.base_cam.BaseCAM.__subclasses__()}:
            init = method.__init__
            method.__init__ = lambda self, *args, use_cuda=None, init=init, **kwargs: init(self, *args, **kwargs)


def patch_export() -> None:
    """Makes Swin and MixMIM count images in whole numbers: by floats, an export fixes the number of the example."""
    from mmpretrain.models.backbones.mixmim import MixMIMBlock
    from mmpretrain.models.utils import ShiftWindowMSA

    def window_reverse(windows: Any, height: int, width: int, size: int) -> Any:
        rows, columns = height // size, width // size
        number = windows.shape[0] // (rows * columns)
        images = windows.view(number, rows, columns, size, size, -1)
        return images.permute(0, 1, 3, 2, 4, 5).reshape(number, height, width, -1)

    for block in (ShiftWindowMSA, MixMIMBlock):
        block.window_reverse = staticmethod(window_reverse)


def base_path(base: str, file: str) -> tuple[str, str | None]:
    """The path of a base config, and the package that it is from.

    MMEngine's own search imports ``pkg_resources``, which setuptools 82 removed, and reads the index of all models:
    more than a second at each start.

    Args:
        base: As an entry of ``_base_`` names it: a relative path, or ``package::path``.
        file: The config with that entry.

    Returns:
        The path; the package's name, or None for a relative path.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    package, external, relative = base.partition('::')
    if not external:
        return str(Path(file).parent / base), None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f'{base}: {package} is not installed')
    return str(Path(spec.origin).parent / '.mim' / 'configs' / relative), package


def _history_method(cls: type, name: str) -> Callable:
    """Replaces ``getattr``, by which a pickled ``HistoryBuffer`` names its statistics; refuses everything else."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if cls is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'Unsupported global: getattr of {name!r}')
    return getattr(cls, name)
