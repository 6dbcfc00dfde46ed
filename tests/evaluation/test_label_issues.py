"""Doubtful labels: planted flips are found, near-duplicates do not confirm each other, too few photos are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from custom_modules.datasets.annotation import Sample
from custom_modules.errors import InputError
from custom_modules.evaluation import label_issues
from custom_modules.evaluation.label_issues import find_suspects, out_of_fold_scores, read_labelled

ROOT = Path(__file__).parents[2]
REAL_PHOTOS = ROOT.parent / 'shared' / 'flower_dataset_raw'
WEIGHTS = ROOT / 'checkpoints' / 'mobilenet_v2.pth'

CLASSES = ['daisy', 'rose', 'tulip', 'whatever']


def clusters(seed: int = 0, per_class: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(N, 32) float32 embeddings around a centre for each class, and N labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    centres = random.normal(size=(len(CLASSES), 32))
    return (centres[labels] + 0.5 * random.normal(size=(len(labels), 32))).astype(np.float32), labels


def flip(labels: np.ndarray, n: int, seed: int, classes: int = len(CLASSES)) -> tuple[np.ndarray, set[str]]:
    """The labels with ``n`` of them moved to another class, and the paths of those."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(labels), n, replace=False)
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + random.integers(1, classes, n)) % classes
    return flipped, {f'{i}.jpg' for i in chosen}


def suspects_of(features, labels, groups=None, classes=CLASSES, seed=0):
    photos = [Sample(f'{i}.jpg', int(label)) for i, label in enumerate(labels)]
    return find_suspects(photos, features, np.arange(len(labels)) if groups is None else groups, classes, seed)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_planted_flips_are_the_suspects(seed):
    features, labels = clusters(seed)
    flipped, planted = flip(labels, 8, seed)
    suspects = suspects_of(features, flipped)
    assert {suspect.path for suspect in suspects} == planted
    for suspect in suspects:
        assert suspect.suggested == CLASSES[labels[int(suspect.path.removesuffix('.jpg'))]] != suspect.label
        assert suspect.score > suspect.label_score
        assert sum(suspect.scores.values()) == pytest.approx(1)
    assert [s.label_score for s in suspects] == sorted(s.label_score for s in suspects)
    assert not suspects_of(features, labels)


def test_the_seed_decides_the_folds():
    features, labels = clusters()
    flipped, _ = flip(labels, 8, 0)
    assert suspects_of(features, flipped, seed=3) == suspects_of(features, flipped, seed=3)
    assert suspects_of(features, flipped, seed=3) != suspects_of(features, flipped, seed=4)


def test_copies_with_the_same_wrong_label_do_not_confirm_each_other():
    """Ten copies of one daisy among the roses: a fold with one of them would take the others for roses."""
    features, labels = clusters()
    copies = features[0] + np.random.default_rng(0).normal(scale=0.01, size=(10, 32)).astype(np.float32)
    features, labels = np.vstack([features, copies]), np.append(labels, [1] * 10)
    groups = np.append(np.arange(160), [0] * 10)
    alone = out_of_fold_scores(features, labels, np.arange(len(labels)))
    together = out_of_fold_scores(features, labels, groups)
    assert together[160:, 1].max() < alone[160:, 1].min()
    found = {suspect.path for suspect in suspects_of(features, labels, groups)}
    assert found >= {f'{i}.jpg' for i in range(160, 170)}


def test_too_few_classes_or_photos_are_all_named():
    features, labels = clusters(per_class=3)
    with pytest.raises(InputError) as caught:
        suspects_of(features, labels, classes=[*CLASSES, 'empty'])
    assert len(caught.value.problems) == 5
    assert caught.value.problems[0].startswith("class 'daisy': 3 readable photo(s)")
    with pytest.raises(InputError, match='only one class'):
        suspects_of(features, np.zeros(12, int), classes=['rose'])
    features, labels = clusters(per_class=5)
    assert len(suspects_of(features, labels)) <= 20
    with pytest.raises(InputError, match='near-duplicates counted once'):
        suspects_of(features, labels, np.array([0, 0, *range(18)]))


def test_reads_raw_folders_and_prepared_datasets(raw, data, tmp_path):
    found = read_labelled(raw)
    assert found.classes == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    prepared = read_labelled(data)
    assert prepared.classes == found.classes
    assert len(prepared.photos) == len(found.photos) == 55
    for photo in prepared.photos:
        assert (data / photo.path).is_file()
        assert photo.path.split('/')[1] == found.classes[photo.label]
    shutil.copytree(data, tmp_path / 'data')
    (tmp_path / 'data' / 'val.txt').unlink()
    with pytest.raises(InputError, match=r'val\.txt: no such file'):
        read_labelled(tmp_path / 'data')


@pytest.fixture(scope='module')
def real(tmp_path_factory) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The real photos' embeddings, through the tool's cache; labels, groups and class names."""
    if not REAL_PHOTOS.is_dir():
        pytest.skip('the real photos are missing (shared/flower_dataset_raw beside this project)')
    if not WEIGHTS.is_file():
        pytest.skip('no ImageNet weights: python tools/fetch_weights.py mobilenet_v2')
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_issues, 'find_suspects', lambda *arguments: given.extend(arguments) or [])
        label_issues.find_label_issues(REAL_PHOTOS, WEIGHTS, ROOT / 'work_dirs' / 'embeddings')
    photos, features, groups, classes, _ = given
    return features, np.array([photo.label for photo in photos]), groups, classes


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_of_5_percent_flipped_real_labels_80_percent_lead_the_suspects(real, seed):
    features, labels, groups, classes = real
    n = round(0.05 * len(labels))
    flipped, planted = flip(labels, n, seed, len(classes))
    suspects = suspects_of(features, flipped, groups, classes)
    k = sum(suspect.path in planted for suspect in suspects[:n])
    print(f'seed {seed}: {k}/{n} of the first {n} suspects are flipped ones, {len(suspects)} suspects in all')
    assert k >= 0.8 * n
