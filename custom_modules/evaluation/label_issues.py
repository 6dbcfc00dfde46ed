"""Which labels are doubtful: out-of-fold logistic regression on embeddings, and cleanlab's ranking. Changes no label.

A photo is judged by a classifier that was fitted without it and without its copies. What disagrees with its label is a
suspect, for a person to look at. Embedding is embeddings.py's, the gallery label_issues_page.py's.
"""

import csv
import io
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from custom_modules.datasets.annotation import (
    SIDES,
    Sample,
    check_disjoint,
    is_prepared,
    label_photos,
    read_classes,
    read_samples,
    refuse,
)
from custom_modules.datasets.raw_folders import LeftOut, scan_raw
from custom_modules.errors import InputError
from custom_modules.files import printable

FOLDS = 5

REGULARISATION = 0.001
"""scikit-learn's ``C`` for standardised features, or ``2 / n`` for n photos where that is more.

With 5 % of the labels of 2278 photos flipped (four seeds), the first 114 of the ranking held 82 flipped ones at
C = 1, 92 at 0.01, 98 at 0.001, 96 at 0.0001; accuracy with the labels as they are hardly moves (92.8-93.3 %). Of 100
of the photos (six seeds of 5 flips), 19 of 30 were found at 2 / n and 16 at 0.001.
"""

CONTRADICTED, CONTRADICTING = 0.2, 0.5
"""A label that scores less than the first, where another scores more than the second, is doubtful in any case.

cleanlab's estimates are cautious with few photos: of 8 flips planted in 160, all of this kind, they took in 2 to 8. Of
the 2278 photos as they are this adds 13 suspects to 23, half of them rightly; with flips it adds 2 to 9.
"""

COPY_DISTANCE = 0.1
"""Squared distance of two embeddings, as a share of the median within their classes, up to which they count as copies.

Of the 2278 photos 8 pairs are as near: five identical or nearly so, three of the same flower; strangers begin at 0.13.
A share, for a bound on the cosine takes all photos of an easy class for copies of each other.
"""

Scores = NDArray[np.floating]  # (N, K), softmax scores of the K classes


class Photo(NamedTuple):
    """A labelled photo: its ``path`` relative to the folder it was found in, with ``/``, and its label from 0."""

    path: str
    label: int


@dataclass(frozen=True)
class LabelledPhotos:
    """What a raw folder or a prepared dataset holds.

    Args:
        root: The folder that paths are relative to.
        classes: Class names in label order.
        photos: All photos, train before val.
        left_out: What stands in a raw folder and is no photo.
    """

    root: Path
    classes: list[str]
    photos: list[Photo]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Suspect:
    """A photo whose label is doubtful.

    Args:
        path: Relative to the folder it was found in.
        label: The class it is labelled as.
        suggested: The other class with the highest score.
        score: Out-of-fold softmax score of ``suggested``.
        label_score: Out-of-fold softmax score of ``label``; the lower, the more doubtful.
        scores: The same for every class.
    """

    path: str
    label: str
    suggested: str
    score: float
    label_score: float
    scores: dict[str, float]

    def __str__(self) -> str:
        return printable(f'labelled {self.label}, looks like {self.suggested} ({self.score:.2f})  {self.path}')


def read_labelled(data: Path) -> LabelledPhotos:
    """Lists the photos of a raw folder or, where there is a sign of one, of a prepared dataset with both its sides.

    Raises:
        InputError: With everything that is wrong with it.
    """
    if not is_prepared(data):
        scan = scan_raw(data)
        classes = sorted(scan.photos)
        photos = [Photo(*sample) for sample in label_photos(scan.photos, classes)]
        _require_enough(classes, [label for _, label in photos])
        return LabelledPhotos(data, classes, photos, scan.left_out)
    classes = read_classes(data / 'classes.txt')
    samples: dict[str, list[Sample]] = {}
    problems: list[str] = []
    for side in SIDES:
        try:
            samples[side] = read_samples(data / f'{side}.txt', classes, data / side)
        except InputError as error:
            problems += error.problems
    if problems:
        refuse(problems)
    check_disjoint(samples['train'], samples['val'])
    photos = [Photo(f'{side}/{path}', label) for side in SIDES for path, label in samples[side]]
    _require_enough(classes, [label for _, label in photos])
    return LabelledPhotos(data, classes, photos, [])


def copy_groups(
    features: NDArray[np.float32], labels: Sequence[int], share: float = COPY_DISTANCE
) -> NDArray[np.intp]:
    """Numbers photos so that copies, and copies of copies, have the same number.

    Args:
        features: (N, D) float32, embeddings.
        labels: N labels, from 0.
        share: How near copies are, see :data:`COPY_DISTANCE`.

    Returns:
        (N,) positions: of each photo's group, that of the first photo in it.
    """
    first = np.arange(len(features))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = int(first[i])
        return i

    def distances(a: slice | NDArray, b: slice | NDArray) -> NDArray[np.float32]:
        return squares[a, None] + squares[None, b] - 2 * centred[a] @ centred[b].T

    targets = np.asarray(labels)
    centred = features - features.mean(axis=0) if len(features) else features
    squares = (centred**2).sum(axis=1)
    bound = 1e-6 * squares  # float32 rounds: identical ones need not come out at 0
    for label in set(labels):
        members = np.flatnonzero(targets == label)
        sample = members[:: -(-len(members) // 500)]
        if len(sample) > 1:
            within = distances(sample, sample)[np.triu_indices(len(sample), 1)]
            bound[members] += share * max(0, float(np.median(within)))
    block = 1024  # N x N distances at once would not fit the memory for 100 000 photos
    for start in range(0, len(features), block):
        rows, others = slice(start, start + block), slice(start, None)
        near = distances(rows, others) <= np.minimum(bound[rows, None], bound[None, others])
        for row, column in zip(*np.nonzero(near), strict=True):
            a, b = root(start + int(row)), root(start + int(column))
            first[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(features))], np.intp)


