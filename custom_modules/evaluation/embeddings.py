"""Embeddings of photos by a pretrained backbone, with a cache by content.

The pipeline is the test pipeline of ``configs/_base_/flower_dataset.py``.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmpretrain.datasets  # noqa: F401  (registers the transforms)
import numpy as np
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.device import get_device
from mmpretrain.registry import MODELS
from numpy.typing import NDArray

from custom_modules.datasets.transforms.reduced_decoding import build_pipeline
from custom_modules.errors import InputError
from custom_modules.files import sha256_of, write_atomically
from custom_modules.models.checkpoints import load_checkpoint
from custom_modules.models.pretrained_weights import build_backbone
from custom_modules.models.weights_catalogue import WEIGHTS
from custom_modules.progress import StepProgress

PIPELINE = Path(__file__).parents[2] / 'configs' / '_base_' / 'flower_dataset.py'

BATCH = 16  # photos; on a CPU, small batches stay in its caches and are as fast as larger ones
SAVE_EVERY = 64  # batches: a killed run loses 1024 photos at most

Features = NDArray[np.float32]


class Embedder:
    """A pretrained backbone with global average pooling, and the pipeline before it.

    ``cache_name`` is the name of a cache file, unique to these weights and this pipeline. Weights that are missing,
    damaged or not from tools/fetch_weights.py are an InputError.
    """

    def __init__(self, weights: Path) -> None:
        checkpoint = load_checkpoint(weights)
        name = (checkpoint.get('meta') or {}).get('model')
        if name not in WEIGHTS:
            # A trained best.pth has seen the labels in question, and would confirm them.
            raise InputError(
                f'{weights}: not a file that tools/fetch_weights.py wrote. Get one with: '
                'python tools/fetch_weights.py mobilenet_v2'
            )
        backbone = build_backbone(name)
        try:
            backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in checkpoint['state_dict'].items()})
        except RuntimeError as error:
            raise InputError(f'{weights}: does not fit {name}. Write it again with tools/fetch_weights.py.') from error
        config = Config.fromfile(PIPELINE)
        described = json.dumps([name, config.test_pipeline, config.data_preprocessor, sha256_of(weights)])
        self.cache_name = f'{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz'
        self._pipeline = build_pipeline(config.test_pipeline)
        self._device = torch.device(get_device())
        preprocessor = {'type': 'ClsDataPreprocessor', **config.data_preprocessor}
        self._preprocessor = MODELS.build(preprocessor).to(self._device)
        # On one CPU thread 49 photos/s with MobileNetV2; 19 without channels last and fused batch norm.
        self._backbone = fuse_conv_bn(backbone).to(self._device, memory_format=torch.channels_last)

    def load(self, path: Path) -> torch.Tensor:
        """The photo after the pipeline, (3, H, W) uint8; a :class:`PhotoError` if it cannot be read."""
        return self._pipeline({'img_path': str(path)})['inputs']

    @torch.inference_mode()
    def __call__(self, photos: Sequence[torch.Tensor]) -> Features:
        """The embeddings of N photos of (3, H, W) uint8, (N, D) float32."""
        inputs = self._preprocessor({'inputs': torch.stack(list(photos))})['inputs']
        maps = self._backbone(inputs.contiguous(memory_format=torch.channels_last))[-1]
        pooled = maps.mean((2, 3)) if maps.ndim == 4 else maps  # ConvNeXt and ViT pool themselves
        return pooled.float().cpu().numpy()


def embed_photos(
    photos: Mapping[str, Path], embedder: Embedder, cache: Path, progress: StepProgress | None = None
) -> tuple[dict[str, Features], int]:
    """Embeds photos, given by the sha256 of their content; those in the cache are not opened.

    Returns the embeddings by sha256, and the number of new ones. A photo that cannot be read is an InputError.
    """
    known = _read_cache(cache)
    missing = [sha256 for sha256 in photos if sha256 not in known]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            tensors = list(pool.map(embedder.load, [photos[sha256] for sha256 in batch]))
            known |= zip(batch, embedder(tensors), strict=True)
            if start + BATCH >= len(missing) or (start // BATCH + 1) % SAVE_EVERY == 0:
                _write_cache(cache, known)
            if progress:
                progress(len(photos) - len(missing) + start + len(batch), len(photos))
    return {sha256: known[sha256] for sha256 in photos}, len(missing)


def _read_cache(file: Path) -> dict[str, Any]:
    """Embeddings by sha256; empty without a usable cache."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(zip(arrays['sha256'].tolist(), arrays['features'], strict=True))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _write_cache(file: Path, known: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    digests, features = np.array(list(known)), np.stack(list(known.values()))
    write_atomically(file, lambda stream: np.savez(stream, sha256=digests, features=features))
