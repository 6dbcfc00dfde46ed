"""Plans of splits: complete, disjoint, counted, groups together, and the same for the same seed."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from custom_modules.datasets.split_plan import plan_folds, plan_split
from custom_modules.errors import InputError

names = st.text('abcdefgh .-_', min_size=1, max_size=8)
folders = st.dictionaries(names, st.sets(names, min_size=5, max_size=30), min_size=2, max_size=4)
ratios = st.integers(20, 80).map(lambda percent: percent / 100)


@st.composite
def grouped(draw: st.DrawFn, across: bool) -> tuple[dict[str, set[str]], list[list[str]]]:
    """Photos by class, and groups of two or more of them, within a class or across classes."""
    photos = draw(folders)
    paths = [f'{name}/{image}' for name in sorted(photos) for image in sorted(photos[name])]
    labels = draw(st.lists(st.integers(0, 12), min_size=len(paths), max_size=len(paths)))
    groups: dict[tuple, list[str]] = {}
    for path, label in zip(paths, labels, strict=True):
        groups.setdefault((label, across or path.split('/')[0]), []).append(path)
    return photos, [group for (label, _), group in groups.items() if label < 8 and len(group) > 1]


@given(folders, ratios, st.integers(), st.randoms())
def test_plan_is_complete_disjoint_counted_and_independent_of_order(photos, ratio, seed, chance):
    plan = plan_split(photos, ratio, seed)
    assert plan.classes == sorted(photos)
    for name, images in photos.items():
        train, val = (set(plan.sides[side][name]) for side in ('train', 'val'))
        assert len(train) == int(Fraction(str(ratio)) * len(images))
        assert train | val == images
        assert not train & val
    shuffled = {name: chance.sample(sorted(photos[name]), len(photos[name])) for name in reversed(photos)}
    assert plan_split(shuffled, ratio, seed) == plan


@given(folders, st.integers(), st.integers(0, 3))
def test_a_new_photo_moves_at_most_one_other(photos, seed, which):
    name = sorted(photos)[which % len(photos)]
    before = plan_split(photos, 0.8, seed).sides['train']
    after = plan_split({**photos, name: {*photos[name], 'new one'}}, 0.8, seed).sides['train']
    assert {**after, name: []} == {**before, name: []}
    assert len((set(before[name]) ^ set(after[name])) - {'new one'}) <= 1


def plan_where_possible(photos, ratio, seed, groups):
    try:
        return plan_split(photos, ratio, seed, groups)
    except InputError as error:
        assume('near-duplicates stay in one subset' not in str(error))
        raise


@given(grouped(across=True), ratios, st.integers(), st.randoms())
def test_groups_never_straddle(photos_and_groups, ratio, seed, chance):
    photos, groups = photos_and_groups
    plan = plan_where_possible(photos, ratio, seed, groups)
    side_of = {sample.path: side for side in plan.sides for sample in plan.samples(side)}
    assert side_of.keys() == {f'{name}/{image}' for name, images in photos.items() for image in images}
    assert len(side_of) == len(plan.samples('train')) + len(plan.samples('val'))
    assert all(len({side_of[path] for path in group}) == 1 for group in groups)
    shuffled = [chance.sample(group, len(group)) for group in chance.sample(groups, len(groups))]
    assert plan_split(photos, ratio, seed, shuffled) == plan


@given(grouped(across=False), ratios, st.integers())
def test_the_ratio_is_kept_as_far_as_groups_allow(photos_and_groups, ratio, seed):
    photos, groups = photos_and_groups
    plan = plan_where_possible(photos, ratio, seed, groups)
    for name, images in photos.items():
        sizes = [len(group) for group in groups if group[0].startswith(f'{name}/')]
        missed = len(plan.sides['train'][name]) - int(Fraction(str(ratio)) * len(images))
        assert abs(missed) <= max(0, max(sizes, default=0) - (len(images) - sum(sizes))) // 2


@given(grouped(across=True), st.integers(), st.integers(2, 4))
def test_folds_share_train_out_and_keep_groups_together(photos_and_groups, seed, count):
    photos, groups = photos_and_groups
    try:
        plan = plan_folds(plan_split(photos, 0.8, seed, groups), count)
    except InputError as error:
        assume('near-duplicates' not in str(error))
        raise
    assert sorted(sample for fold in plan.folds for sample in fold) == sorted(plan.samples('train'))
    fold_of = {sample.path: number for number, fold in enumerate(plan.folds) for sample in fold}
    for group in groups:
        assert len({fold_of.get(path) for path in group}) == 1
    if not groups:
        for label in range(len(photos)):
            sizes = [sum(sample.label == label for sample in fold) for fold in plan.folds]
            assert max(sizes) - min(sizes) <= 1
        assert max(map(len, plan.folds)) - min(map(len, plan.folds)) <= 1


def test_the_split_of_a_seed_never_changes():
    # Datasets made earlier must be reproducible. By hand: printf 1/daisy/0.jpg | sha256sum; the two largest go to val.
    photos = {'daisy': [f'{number}.jpg' for number in range(10)], 'rose': ['a.jpg', 'b.jpg']}
    assert plan_split(photos, seed=1).sides['val'] == {'daisy': ['1.jpg', '7.jpg'], 'rose': ['a.jpg']}
    assert plan_split(photos, seed=0).sides != plan_split(photos, seed=1).sides


@pytest.mark.parametrize(
    ('ratio', 'count', 'to_train'),
    # As the decimal that it is written as; the last five are the classes of the flower photos.
    [
        (0.7, 10, 7),
        (0.29, 100, 29),
        (0.8, 588, 470),
        (0.8, 556, 444),
        (0.8, 583, 466),
        (0.8, 536, 428),
        (0.8, 585, 468),
    ],
)
def test_the_ratio_is_rounded_down(ratio, count, to_train):
    images = [str(number) for number in range(count)]
    assert len(plan_split({'daisy': images, 'rose': images}, ratio).sides['train']['daisy']) == to_train
