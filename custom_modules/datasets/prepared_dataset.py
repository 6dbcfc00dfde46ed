"""A prepared dataset, read and checked once: its classes, train and validation samples, and digest."""

from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import SIDES, Sample, check_disjoint, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.errors import collect, refuse


@dataclass(frozen=True)
class PreparedDataset:
    """The contents of a prepared dataset; samples are in the order of the lists."""

    root: Path  # the folder with classes.txt, train/ and val/
    classes: list[str]  # in label order
    train: list[Sample]  # paths are relative to root / 'train'
    val: list[Sample]  # paths are relative to root / 'val'
    digest: str | None  # of manifest.json, which identifies the dataset; None without one


def read_prepared(root: Path) -> PreparedDataset:
    """Reads and checks ``classes.txt``, ``train.txt``, ``val.txt`` and ``manifest.json``.

    Raises:
        InputError: All deviations from the format, missing images, images listed in both subsets, or a manifest that
            was changed.
    """
    problems: list[str] = []
    classes: list[str] = []
    samples: dict[str, list[Sample]] = {side: [] for side in SIDES}
    digest = None
    with collect(problems):
        classes = read_classes(root / 'classes.txt')
    for side in SIDES if classes else ():  # without class names no label can be checked
        with collect(problems):
            samples[side] = read_samples(root / f'{side}.txt', classes, root / side)
    with collect(problems):
        check_disjoint(root, samples['train'], samples['val'])
    with collect(problems):
        digest = read_manifest_digest(root)
    refuse(problems)
    return PreparedDataset(root, classes, samples['train'], samples['val'], digest)
