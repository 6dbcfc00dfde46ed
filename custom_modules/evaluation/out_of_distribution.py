"""Out-of-distribution (OOD) images: reading them, their predictions, and how well scores separate them.

D. Hendrycks and K. Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks,
ICLR 2017: the highest softmax score as detector, measured by its AUROC.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from custom_modules.datasets.class_counts import innermost
from custom_modules.datasets.transforms.reduced_decoding import decode_reduced
from custom_modules.engine.runner import PreparedRunner
from custom_modules.errors import InputError
from custom_modules.metrics.calibration import scaling_fault, tempered
from custom_modules.metrics.predictions import SURE, Prediction, Proportion
from custom_modules.photos.decoding import photo_problem
from custom_modules.photos.image_files import Unreadable
from custom_modules.photos.listing import list_photos

TPR = 0.95  # share of the test images that a threshold has to keep


class UnlabelledPhotos(BaseDataset):
    """Photos without labels. Not registered: it takes paths, which no config lists."""

    def __init__(self, paths: Sequence[str], pipeline: Any) -> None:
        self.paths = paths
        super().__init__(ann_file='', pipeline=pipeline, test_mode=True)
        decode_reduced(self.pipeline)

    def load_data_list(self) -> list[dict]:
        """A dict with ``img_path`` for each photo."""
        return [{'img_path': path} for path in self.paths]


def ood_figures(
    tested: Sequence[Prediction],
    others: Sequence[Prediction],
    scaling: Mapping[str, Any] | None,
    folder: str = '',
    unreadable: int = 0,
) -> dict[str, Any]:
    """How well the highest score separates OOD images, ``others``, from test images, for JSON.

    The temperature of ``scaling``, the results' ``temperature_scaling``, is used unless it has a fault. In ``folder``
    are the OOD images, and ``unreadable`` files that cannot be read.

    Returns:
        ``auroc``, the probability that a test image scores higher than an OOD image; ``score_at_95_tpr``, the highest
        score that 95 % of the test images reach, and ``fpr_at_95_tpr``, the OOD images that reach it;
        ``called_at_0.9``, those that reach 0.9; ``threshold``, a threshold of 0.9 on scores after temperature scaling
        where that is ``calibrated``: the test images ``kept``, the correct ones of those, the OOD images ``called`` a
        class.
    """
    temperature = scaling['temperature'] if scaling and not scaling_fault(scaling) else None
    plain = [np.array([prediction.scores for prediction in found]) for found in (tested, others)]
    scaled = plain if temperature is None else [tempered(scores, temperature) for scores in plain]
    (inside, outside), (kept, called) = ([scores.max(axis=1) for scores in both] for both in (plain, scaled))
    right = np.array([p.label == p.truth for p in tested])
    passing = float(np.sort(inside)[-ceil(TPR * len(inside) - 1e-9)])
    return {
        'folder': folder,
        'photos': len(others),
        'unreadable': unreadable,
        'auroc': float(mannwhitneyu(inside, outside).statistic) / (len(inside) * len(outside)),
        'score_at_95_tpr': passing,
        'fpr_at_95_tpr': _share(outside >= passing),
        f'called_at_{SURE}': _share(outside >= SURE),
        'threshold': {
            'min_score': SURE,
            'calibrated': temperature is not None,
            'kept': _share(kept >= SURE),
            'right': _share(right[kept >= SURE]),
            'called': _share(called >= SURE),
        },
    }


def _share(chosen: NDArray[np.bool_]) -> dict[str, Any]:
    return Proportion(int(chosen.sum()), len(chosen)).as_dict()


def list_others(folder: str, data_root: Path) -> tuple[list[str], list[Unreadable]]:
    """The readable images in a folder, at any depth, and the problems of the others."""
    if not Path(folder).is_dir():
        raise InputError(f'--ood {folder}: no such folder. Name one with images of none of the classes.')
    here, dataset = Path(folder).resolve(), data_root.resolve()
    if here.is_relative_to(dataset) or dataset.is_relative_to(here):
        raise InputError(f'--ood {folder}: overlaps the dataset {data_root}, whose images are in distribution.')
    readable, unreadable = [], []
    for path in list_photos([folder])[0]:
        if problem := photo_problem(path):
            unreadable.append(Unreadable(path, problem))
        else:
            readable.append(path)
    if not readable:
        raise InputError(f'--ood {folder}: none of its {len(unreadable)} images can be read. Name another folder.')
    return readable, unreadable


def predict_others(runner: PreparedRunner, paths: Sequence[str]) -> list[Prediction]:
    """Predictions for images without labels, by the model and the pipeline of a runner's finished test."""
    runner.logger.info(f'OOD images: {len(paths)}')
    pipeline = innermost(runner.cfg.test_dataloader.dataset).pipeline
    return runner.predict_also(UnlabelledPhotos(paths, pipeline))


def format_ood(figures: Mapping[str, Any]) -> str:
    """:func:`ood_figures` for a terminal."""
    threshold = figures['threshold']
    scaled = 'scaled score' if threshold['calibrated'] else 'score'
    shares = {
        f'predicted with score >= {figures["score_at_95_tpr"]:.4f} (95 % TPR)': figures['fpr_at_95_tpr'],
        f'predicted with score >= {SURE}': figures[f'called_at_{SURE}'],
        f'predicted with {scaled} >= {SURE}': threshold['called'],  # the same without scaling
        '  test images kept by that threshold': threshold['kept'],
        '  correct among those': threshold['right'],
    }
    rows = {'AUROC of the highest score': f'{figures["auroc"]:.4f}'}
    rows |= {name: str(Proportion(share['k'], share['n'])) for name, share in shares.items()}
    width = max(map(len, rows))
    lines = (f'  {name:{width}}  {value}' for name, value in rows.items())
    return '\n'.join([f'{figures["photos"]} OOD images in {figures["folder"]}', *lines])
