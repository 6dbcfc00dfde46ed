"""Doubtful labels: out-of-fold logistic regression on embeddings, ranked by cleanlab's confident learning.

Each photo is classified by a model that was fitted without it and its near-duplicates.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_modules.datasets.annotation import Sample, is_prepared, label_photos, refuse
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.datasets.raw_folders import LeftOut, scan_raw
from custom_modules.evaluation.embeddings import Embedder, cache_file, embed_photos
from custom_modules.files import check_folder, printable
from custom_modules.photos.fingerprint import fingerprint_all, group_near_duplicates
from custom_modules.progress import Progress

FOLDS = 5

REGULARISATION = 0.001
"""scikit-learn's ``C`` for standardised features, or ``2 / n`` for n training photos if that is more.

Larger values find fewer flipped labels: of 114 in 2278, 98 at 0.001, 92 at 0.01, 82 at 1.
"""

CONTRADICTED, CONTRADICTING = 0.2, 0.5
"""A label with a score below the first is doubtful if another class scores more than the second.

Alone, cleanlab's estimate is cautious with few photos: of 8 such flips in 160, it found 2 to 8.
"""


@dataclass(frozen=True)
class LabelledPhotos:
    """The photos of a raw folder or a prepared dataset.

    Args:
        root: The folder that paths are relative to.
        classes: Class names in label order.
        photos: All photos, train before val; of a prepared dataset, paths begin with the subset.
        left_out: Other files in a raw folder.
    """

    root: Path
    classes: list[str]
    photos: list[Sample]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Suspect:
    """A photo with a doubtful label.

    Args:
        path: Relative to the folder of the photos.
        label: The class it is labelled as.
        suggested: The other class with the highest score.
        scores: Out-of-fold softmax score of each class.
    """

    path: str
    label: str
    suggested: str
    scores: dict[str, float]

    @property
    def score(self) -> float:
        """The score of the suggested class."""
        return self.scores[self.suggested]

    @property
    def label_score(self) -> float:
        """The score of the label; the lower, the more doubtful."""
        return self.scores[self.label]

    def __str__(self) -> str:
        return printable(f'labelled {self.label}, looks like {self.suggested} ({self.score:.2f})  {self.path}')


@dataclass(frozen=True)
class LabelIssues:
    """The doubtful labels of a dataset.

    Args:
        data: The photos.
        suspects: The most doubtful first.
        unreadable: Path and reason of each photo that cannot be read.
        computed: Number of embeddings that were not in the cache.
        cache: The file with the embeddings.
    """

    data: LabelledPhotos
    suspects: list[Suspect]
    unreadable: list[tuple[str, str]]
    computed: int
    cache: Path

    @property
    def readable(self) -> int:
        """Number of photos whose label was examined."""
        return len(self.data.photos) - len(self.unreadable)


def find_label_issues(
    folder: Path, weights: Path, cache_dir: Path, seed: int = 0, progress: Progress | None = None
) -> LabelIssues:
    """Finds the doubtful labels of a raw folder or a prepared dataset, which is only read.

    Args:
        folder: The photos.
        weights: A file that tools/fetch_weights.py wrote.
        cache_dir: Folder of the embeddings' cache.
        seed: Seed of the folds.
        progress: Called with the step and the numbers of photos done and in all.

    Raises:
        InputError: The folder, the weights or the cache cannot be used, or there are too few classes or photos.
    """

    def step(name: str) -> Callable[[int, int], None] | None:
        return progress and (lambda done, total: progress(name, done, total))

    data = read_labelled(folder)
    check_folder(cache_dir)
    embedder = Embedder(weights)
    paths = [data.root / photo.path for photo in data.photos]
    prints = fingerprint_all(paths, progress=step('comparing'))
    photos = {str(item.sha256): path for item, path in zip(prints, paths, strict=True) if item.problem is None}
    features, unreadable, computed = embed_photos(photos, embedder, cache_dir, step('embedding'))
    reasons = [item.problem or unreadable.get(str(item.sha256)) for item in prints]
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    groups = np.arange(len(kept))
    for group in group_near_duplicates([prints[i].phash for i in kept]):
        groups[group] = group[0]
    vectors = np.array([features[str(prints[i].sha256)] for i in kept])
    suspects = find_suspects([data.photos[i] for i in kept], vectors, groups, data.classes, seed)
    named = [(photo.path, reason) for photo, reason in zip(data.photos, reasons, strict=True) if reason]
    return LabelIssues(data, suspects, named, computed, cache_file(embedder, cache_dir))


def read_labelled(folder: Path) -> LabelledPhotos:
    """Lists the photos of a raw folder or of both subsets of a prepared dataset.

    Raises:
        InputError: The folder is neither, or there are too few classes or photos.
    """
    if is_prepared(folder):
        prepared = read_prepared(folder)
        subsets = {'train': prepared.train, 'val': prepared.val}
        photos = [Sample(f'{subset}/{path}', label) for subset in subsets for path, label in subsets[subset]]
        data = LabelledPhotos(folder, prepared.classes, photos, [])
    else:
        scan = scan_raw(folder)
        classes = sorted(scan.photos)
        data = LabelledPhotos(folder, classes, label_photos(scan.photos, classes), scan.left_out)
    _require_enough(data.classes, [photo.label for photo in data.photos])
    return data


def find_suspects(
    photos: Sequence[Sample],
    features: NDArray[np.float32],
    groups: NDArray[np.intp],
    classes: Sequence[str],
    seed: int = 0,
) -> list[Suspect]:
    """Finds the photos with doubtful labels, the most doubtful first.

    Args:
        photos: N labelled photos.
        features: (N, D) float32, their embeddings.
        groups: (N,), a number per group of near-duplicates.
        classes: K class names, in label order.
        seed: Seed of the folds.

    Raises:
        InputError: There are too few classes or photos.
    """
    labels = np.array([photo.label for photo in photos], int)
    _require_enough(classes, [label for label, _ in set(zip(labels.tolist(), groups.tolist(), strict=True))])
    scores = out_of_fold_scores(features, labels, groups, seed)
    suspects = []
    for i in rank_suspects(scores, labels):
        named = dict(zip(classes, scores[i].tolist(), strict=True))
        label = classes[labels[i]]
        suggested = max((name for name in classes if name != label), key=named.__getitem__)
        suspects.append(Suspect(photos[i].path, label, suggested, named))
    return suspects


def out_of_fold_scores(
    features: NDArray[np.float32], labels: NDArray[np.intp], groups: NDArray[np.intp], seed: int = 0
) -> NDArray[np.float64]:
    """Scores each photo by a logistic regression that was fitted to the other four fifths.

    Args:
        features: (N, D) float32, embeddings; standardised by the training photos of each fold.
        labels: (N,), each of K classes in five groups or more.
        groups: (N,); photos of one group are in the same fold.
        seed: Seed of the folds.

    Returns:
        (N, K) softmax scores.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    c = max(REGULARISATION, 2 / ((1 - 1 / FOLDS) * len(labels)))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model, features, labels, groups=groups, cv=folds, method='predict_proba')


