"""Photos to embeddings: what a pretrained backbone makes of each, computed once and kept. Nothing is judged here.

The pipeline is the test pipeline of configs/_base_/flower_dataset.py. The cache knows photos by their content: moved
and renamed ones are found again, and a photo is computed anew when it, the weights or the pipeline has changed.
torch and MMPretrain, which take seconds, are imported when a photo is to be computed.
"""

import hashlib
import json
import runpy
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError
from custom_modules.files import check_folder, sha256_of, write_atomically
from custom_modules.models.weights_catalogue import WEIGHTS, require_file
from custom_modules.photos.opening import open_photo, why_unreadable
from custom_modules.progress import StepProgress

if TYPE_CHECKING:
    import torch

BATCH = 16
"""Photos at a time. On a CPU small batches stay in its caches: 8-16 measured as fast as any or faster."""

SAVE_EVERY = 30.0
"""Seconds between two savings of the cache: what a killed run loses at most."""

VERSION = 1
"""To be raised when the code below makes other numbers of the same photo, weights and pipeline."""

PIPELINE = Path(__file__).parents[2] / 'configs' / '_base_' / 'flower_dataset.py'

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Embeddings:
    """What a backbone makes of photos.

    Args:
        kept: Positions of the readable photos in what was given, ascending, n of them.
        features: (n, D) float32, globally averaged feature maps (D = 1280 for MobileNetV2).
        unreadable: Why, by position, for each photo that could not be read.
        computed: Number of photos that were not in the cache.
        cache: The file that holds them now.
    """

    kept: list[int]
    features: Features
    unreadable: dict[int, str]
    computed: int
    cache: Path


class Embedder:
    """A pretrained backbone with global average pooling, and the pipeline before it.

    Args:
        weights: A file that tools/fetch_weights.py wrote.

    Raises:
        InputError: The file is missing, damaged or of another kind.
    """

    def __init__(self, weights: Path) -> None:
        require_file(weights)  # said at once

        import torch
        from mmengine.dataset import Compose
        from mmengine.device import get_device

        from custom_modules.models.checkpoints import load_checkpoint
        from custom_modules.models.pretrained_weights import build_backbone

        checkpoint = load_checkpoint(weights)
        meta = checkpoint.get('meta')
        name = meta.get('model') if isinstance(meta, dict) else None
        if name not in WEIGHTS:
            # A trained best.pth has seen the labels that are to be judged, and would confirm them.
            raise InputError(
                f'{weights}: not a file that tools/fetch_weights.py wrote; get one with: '
                'python tools/fetch_weights.py mobilenet_v2'
            )
        backbone = build_backbone(name)
        state = {key.removeprefix('backbone.'): value for key, value in checkpoint['state_dict'].items()}
        try:
            backbone.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f'{weights}: does not fit {name}: write it again with tools/fetch_weights.py') from error

        import mmpretrain.datasets  # noqa: F401  (registers the transforms)
        from mmcv.cnn import fuse_conv_bn
        from mmpretrain.registry import MODELS, TRANSFORMS

        from custom_modules.datasets.transforms import load_photo, pack_photo  # noqa: F401  (the same)

        steps, preprocessor = _read_pipeline()
        self.key = _key(name, sha256_of(weights))
        """Names what decides an embedding besides the photo: weights, pipeline, version."""
        self.name = name
        self._pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        self._device = torch.device(get_device())
        self._preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **preprocessor}).to(self._device)
        # One CPU thread, MobileNetV2: 19 photos/s as it is, 36 with channels last, 49 with batch norm folded in too.
        self._backbone = fuse_conv_bn(backbone).to(self._device, memory_format=torch.channels_last)
        self.width = self([torch.zeros(3, 32, 32, dtype=torch.uint8)]).shape[1]
        """D, the length of an embedding."""

    def load(self, path: Path) -> 'torch.Tensor | str':
        """(3, H, W) uint8, or why the photo cannot be read."""
        try:
            with open(path, 'rb') as file:
                open_photo(file)  # refuses what would fill the memory
            return self._pipeline({'img_path': str(path)})['inputs']
        except Exception as error:  # whatever a decoder says about a broken file
            return why_unreadable(error)

    def __call__(self, photos: 'Sequence[torch.Tensor]') -> Features:
        """(N, D) float32 for N photos of (3, H, W) uint8."""
        import torch

        with torch.inference_mode():
            inputs = self._preprocessor({'inputs': torch.stack(list(photos))})['inputs']
            maps = self._backbone(inputs.contiguous(memory_format=torch.channels_last))[-1]
            return maps.mean((2, 3)).float().cpu().numpy()


def read_embeddings(paths: Sequence[Path], weights: Path, cache_dir: Path) -> Embeddings | None:
    """Finds the embeddings of photos in the cache, for which neither torch nor the network is needed.

    Args:
        paths: The photos.
        weights: A file that tools/fetch_weights.py wrote.
        cache_dir: Folder of the cache.

    Returns:
        What :func:`embed_photos` returns, or None where a photo is missing and it has to be asked.
    """
    if not weights.is_file():
        return None
    digest = sha256_of(weights)
    # Of which model they are, torch would have to say; but an Embedder that knew wrote the cache.
    caches = [cache for name in WEIGHTS if (cache := _cache_file(cache_dir, name, _key(name, digest))).is_file()]
    if not caches:
        return None
    known = _read_cache(caches[0])
    digests, unreadable = _digests(paths)
    if not known.keys() >= set(digests.values()):
        return None
    return _gather(digests, unreadable, known, 0, caches[0])


