"""A dataset of images without labels, given by path."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.datasets import BaseDataset

from custom_modules.datasets.transforms.reduced_decoding import decode_reduced


class UnlabelledPhotos(BaseDataset):
    """Photos without labels. Not registered: it takes paths, which no config lists."""

    def __init__(self, paths: Sequence[str], pipeline: Any) -> None:
        self.paths = paths
        super().__init__(ann_file='', pipeline=pipeline, test_mode=True)
        decode_reduced(self.pipeline)

    def load_data_list(self) -> list[dict]:
        """A dict with ``img_path`` for each photo."""
        return [{'img_path': path} for path in self.paths]