def out_of_fold_scores(
    features: NDArray[np.float32],
    labels: Sequence[int],
    groups: NDArray[np.intp],
    classes: Sequence[str],
    seed: int = 0,
) -> Scores:
    """Scores each photo by a logistic regression that was fitted to the other four fifths.

    Args:
        features: (N, D) float32, embeddings; standardised here, by what each regression is fitted to.
        labels: N labels, from 0.
        groups: (N,); photos of one group are never on both sides of a fold.
        classes: K class names, in label order.
        seed: What the folds are drawn from.

    Returns:
        (N, K) softmax scores.

    Raises:
        InputError: There are fewer than two classes, or fewer than five groups in one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    targets = np.asarray(labels)
    _require_enough(classes, [label for label, _ in set(zip(targets.tolist(), groups.tolist(), strict=True))])
    scores = np.zeros((len(targets), len(classes)))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, judged in folds.split(features, targets, groups):
        c = max(REGULARISATION, 2 / len(fitted))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        model.fit(features[fitted], targets[fitted])
        scores[np.ix_(judged, model.classes_)] = model.predict_proba(features[judged])
    return scores


def rank_suspects(scores: Scores, labels: Sequence[int]) -> list[int]:
    """Positions of the doubtful photos, the most doubtful first.

    Doubtful is what either of cleanlab's two estimates of the noise takes in, per class or per pair of classes
    (Northcutt et al. 2021, "Confident Learning", section 3.2), and what is contradicted outright, whatever the
    estimates; the order is self-confidence. On 5 % flipped labels (six seeds of 114) the first 114 of both estimates
    held 583 of 684 flipped ones, of the estimate per class alone 580, per pair 557. By normalised margin, cleanlab's
    other order, 94 of 114 were found where self-confidence found 98 (four seeds).

    Args:
        scores: (N, K) out-of-fold softmax scores.
        labels: N labels, from 0.
    """
    from cleanlab.filter import find_label_issues

    targets = np.asarray(labels)
    doubtful = np.zeros(len(targets), bool)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about classes in which it could not be confident
        for estimate in ('prune_by_class', 'prune_by_noise_rate'):
            # One process: starting more costs more than their work.
            doubtful |= find_label_issues(targets, np.asarray(scores, np.float64), filter_by=estimate, n_jobs=1)
    confidence = scores[np.arange(len(targets)), targets]
    doubtful |= (confidence < CONTRADICTED) & (scores.max(axis=1) > CONTRADICTING)
    return [int(i) for i in np.argsort(confidence, kind='stable') if doubtful[i]]


def find_suspects(
    photos: Sequence[Photo], features: NDArray[np.float32], classes: Sequence[str], seed: int = 0
) -> list[Suspect]:
    """Finds the photos whose labels are doubtful, the most doubtful first.

    Args:
        photos: N labelled photos.
        features: (N, D) float32, their embeddings.
        classes: Class names, in label order.
        seed: What the folds are drawn from.

    Raises:
        InputError: There are too few classes or photos.
    """
    labels = [photo.label for photo in photos]
    scores = out_of_fold_scores(features, labels, copy_groups(features, labels), classes, seed)
    suspects = []
    for i in rank_suspects(scores, labels):
        row, label = scores[i], labels[i]
        other = max((k for k in range(len(classes)) if k != label), key=row.__getitem__)
        named = {name: float(score) for name, score in zip(classes, row, strict=True)}
        suspects.append(
            Suspect(photos[i].path, classes[label], classes[other], float(row[other]), float(row[label]), named)
        )
    return suspects


def format_suspects(
    suspects: Sequence[Suspect], classes: Sequence[str], unreadable: Iterable[tuple[str, str]], suffix: str
) -> str:
    """The suspects as text, one row each, the most doubtful first.

    Args:
        suspects: What :func:`find_suspects` returned.
        classes: Class names, in label order.
        unreadable: Path and reason of photos that were not judged; in JSON only.
        suffix: ``'.csv'``, or ``'.json'`` for an object with ``suspects`` and ``unreadable``.

    Raises:
        ValueError: Another suffix.
    """
    rows = [
        {
            'path': suspect.path,
            'label': suspect.label,
            'suggested': suspect.suggested,
            'score': suspect.score,
            'label_score': suspect.label_score,
            **{f'score_{name}': suspect.scores[name] for name in classes},
        }
        for suspect in suspects
    ]
    if suffix.lower() == '.json':
        whole = {
            'suspects': rows,
            'unreadable': [{'path': path, 'reason': reason} for path, reason in unreadable],
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + '\n'
    if suffix.lower() == '.csv':
        text = io.StringIO()
        columns = ['path', 'label', 'suggested', 'score', 'label_score', *(f'score_{name}' for name in classes)]
        writer = csv.DictWriter(text, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
    raise ValueError(f'unknown format {suffix!r}: use .csv or .json')


def _require_enough(classes: Sequence[str], labels: Sequence[int]) -> None:
    """Checks that each photo can be judged by others: the labels of different ones are given."""
    problems = [] if len(classes) > 1 else [f'only one class, {classes[0]!r}: two or more are needed']
    problems += [
        f'class {name!r}: {count} readable photo(s), copies counted once, and {FOLDS} are needed to judge each by the '
        'others: add photos, or leave the class out'
        for label, name in enumerate(classes)
        if (count := labels.count(label)) < FOLDS
    ]
    if problems:
        refuse(problems)