def embed_photos(
    paths: Sequence[Path], embedder: Embedder, cache_dir: Path, progress: StepProgress | None = None
) -> Embeddings:
    """Embeds photos, each content once ever.

    Args:
        paths: The photos.
        embedder: What embeds those that the cache lacks.
        cache_dir: Folder of the cache, made if absent; a file for each model, weights and pipeline.
        progress: Called with the numbers of photos done and in all.

    Raises:
        InputError: The cache cannot be written.
    """
    cache = _cache_file(cache_dir, embedder.name, embedder.key)
    check_folder(cache_dir)
    known = _read_cache(cache, embedder.width)
    digests, unreadable = _digests(paths)
    missing: dict[str, int] = {}  # each content once, at its first position
    for position, digest in digests.items():
        if digest not in known:
            missing.setdefault(digest, position)

    failed: dict[str, str] = {}
    waiting: list[tuple[str, torch.Tensor]] = []
    done, saved = len(paths) - len(missing), time.monotonic()
    computed = 0

    def flush() -> None:
        nonlocal computed
        known.update(zip([digest for digest, _ in waiting], embedder([photo for _, photo in waiting]), strict=True))
        computed += len(waiting)
        waiting.clear()

    try:
        for digest, photo in _loaded(missing, paths, embedder):
            if isinstance(photo, str):
                failed[digest] = photo
            else:
                waiting.append((digest, photo))
            done += 1
            if len(waiting) == BATCH:
                flush()
                if progress:
                    progress(done, len(paths))
                if time.monotonic() - saved > SAVE_EVERY:
                    _write_cache(cache, known)
                    saved = time.monotonic()
        if waiting:
            flush()
    finally:
        if computed:  # also when interrupted
            _write_cache(cache, known)
    if progress:
        progress(len(paths), len(paths))

    unreadable |= {position: failed[digest] for position, digest in digests.items() if digest in failed}
    return _gather(digests, unreadable, known, computed, cache)


def _read_pipeline() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The test pipeline's steps and the preprocessor; of plain Python, for which MMEngine's Config is not needed."""
    config = runpy.run_path(str(PIPELINE))
    return config['test_pipeline'], config['data_preprocessor']


def _key(name: str, weights_sha256: str) -> str:
    described = json.dumps([VERSION, name, *_read_pipeline()], sort_keys=True)
    return hashlib.sha256(described.encode() + weights_sha256.encode()).hexdigest()


def _cache_file(cache_dir: Path, name: str, key: str) -> Path:
    return cache_dir / f'{name}-{key[:16]}.npz'


def _gather(
    digests: dict[int, str], unreadable: dict[int, str], known: dict[str, Any], computed: int, cache: Path
) -> Embeddings:
    """Puts together what was found of the photos that are not unreadable."""
    kept = [position for position in digests if position not in unreadable]
    features = np.stack([known[digests[i]] for i in kept]) if kept else np.empty((0, 0), np.float32)
    return Embeddings(kept, features, unreadable, computed, cache)


def _digests(paths: Sequence[Path]) -> tuple[dict[int, str], dict[int, str]]:
    """The sha256 by position, and for what could not be read the reason by position."""

    def digest(path: Path) -> str | OSError:
        try:
            return sha256_of(path)
        except OSError as error:
            return error

    digests, unreadable = {}, {}
    with ThreadPoolExecutor(2) as pool:
        for position, result in enumerate(pool.map(digest, paths)):
            if isinstance(result, OSError):
                unreadable[position] = why_unreadable(result)
            else:
                digests[position] = result
    return digests, unreadable


def _loaded(
    missing: dict[str, int], paths: Sequence[Path], embedder: Embedder
) -> 'Iterator[tuple[str, torch.Tensor | str]]':
    """Decodes two batches ahead in threads of its own: decoders leave Python's lock to the network."""
    items = list(missing.items())
    with ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(embedder.load, paths[position]) for _, position in items[: 2 * BATCH]]
        for number, (digest, _) in enumerate(items):
            loaded = ahead.pop(0).result()
            if number + 2 * BATCH < len(items):
                ahead.append(pool.submit(embedder.load, paths[items[number + 2 * BATCH][1]]))
            yield digest, loaded


def _read_cache(file: Path, width: int | None = None) -> dict[str, Any]:
    """Rows of features by sha256, of that width where one is given; empty when there is no usable cache."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            digests, features = arrays['sha256'], arrays['features']
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if digests.dtype != np.uint8 or digests.shape[1:] != (32,) or features.shape[:1] != digests.shape[:1]:
        return {}
    if features.ndim != 2 or width not in (None, features.shape[1]):
        return {}
    if features.dtype != np.float32 or not np.isfinite(features).all():
        return {}
    return dict(zip((row.tobytes().hex() for row in digests), features, strict=True))


def _write_cache(file: Path, known: dict[str, Any]) -> None:
    digests = np.array([list(bytes.fromhex(digest)) for digest in known], np.uint8)
    features = np.stack(list(known.values()))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda stream: np.savez(stream, sha256=digests, features=features))
