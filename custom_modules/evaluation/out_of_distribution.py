"""What a model makes of photos that show none of its classes: which are taken, their scores, what is counted of them.

D. Hendrycks and K. Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks,
ICLR 2017: the highest softmax score should tell them from photos of the classes, and how well it does is an AUROC.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_modules.errors import InputError
from custom_modules.metrics.calibration import scaling_fault, tempered
from custom_modules.metrics.predictions import SURE, Prediction, Proportion

if TYPE_CHECKING:
    from custom_modules.engine.runner import TerseRunner
    from custom_modules.photos.opening import Unreadable

TPR = 0.95  # share of the test photos that a threshold is to let pass


@dataclass(frozen=True)
class Outcome:
    """How photos of none of the classes are told from the test photos by their highest score.

    Args:
        auroc: The probability that a test photo scores higher than one of these; equal scores count half. 0-1.
        passing_score: The highest score that 95 % of the test photos reach.
        passing: Of these, those that reach it too (FPR at 95 % TPR).
        sure: Of these, those that are called one of the classes with a score of 0.9 or more.
        calibrated: Whether the next three are of scores after temperature scaling.
        kept: Of the test photos, those that score ``SURE`` or more.
        right: Of those kept, the right ones.
        called: Of these, those that score ``SURE`` or more.
    """

    auroc: float
    passing_score: float
    passing: Proportion
    sure: Proportion
    calibrated: bool
    kept: Proportion
    right: Proportion
    called: Proportion

    def as_dict(self, folder: str, unreadable: int) -> dict[str, Any]:
        """For JSON, with the folder that these photos come from and how many there could not be read."""
        return {
            'folder': folder,
            'photos': self.sure.n,
            'unreadable': unreadable,
            'auroc': self.auroc,
            'score_at_95_tpr': self.passing_score,
            'fpr_at_95_tpr': self.passing.as_dict(),
            f'called_at_{SURE}': self.sure.as_dict(),
            'threshold': {
                'min_score': SURE,
                'calibrated': self.calibrated,
                'kept': self.kept.as_dict(),
                'right': self.right.as_dict(),
                'called': self.called.as_dict(),
            },
        }


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """The probability that one of ``inside`` is greater than one of ``outside``, each (N,); 0-1, equals count half.

    From the sum of ranks: J. A. Hanley and B. J. McNeil, The Meaning and Use of the Area under a ROC Curve, 1982.
    """
    from scipy.stats import rankdata  # 0.5 s, which no training needs

    n, m = np.size(inside), np.size(outside)
    ranks = rankdata(np.concatenate([np.ravel(inside), np.ravel(outside)]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def threshold_at(inside: ArrayLike, share: float) -> float:
    """The highest threshold that at least ``share`` (0-1) of ``inside``, (N,), reach."""
    highest_first = np.sort(np.ravel(inside))[::-1]
    return float(highest_first[max(0, ceil(share * len(highest_first) - 1e-9) - 1)])


def outcome(tested: Sequence[Prediction], others: Sequence[Prediction], scaling: Mapping[str, Any] | None) -> Outcome:
    """Counts what the highest scores tell.

    Args:
        tested: Predictions of the test photos, whose truth is known.
        others: Predictions of photos of none of the classes.
        scaling: The results' ``temperature_scaling``; its temperature is used unless it has a fault.

    Raises:
        ValueError: There are no photos of one of the two.
    """
    scores, outer_scores = [p.scores for p in tested], [p.scores for p in others]
    temperature = scaling['temperature'] if scaling and not scaling_fault(scaling) else None
    inside, outside = _highest(scores), _highest(outer_scores)
    kept, called = inside, outside
    if temperature is not None:
        kept, called = _highest(tempered(scores, temperature)), _highest(tempered(outer_scores, temperature))
    right = np.array([p.label == p.truth for p in tested])
    keep, passing_score = kept >= SURE, threshold_at(inside, TPR)
    return Outcome(
        auroc=auroc(inside, outside),
        passing_score=passing_score,
        passing=_share(outside >= passing_score),
        sure=_share(outside >= SURE),
        calibrated=temperature is not None,
        kept=_share(keep),
        right=_share(right[keep]),
        called=_share(called >= SURE),
    )


def _highest(scores: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(scores, float).max(axis=1)


def _share(chosen: NDArray[np.bool_]) -> Proportion:
    return Proportion(int(chosen.sum()), len(chosen))


def list_others(folder: str, data_root: Path) -> 'tuple[list[str], list[Unreadable]]':
    """The photos in a folder, at any depth, that can be read, and what is wrong with the others.

    Args:
        folder: Where to look.
        data_root: The dataset, whose photos are of the classes.

    Raises:
        InputError: There is no such folder, no readable photo in it, or it and the dataset lie in one another.
    """
    from custom_modules.photos.decoding import is_readable
    from custom_modules.photos.listing import list_photos
    from custom_modules.photos.opening import BROKEN, Unreadable, file_problem

    if not Path(folder).is_dir():
        raise InputError(f'--ood {folder}: no such folder; name one with photos of none of the classes')
    here, dataset = Path(folder).resolve(), data_root.resolve()
    if here.is_relative_to(dataset) or dataset.is_relative_to(here):
        raise InputError(f'--ood {folder}: lies in one with the dataset {data_root}, whose photos are of the classes')
    readable, unreadable = [], []
    for path in list_photos([folder]):
        if problem := file_problem(path) or (None if is_readable(path) else BROKEN):
            unreadable.append(Unreadable(path, problem))
        else:
            readable.append(path)
    if not readable:
        raise InputError(f'--ood {folder}: none of its {len(unreadable)} photos can be read; name another folder')
    return readable, unreadable


def answer(runner: 'TerseRunner', loader: Mapping[str, Any], paths: Sequence[str]) -> list[Prediction]:
    """Tests the runner's model on photos without labels.

    Args:
        runner: It has tested the photos of the dataset.
        loader: The config of the loader that it did so with.
        paths: The photos, all readable.
    """
    from custom_modules.datasets.unlabelled_photos import UnlabelledPhotos
    from custom_modules.metrics.predictions_metric import PredictionsMetric

    photos = UnlabelledPhotos(paths, loader['dataset']['pipeline'])
    metric = PredictionsMetric()
    runner.logger.info(f'photos of none of the classes: {len(paths)}')
    # Its workers are not kept, for it is run through once.
    runner.test_also({**deepcopy(dict(loader)), 'dataset': photos, 'persistent_workers': False}, metric)
    return metric.predictions


def format_outcome(found: Outcome, folder: str) -> str:
    """The outcome of the photos in ``folder``, as lines for a terminal."""
    scaled = 'after temperature scaling, score' if found.calibrated else 'score'
    rows = {
        'AUROC of the highest score': f'{found.auroc:.4f}',
        f'called a class, score >= {found.passing_score:.4f} (95 % of the test photos)': found.passing,
        **({f'called a class, score >= {SURE}': found.sure} if found.calibrated else {}),
        f'called a class, {scaled} >= {SURE}': found.called,
        '  of the test photos so many are kept': found.kept,
        '  and of those so many right': found.right,
    }
    width = max(map(len, rows))
    lines = [f'{found.sure.n} photos of none of the classes in {folder}']
    return '\n'.join([*lines, *(f'  {name:{width}}  {value}' for name, value in rows.items())])
