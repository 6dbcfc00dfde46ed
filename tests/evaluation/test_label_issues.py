"""Doubtful labels: planted flips are found, near-duplicates do not confirm each other; the report in its formats."""

import csv
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_elements import Elements, assert_self_contained

from custom_modules.datasets.annotation import Sample
from custom_modules.evaluation import label_issues
from custom_modules.evaluation.label_issues import (
    LabelIssues,
    find_suspects,
    format_issues,
    out_of_fold_scores,
)

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


@pytest.mark.parametrize('seed', [0, 1])
def test_planted_flips_are_the_suspects(seed):
    features, labels = clusters(seed)
    flipped, planted = flip(labels, 8, seed)
    suspects = suspects_of(features, flipped)
    assert {row['path'] for row in suspects} == planted
    for row in suspects:
        assert row['suggested'] == CLASSES[labels[int(row['path'].removesuffix('.jpg'))]] != row['label']
        assert row['score'] == row[f'score_{row["suggested"]}'] > row['label_score'] == row[f'score_{row["label"]}']
        assert sum(row[f'score_{name}'] for name in CLASSES) == pytest.approx(1)
    assert [row['label_score'] for row in suspects] == sorted(row['label_score'] for row in suspects)
    assert not suspects_of(features, labels)
    assert suspects_of(features, flipped) == suspects != suspects_of(features, flipped, seed=4)


def test_copies_with_the_same_wrong_label_do_not_confirm_each_other():
    """Ten copies of one daisy among the roses: a fold with one of them would take the others for roses."""
    features, labels = clusters()
    copies = features[0] + np.random.default_rng(0).normal(scale=0.01, size=(10, 32)).astype(np.float32)
    features, labels = np.vstack([features, copies]), np.append(labels, [1] * 10)
    groups = np.append(np.arange(160), [0] * 10)
    alone = out_of_fold_scores(features, labels, np.arange(len(labels)))
    together = out_of_fold_scores(features, labels, groups)
    assert together[160:, 1].max() < alone[160:, 1].min()
    found = {row['path'] for row in suspects_of(features, labels, groups)}
    assert found >= {f'{i}.jpg' for i in range(160, 170)}


ODD = '<b onload=x>"&.jpg'


def issues(root: Path, names: list[str], unreadable: list[str]) -> LabelIssues:
    """Doubtful roses among 30 photos, whose pictures are in ``root``."""
    scores = {'score': 0.97, 'label_score': 0.01, 'score_rose': 0.01, 'score_tulip': 0.97}
    suspects = [{'path': name, 'label': 'rose', 'suggested': 'tulip', **scores} for name in names]
    for name in names:
        picture = np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8)
        (root / name).write_bytes(cv2.imencode('.jpg', picture)[1].tobytes())
    reasons = [{'path': name, 'reason': '<script>'} for name in unreadable]
    return LabelIssues(root, ['rose', 'tulip'], 30, suspects, reasons)


def test_csv_and_json_have_a_row_per_suspect(tmp_path):
    found = issues(tmp_path, ['a, "b".jpg'], ['x.jpg'])
    (row,) = csv.DictReader(io.StringIO(format_issues(found, '.csv')))
    expected = {'path': 'a, "b".jpg', 'label': 'rose', 'suggested': 'tulip', 'score': '0.97'}
    assert row == {**expected, 'label_score': '0.01', 'score_rose': '0.01', 'score_tulip': '0.97'}
    whole = json.loads(format_issues(found, '.json'))
    assert {key: str(value) for key, value in whole['suspects'][0].items()} == row
    assert whole['unreadable'] == [{'path': 'x.jpg', 'reason': '<script>'}]


def test_the_page_shows_every_suspect_and_refers_to_nothing_outside(tmp_path):
    page = format_issues(issues(tmp_path, [ODD], [ODD]), '.html')
    assert_self_contained(page)
    elements = Elements(page)
    assert len(elements.named('img')) == 1
    assert elements.named('input')[0]['data-path'] == ODD
    assert (elements.named('html')[0]['lang'], elements.named('meta')[1]['name']) == ('en', 'viewport')
    text = re.sub(r'\s+', ' ', re.sub('<[^>]*>', ' ', page))
    for said in ('1 doubtful label among 30 photos', 'labelled rose', 'looks like tulip 0.97', 'Unreadable: 1 photo'):
        assert said in text


@pytest.fixture(scope='module')
def real() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
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
    k = sum(row['path'] in planted for row in suspects[:n])
    print(f'seed {seed}: {k}/{n} of the first {n} suspects are flipped ones, {len(suspects)} suspects in all')
    assert k >= 0.8 * n
