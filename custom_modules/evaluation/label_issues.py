"""Doubtful labels: out-of-fold logistic regression on embeddings, ranked by cleanlab's confident learning.

Each photo is classified by a model that was fitted without it and its near-duplicates. A suspect is a row of the
report: ``path``, ``label``, ``suggested``, ``score`` (of the suggested class), ``label_score``, ``score_<class>``.
"""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # comes with cleanlab
from numpy.typing import NDArray

from custom_modules.datasets.annotation import Sample, is_prepared, label_photos
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.datasets.raw_folders import LeftOut, scan_raw
from custom_modules.errors import refuse
from custom_modules.evaluation.embeddings import Embedder, embed_photos
from custom_modules.files import check_folder
from custom_modules.pages import render
from custom_modules.photos.fingerprint import fingerprint, group_near_duplicates
from custom_modules.photos.parallel import map_photos
from custom_modules.photos.thumbnails import thumbnail
from custom_modules.progress import Progress

FOLDS = 5
# scikit-learn's C for standardised features, or 2 / n for n training photos if that is more. Larger values find fewer
# flipped labels: of 114 in 2278, 98 at 0.001, 92 at 0.01, 82 at 1.
REGULARISATION = 0.001
# A label with a score below the first is doubtful if another class scores more than the second. Alone, cleanlab's
# estimate is cautious with few photos: of 8 such flips in 160, it found 2 to 8.
CONTRADICTED, CONTRADICTING = 0.2, 0.5
MAX_CARDS = 1000  # about 20 MB, which a browser on a phone still shows


@dataclass(frozen=True)
class LabelIssues:
    """The photos with doubtful labels in a raw folder or a prepared dataset."""

    root: Path  # the folder that paths are relative to
    classes: list[str]  # in label order
    readable: int  # photos whose labels were examined
    suspects: list[dict[str, Any]]  # the most doubtful first
    unreadable: list[dict[str, str]]  # path and reason
    left_out: list[LeftOut] = field(default_factory=list)  # other files in a raw folder
    computed: int = 0  # embeddings that were not in the cache
    cache: Path = Path()  # the file with the embeddings


def find_label_issues(
    folder: Path, weights: Path, cache_dir: Path, seed: int = 0, progress: Progress | None = None
) -> LabelIssues:
    """Finds the doubtful labels of a raw folder or a prepared dataset, which is only read.

    Raises:
        InputError: The folder, the weights or the cache cannot be used, or there are too few classes or photos.
    """
    classes, photos, left_out = read_labelled(folder)
    _require_enough(classes, [photo.label for photo in photos])
    check_folder(cache_dir)
    embedder = Embedder(weights)
    cache = cache_dir / embedder.cache_name
    paths = [folder / photo.path for photo in photos]
    prints = map_photos(fingerprint, paths, progress=progress and partial(progress, 'comparing'))
    contents = {str(item.sha256): path for item, path in zip(prints, paths, strict=True) if item.problem is None}
    features, computed = embed_photos(contents, embedder, cache, progress and partial(progress, 'embedding'))
    found = list(zip(photos, prints, strict=True))
    unreadable = [{'path': photo.path, 'reason': item.problem} for photo, item in found if item.problem]
    kept = [position for position, item in enumerate(prints) if not item.problem]
    groups = np.arange(len(kept))
    for group in group_near_duplicates([prints[i].phash for i in kept]):
        groups[group] = group[0]
    vectors = np.array([features[str(prints[i].sha256)] for i in kept])
    suspects = find_suspects([photos[i] for i in kept], vectors, groups, classes, seed)
    return LabelIssues(folder, classes, len(kept), suspects, unreadable, left_out, computed, cache)


def read_labelled(folder: Path) -> tuple[list[str], list[Sample], list[LeftOut]]:
    """The classes, the photos and the files left out of a raw folder or of both subsets of a prepared dataset.

    Paths in a prepared dataset begin with the subset; train comes before val.
    """
    if is_prepared(folder):
        prepared = read_prepared(folder)
        subsets = {'train': prepared.train, 'val': prepared.val}
        photos = [Sample(f'{subset}/{path}', label) for subset in subsets for path, label in subsets[subset]]
        return prepared.classes, photos, []
    scan = scan_raw(folder)
    refuse(scan.problems)
    classes = sorted(scan.photos)
    return classes, label_photos(scan.photos, classes), scan.left_out


