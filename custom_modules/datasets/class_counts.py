"""Facts about any dataset, be it wrapped (``ClassBalancedDataset``) or not: its folder, labels and class weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def innermost(dataset: Any) -> Any:
    """The dataset within all its wrappers; a built one, or its settings."""
    inner = dataset
    while inner is not None:
        dataset = inner
        inner = dataset.get('dataset') if isinstance(dataset, dict) else getattr(dataset, 'dataset', None)
    return dataset


def folder_of(dataset: Any) -> Path:
    """The folder of a built dataset: its ``data_root``, or else that of its images."""
    inner = innermost(dataset)
    return Path(getattr(inner, 'data_root', '') or getattr(inner, 'img_prefix', ''))


def images_in(settings: Any) -> str | None:
    """The part of the settings of a dataset that says which images it has: a list, or else a folder."""
    inner = innermost(settings)
    prefix = inner.get('data_prefix') or ''
    return (
        inner.get('ann_file')
        or (prefix if isinstance(prefix, str) else prefix.get('img_path'))
        or inner.get('data_root')
    )


def labels_of(dataset: Any) -> list[int]:
    """The label of each image of a built dataset, as often as it repeats the image; empty where it names none."""
    try:
        if hasattr(dataset, 'get_gt_labels'):
            return dataset.get_gt_labels().tolist()
        return [int(dataset.get_data_info(index)['gt_label']) for index in range(len(dataset))]
    except (AttributeError, LookupError, TypeError, ValueError):  # without labels, or with several per image
        return []


def class_weights(counts: Sequence[int]) -> list[float]:
    """Balanced weights: N / (K n) for a class of n among N images of K classes (King & Zeng 2001), 0 for n = 0."""
    total = sum(counts)
    return [total / (len(counts) * count) if count else 0.0 for count in counts]
