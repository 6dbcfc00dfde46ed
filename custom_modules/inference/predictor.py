"""A trained classifier as one object: paths of photos in, predictions out, with the pixels and scores of a test."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.registry import FUNCTIONS, init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from torch.utils.data import DataLoader, Dataset

from custom_modules.datasets import flower_dataset  # noqa: F401  registers it
from custom_modules.datasets.transforms import load_photo, pack_photo  # noqa: F401  registers them
from custom_modules.engine.compute import channels_last_pays, to_channels_last, without_batch_norm
from custom_modules.engine.run_config import model_settings
from custom_modules.errors import InputError, PhotoError, as_configured, said_by
from custom_modules.metrics.predictions import Prediction, check_scores
from custom_modules.models.checkpoints import checkpoint_classes, weights_digest
from custom_modules.models.model_file import read_temperature
from custom_modules.photos.decoding import is_readable
from custom_modules.photos.opening import BROKEN, Unreadable, file_problem

FEW = 64  # photos that a second process would take longer to start than to read


class Predictor:
    """Classifies photos as ``tools/test.py`` does: same test pipeline, same batching, same model.

    Args:
        cfg: The config of the training; ``model`` and ``test_dataloader`` are read, weights come from ``checkpoint``.
        checkpoint: A loaded ``best.pth`` or ``epoch_N.pth``.
        name: The checkpoint's file, for messages.
        device: Where to compute; None for MMEngine's choice.

    Attributes:
        classes: Class names in label order, from the checkpoint.
        digest: Of all that decides the scores: weights, classes, model and test pipeline.
        temperature: What divides the logits of calibrated scores, if the checkpoint says so; predictions are as they
            are.
        weights: Digest of the weights alone, as the checkpoint has them.
        model: On the device, in evaluation mode, batch norm a part of the convolutions.

    Raises:
        InputError: The checkpoint names no classes, is not of this model, or has a temperature that is none.
    """

    def __init__(self, cfg: Config, checkpoint: dict, name: str, device: str | None = None) -> None:
        init_default_scope('mmpretrain')
        self._name = name
        self.classes = checkpoint_classes(checkpoint, name)
        loader = cfg.test_dataloader
        with as_configured(f'{name}: model, test_dataloader', 'give another --config'):
            model = model_settings(cfg)
            self.model = MODELS.build(model)
            self._pipeline = Compose([TRANSFORMS.build(step) for step in loader.dataset.pipeline])
            self._collate = FUNCTIONS.get(loader.get('collate_fn', {'type': 'pseudo_collate'})['type'])
        try:
            missing = self.model.load_state_dict(checkpoint.get('state_dict', {}), strict=False).missing_keys
        except (RuntimeError, TypeError, AttributeError) as error:  # of other shapes, or no tensors
            said = str(error).splitlines()[-1].strip()
            raise InputError(f'{name}: holds other weights than those of its model ({said}); take another') from error
        if missing:
            raise InputError(f'{name}: lacks {len(missing)} weights of its model, {missing[0]} for one; take another')
        self.weights = weights_digest(self.model.state_dict())
        settings = [self.weights, self.classes, model, loader.dataset.pipeline]
        self.digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        self.temperature = read_temperature(checkpoint.get('meta') or {}, name)
        device = device or get_device()
        with as_configured(f'{name}: model', 'give another --config'):
            self.model = without_batch_norm(self.model.to(device).eval())
        if channels_last_pays(device):
            to_channels_last(self.model)

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Prediction | Unreadable]:
        """Classifies photos one batch at a time.

        Args:
            paths: The photos' files.
            batch_size: How many go through the model together.
            workers: Processes that read photos; None for two, or none if there are few photos.

        Yields:
            A prediction for each path, in order, or what is wrong with the file.

        Raises:
            InputError: The model or the pipeline, as configured, cannot compute, or what comes out is no score.
        """
        # What has been built may still not compute.
        with as_configured(f'{self._name}: model, test_dataloader', 'give a smaller --batch-size or another --config'):
            for photos, batch in self.batches(paths, batch_size, workers):
                scored = iter(self.score(batch) if batch else [])
                found = [
                    photo if isinstance(photo, Unreadable) else Prediction(photo, next(scored)) for photo in photos
                ]
                check_scores((one for one in found if isinstance(one, Prediction)), self.classes)
                yield from found

    def batches(
        self, paths: Sequence[str], batch_size: int = 32, workers: int | None = None
    ) -> Iterator[tuple[list[str | Unreadable], dict[str, Any] | None]]:
        """Photos as the model takes them, arguments as for :meth:`predict`.

        Yields:
            The paths of a batch, or what is wrong with a file; what :meth:`score` takes, of those that could be read,
            or None.
        """
        if workers is None:
            workers = 2 if len(paths) > FEW else 0
        return iter(
            DataLoader(
                _Photos(paths, self._pipeline),
                batch_size=batch_size,
                num_workers=workers,
                collate_fn=_Collate(self._collate),
            )
        )

    @torch.inference_mode()
    def score(self, batch: dict[str, Any]) -> list[list[float]]:
        """The softmax scores of each photo in a batch."""
        return [sample.pred_score.tolist() for sample in self.model.test_step(batch)]


class _Photos(Dataset):
    """Photos by path, through the test pipeline."""

    def __init__(self, paths: Sequence[str], pipeline: Compose) -> None:
        self.paths = paths
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, dict] | Unreadable:
        path = self.paths[index]
        if problem := file_problem(path):
            return Unreadable(path, problem)
        try:
            return path, self.pipeline({'img_path': path})
        except Exception as error:
            if is_readable(path):
                raise PhotoError(
                    f'{path}: can be read, but the test pipeline fails on it: {said_by(error)}; correct '
                    'test_dataloader in the config, or take the photo away'
                ) from error
            return Unreadable(path, BROKEN)


class _Collate:
    """Batches what could be read, and keeps the order of all: the paths, or what was wrong, and the batch or None."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: list) -> tuple[list[str | Unreadable], dict | None]:
        read = [item[1] for item in items if not isinstance(item, Unreadable)]
        photos = [item if isinstance(item, Unreadable) else item[0] for item in items]
        return photos, self.collate(read) if read else None
