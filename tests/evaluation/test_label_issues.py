"""Doubtful labels: planted flips are found, copies do not vouch for each other, and what is listed and written."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from custom_modules.errors import InputError
from custom_modules.evaluation.label_issues import (
    Photo,
    Suspect,
    copy_groups,
    find_suspects,
    format_suspects,
    out_of_fold_scores,
    read_labelled,
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


def flip(labels: np.ndarray, n: int, seed: int, classes: int = len(CLASSES)) -> tuple[list[Photo], set[str]]:
    """Photos with ``n`` of the labels moved to another class, and the paths of those."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(labels), n, replace=False)
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + random.integers(1, classes, n)) % classes
    return [Photo(f'{i}.jpg', int(label)) for i, label in enumerate(flipped)], {f'{i}.jpg' for i in chosen}


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_planted_flips_are_the_suspects(seed):
    features, labels = clusters(seed)
    photos, planted = flip(labels, 8, seed)
    suspects = find_suspects(photos, features, CLASSES)
    assert {suspect.path for suspect in suspects} == planted
    for suspect in suspects:
        assert suspect.suggested == CLASSES[labels[int(suspect.path.removesuffix('.jpg'))]] != suspect.label
        assert suspect.score == suspect.scores[suspect.suggested] > suspect.label_score
        assert suspect.label_score == suspect.scores[suspect.label]
        assert sum(suspect.scores.values()) == pytest.approx(1)
    assert [s.label_score for s in suspects] == sorted(s.label_score for s in suspects)
    assert not find_suspects([Photo(f'{i}.jpg', int(label)) for i, label in enumerate(labels)], features, CLASSES)


def test_the_same_seed_gives_the_same_and_another_other_folds():
    features, labels = clusters()
    photos, _ = flip(labels, 8, 0)
    assert find_suspects(photos, features, CLASSES, 3) == find_suspects(photos, features, CLASSES, 3)
    assert find_suspects(photos, features, CLASSES, 3) != find_suspects(photos, features, CLASSES, 4)


def test_copies_with_the_same_wrong_label_do_not_vouch_for_each_other():
    """Ten copies of one daisy among the roses: a fold that saw one of them would take the others for roses."""
    features, labels = clusters()
    copies = features[0] + np.random.default_rng(0).normal(scale=0.01, size=(10, 32)).astype(np.float32)
    features, labels = np.vstack([features, copies]), np.append(labels, [1] * 10)
    groups = copy_groups(features, list(labels))
    assert set(groups[160:]) == {0}
    alone = out_of_fold_scores(features, list(labels), np.arange(len(labels)), CLASSES)
    together = out_of_fold_scores(features, list(labels), groups, CLASSES)
    assert together[160:, 1].max() < alone[160:, 1].min()
    photos = [Photo(f'{i}.jpg', int(label)) for i, label in enumerate(labels)]
    found = {suspect.path for suspect in find_suspects(photos, features, CLASSES)}
    assert found >= {f'{i}.jpg' for i in range(160, 170)}


def test_copies_of_copies_are_one_group():
    random = np.random.default_rng(0)
    features, labels = clusters()
    step = random.normal(scale=0.1, size=(32,)).astype(np.float32)  # 1/14 of the median squared distance: 16
    chain = np.stack([features[7] + i * step for i in (1, 2, 3)])
    groups = copy_groups(np.vstack([features, chain, features[3:4]]), [*labels, 0, 1, 0, 2])
    assert groups.tolist() == [*range(160), 7, 7, 7, 3]
    assert copy_groups(np.empty((0, 0), np.float32), []).tolist() == []
    many = random.normal(size=(1500, 8)).astype(np.float32)  # more than a block
    assert copy_groups(np.vstack([many, many]), [0] * 3000, 1e-4).tolist() == 2 * list(range(1500))


def test_photos_of_an_easy_class_are_no_copies():
    """Classes far apart, and all far from the origin, as the features of a rectified layer are."""
    features, labels = clusters()
    assert len(set(copy_groups(0.1 * features + 10 * labels[:, None].astype(np.float32) + 5, labels))) == 160


