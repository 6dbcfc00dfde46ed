"""The registered dataset of a prepared folder: images and labels listed by train.txt or val.txt."""

from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from custom_modules.datasets.annotation import read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.datasets.transforms.reduced_decoding import decode_reduced


@DATASETS.register_module()
class FlowerDataset(BaseDataset):
    """Photos in class folders, listed by an annotation file with a ``class/image index`` line each.

    Args:
        data_root: A prepared dataset: the folder that holds ``classes.txt``, ``train/`` and ``val/``.
        ann_file: The list of photos, relative to ``data_root``. Defaults to ``'train.txt'``.
        data_prefix: The folder that the listed paths are relative to, itself relative to ``data_root``. Defaults to
            ``'train'``.
        pipeline: Transforms, as configs or callables. Defaults to ``()``.
        **kwargs: MMPretrain's ``BaseDataset``: ``indices``, ``test_mode``, ``lazy_init``, ``serialize_data``, …

    Attributes:
        digest: The digest in the manifest of ``data_root``, which identifies the dataset; None without a manifest.

    Raises:
        InputError: The annotation breaks the format, with each deviation's file:line; or the manifest was changed.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str = 'train.txt',
        data_prefix: str | dict = 'train',
        pipeline: Any = (),
        **kwargs: Any,
    ) -> None:
        self.digest = read_manifest_digest(Path(data_root))
        kwargs.setdefault('classes', read_classes(Path(data_root) / 'classes.txt'))
        super().__init__(ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, pipeline=pipeline, **kwargs)
        decode_reduced(self.pipeline)

    def load_data_list(self) -> list[dict]:
        """Reads and checks the whole annotation; a dict with ``img_path`` and ``gt_label`` for each photo."""
        root = Path(self.img_prefix)
        samples = read_samples(Path(self.ann_file), self.CLASSES, root)
        return [{'img_path': str(root / sample.path), 'gt_label': sample.label} for sample in samples]