def find_suspects(
    photos: Sequence[Sample],
    features: NDArray[np.float32],
    groups: NDArray[np.intp],
    classes: Sequence[str],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The rows of photos with doubtful labels, the most doubtful first.

    Doubtful are the photos in cleanlab's estimate of the noise per class (Northcutt et al. 2021, "Confident Learning",
    section 3.2), and those whose label is clearly contradicted. Too few classes or photos are an InputError.
    ``features`` are the embeddings, (N, D); ``groups`` numbers the groups of near-duplicates, (N,).
    """
    from cleanlab.filter import find_label_issues as estimate_issues

    labels = np.array([photo.label for photo in photos], int)
    _require_enough(classes, [label for label, _ in set(zip(labels.tolist(), groups.tolist(), strict=True))])
    scores = out_of_fold_scores(features, labels, groups, seed)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about classes without a confident prediction
        # One process: starting more takes longer than their work.
        doubtful = estimate_issues(labels, scores, filter_by='prune_by_class', n_jobs=1)
    confidence = scores[np.arange(len(labels)), labels]
    doubtful |= (confidence < CONTRADICTED) & (scores.max(axis=1) > CONTRADICTING)
    rows = []
    for i in np.argsort(confidence, kind='stable'):
        if not doubtful[i]:
            continue
        named = dict(zip(classes, scores[i].tolist(), strict=True))
        label = classes[labels[i]]
        suggested = max((name for name in classes if name != label), key=named.__getitem__)
        row = {'path': photos[i].path, 'label': label, 'suggested': suggested, 'score': named[suggested]}
        rows.append(row | {'label_score': named[label]} | {f'score_{name}': named[name] for name in classes})
    return rows


def out_of_fold_scores(
    features: NDArray[np.float32], labels: NDArray[np.intp], groups: NDArray[np.intp], seed: int = 0
) -> NDArray[np.float64]:
    """Softmax scores, (N, K), of each photo by a logistic regression that was fitted to the other four fifths.

    Features are standardised by the training photos of each fold. Photos of one group are in the same fold; each class
    must have five groups or more.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    c = max(REGULARISATION, 2 / ((1 - 1 / FOLDS) * len(labels)))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model, features, labels, groups=groups, cv=folds, method='predict_proba')


def format_issues(issues: LabelIssues, suffix: str) -> str:
    """The report as text: ``'.csv'``, ``'.json'``, or ``'.html'``, a gallery of the first thousand suspects."""
    suspects = issues.suspects
    if suffix == '.json':
        content = {'suspects': suspects, 'unreadable': issues.unreadable}
        return json.dumps(content, indent=1, ensure_ascii=False) + '\n'
    if suffix == '.csv':
        columns = ['path', 'label', 'suggested', 'score', 'label_score', *(f'score_{name}' for name in issues.classes)]
        return pandas.DataFrame(suspects, columns=columns).to_csv(index=False, lineterminator='\n')
    pairs = Counter((row['label'], row['suggested']) for row in suspects)
    return render(
        Path(__file__).with_name('label_issues.html'),
        name=issues.root.resolve().name,
        photos=issues.readable,
        total=len(suspects),
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        cards=[(row, thumbnail(issues.root / row['path'])) for row in suspects[:MAX_CARDS]],
        unreadable=issues.unreadable,
    )


def _require_enough(classes: Sequence[str], labels: Sequence[int]) -> None:
    """Checks that each fold has photos of each class; ``labels`` has one entry per photo or group."""
    problems = [] if len(classes) > 1 else [f'only one class, {classes[0]!r}. Add a second one.']
    problems += [
        f'class {name!r}: {count} readable photo(s), near-duplicates counted once, and {FOLDS} are needed. '
        'Add photos, or leave the class out.'
        for label, name in enumerate(classes)
        if (count := labels.count(label)) < FOLDS
    ]
    refuse(problems)
