"""A prepared dataset, read and checked once: its classes, train and validation samples, and digest."""

from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import Sample, check_disjoint, read_classes, read_samples, refuse
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.errors import InputError


@dataclass(frozen=True)
class PreparedDataset:
    """The contents of a prepared dataset.

    Attributes:
        root: The folder with ``classes.txt``, ``train/`` and ``val/``.
        classes: Class names in label order.
        train: Training samples, in the order of ``train.txt``; paths are relative to ``root / 'train'``.
        val: Validation samples, in the order of ``val.txt``; paths are relative to ``root / 'val'``.
        digest: The digest in ``manifest.json``, which identifies the dataset; None without a manifest.
    """

    root: Path
    classes: list[str]
    train: list[Sample]
    val: list[Sample]
    digest: str | None


def read_prepared(root: Path) -> PreparedDataset:
    """Reads and checks ``classes.txt``, ``train.txt``, ``val.txt`` and ``manifest.json``.

    Raises:
        InputError: All deviations from the format, missing images, images listed in both subsets, or a manifest that
            was changed.
    """
    problems: list[str] = []
    samples: dict[str, list[Sample]] = {'train': [], 'val': []}
    classes: list[str] = []
    digest = None
    try:
        classes = read_classes(root / 'classes.txt')
    except InputError as error:
        problems += error.problems
    else:  # without class names no label can be checked
        for subset in samples:
            try:
                samples[subset] = read_samples(root / f'{subset}.txt', classes, root / subset)
            except InputError as error:
                problems += error.problems
    try:
        check_disjoint(samples['train'], samples['val'])
    except InputError as error:
        problems += error.problems
    try:
        digest = read_manifest_digest(root)
    except InputError as error:
        problems += error.problems
    if problems:
        refuse(problems)
    return PreparedDataset(root, classes, samples['train'], samples['val'], digest)