def rank_suspects(scores: NDArray[np.float64], labels: NDArray[np.intp]) -> list[int]:
    """Positions of the doubtful photos by self-confidence, the most doubtful first.

    Doubtful are the photos in cleanlab's estimate of the noise per class (Northcutt et al. 2021, "Confident Learning",
    section 3.2), and those whose label is clearly contradicted.

    Args:
        scores: (N, K) out-of-fold softmax scores.
        labels: (N,) labels.
    """
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about classes without a confident prediction
        # One process: starting more takes longer than their work.
        doubtful = find_label_issues(labels, scores, filter_by='prune_by_class', n_jobs=1)
    confidence = scores[np.arange(len(labels)), labels]
    doubtful |= (confidence < CONTRADICTED) & (scores.max(axis=1) > CONTRADICTING)
    return [int(i) for i in np.argsort(confidence, kind='stable') if doubtful[i]]


def _require_enough(classes: Sequence[str], labels: Sequence[int]) -> None:
    """Checks that each fold has photos of each class; ``labels`` has one entry per photo or group."""
    problems = [] if len(classes) > 1 else [f'only one class, {classes[0]!r}. Add a second one.']
    problems += [
        f'class {name!r}: {count} readable photo(s), near-duplicates counted once, and {FOLDS} are needed. '
        'Add photos, or leave the class out.'
        for label, name in enumerate(classes)
        if (count := labels.count(label)) < FOLDS
    ]
    if problems:
        refuse(problems)