def test_too_few_classes_or_photos_are_named_all_at_once():
    features, labels = clusters(per_class=3)
    photos = [Photo(f'{i}.jpg', int(label)) for i, label in enumerate(labels)]
    with pytest.raises(InputError) as caught:
        find_suspects(photos, features, [*CLASSES, 'empty'])
    assert len(caught.value.problems) == 5
    assert caught.value.problems[0].startswith("class 'daisy': 3 readable photo(s)")
    with pytest.raises(InputError, match='only one class'):
        find_suspects([Photo(f'{i}.jpg', 0) for i in range(12)], features, ['rose'])
    features[:] = features[0]
    with pytest.raises(InputError, match='copies counted once'):
        find_suspects(photos, features, CLASSES)


def test_five_photos_a_class_are_enough():
    features, labels = clusters(per_class=5)
    photos = [Photo(f'{i}.jpg', int(label)) for i, label in enumerate(labels)]
    assert len(find_suspects(photos, features, CLASSES)) <= 20


def test_reads_raw_folders_and_prepared_datasets(raw, data, tmp_path):
    found = read_labelled(raw)
    assert found.classes == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    assert len(found.photos) == 55
    prepared = read_labelled(data)
    assert prepared.classes == found.classes
    assert len(prepared.photos) == 55
    assert sum(photo.path.startswith('train/') for photo in prepared.photos) == 40
    for folder in (found, prepared):
        for path, label in folder.photos:
            assert (folder.root / path).is_file()
            assert path.split('/')[-2] == folder.classes[label]
    (tmp_path / 'train').mkdir()
    with pytest.raises(InputError, match=r'classes.txt: no such file; make it with tools/generate_metadata.py'):
        read_labelled(tmp_path)
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    with pytest.raises(InputError) as caught:
        read_labelled(tmp_path)
    assert [Path(problem.split(':')[0]).name for problem in caught.value.problems] == ['train.txt', 'val.txt']
    with pytest.raises(InputError, match='no such folder'):
        read_labelled(tmp_path / 'absent')


def test_formats():
    scores = {'daisy': 0.02, 'rose': 0.01, 'tulip': 0.97}
    suspect = Suspect('rose/a, "b".jpg', 'rose', 'tulip', 0.97, 0.01, scores)
    assert str(suspect) == 'labelled rose, looks like tulip (0.97)  rose/a, "b".jpg'
    (row,) = csv.DictReader(io.StringIO(format_suspects([suspect], CLASSES[:3], [('x', 'torn')], '.csv')))
    assert list(row) == [*['path', 'label', 'suggested', 'score', 'label_score'], *(f'score_{c}' for c in CLASSES[:3])]
    assert (row['path'], row['suggested'], row['score']) == ('rose/a, "b".jpg', 'tulip', '0.97')
    whole = json.loads(format_suspects([suspect], CLASSES[:3], [('x', 'torn')], '.json'))
    assert {key: str(value) for key, value in whole['suspects'][0].items()} == row
    assert whole['unreadable'] == [{'path': 'x', 'reason': 'torn'}]
    assert format_suspects([], ['a', 'b'], [], '.csv') == 'path,label,suggested,score,label_score,score_a,score_b\n'
    with pytest.raises(ValueError, match='unknown format'):
        format_suspects([], CLASSES, [], '.xlsx')


@pytest.fixture(scope='module')
def real() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The real photos' embeddings, through the cache that the tool uses too; labels and class names."""
    if not REAL_PHOTOS.is_dir():
        pytest.skip('the real photos are not there (shared/flower_dataset_raw beside this project)')
    if not WEIGHTS.is_file():
        pytest.skip('no ImageNet weights: python tools/fetch_weights.py mobilenet_v2')
    from custom_modules.evaluation.embeddings import Embedder, embed_photos

    found = read_labelled(REAL_PHOTOS)
    paths = [REAL_PHOTOS / photo.path for photo in found.photos]
    done = embed_photos(paths, Embedder(WEIGHTS), ROOT / 'work_dirs' / 'embeddings')
    assert not done.unreadable
    return done.features, np.array([photo.label for photo in found.photos]), found.classes


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_of_5_percent_flipped_real_labels_80_percent_lead_the_suspects(real, seed, record_property):
    features, labels, classes = real
    n = round(0.05 * len(labels))
    photos, planted = flip(labels, n, seed, len(classes))
    suspects = find_suspects(photos, features, classes)
    k = sum(suspect.path in planted for suspect in suspects[:n])
    print(f'seed {seed}: {k}/{n} of the first {n} suspects are flipped ones, {len(suspects)} suspects in all')
    record_property('flipped among the first n', f'{k}/{n}')
    assert k >= 0.8 * n
