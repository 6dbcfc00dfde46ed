"""Plans of splits: complete, disjoint, counted, groups together, and the same for the same seed."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from custom_modules.datasets.annotation import SIDES, Sample, label_photos
from custom_modules.datasets.split_plan import plan_folds, plan_split
from custom_modules.errors import InputError

names = st.text('abcdefgh .-_', min_size=1, max_size=8)
folders = st.dictionaries(names, st.sets(names, min_size=5, max_size=30), min_size=2, max_size=4)
ratios = st.integers(20, 80).map(lambda percent: percent / 100)
kinds = st.sampled_from(['no groups', 'within a class', 'across classes'])


def draw_groups(draw: st.DrawFn, photos: dict[str, set[str]], kind: str) -> list[list[str]]:
    """Groups of two or more photos."""
    if kind == 'no groups':
        return []
    paths = [f'{name}/{image}' for name in sorted(photos) for image in sorted(photos[name])]
    labels = draw(st.lists(st.integers(0, 12), min_size=len(paths), max_size=len(paths)))
    groups: dict[tuple, list[str]] = {}
    for path, label in zip(paths, labels, strict=True):
        groups.setdefault((label, kind == 'across classes' or path.split('/')[0]), []).append(path)
    return [group for (label, _), group in groups.items() if label < 8 and len(group) > 1]


def if_possible(plan: Callable, *args):
    try:
        return plan(*args)
    except InputError as error:
        assume('near-duplicates' not in str(error))
        raise


def samples_of(photos: dict[str, list[str]]) -> list[Sample]:
    return label_photos(photos, list(photos))


@given(folders, kinds, ratios, st.integers(), st.randoms(), st.data())
def test_splits_are_complete_disjoint_counted_and_independent_of_order(photos, kind, ratio, seed, chance, data):
    groups = draw_groups(data.draw, photos, kind)
    plan = if_possible(plan_split, photos, ratio, seed, groups)
    assert [list(plan[side]) for side in SIDES] == [sorted(photos)] * 2
    side_of = {path: side for side in SIDES for path, _ in samples_of(plan[side])}
    assert side_of.keys() == {f'{name}/{image}' for name, images in photos.items() for image in images}
    assert len(side_of) == sum(len(samples_of(plan[side])) for side in SIDES)
    assert all(len({side_of[path] for path in group}) == 1 for group in groups)
    for name, images in photos.items() if kind != 'across classes' else ():
        sizes = [len(group) for group in groups if group[0].startswith(f'{name}/')]
        missed = len(plan['train'][name]) - int(Fraction(str(ratio)) * len(images))
        assert abs(missed) <= max(0, max(sizes, default=0) - (len(images) - sum(sizes))) // 2
    shuffled = {name: chance.sample(sorted(photos[name]), len(photos[name])) for name in reversed(photos)}
    shuffled_groups = [chance.sample(group, len(group)) for group in chance.sample(groups, len(groups))]
    assert plan_split(shuffled, ratio, seed, shuffled_groups) == plan


@given(folders, st.integers(), st.integers(0, 3))
def test_a_new_photo_moves_at_most_one_other(photos, seed, which):
    name = sorted(photos)[which % len(photos)]
    before = plan_split(photos, 0.8, seed)['train']
    after = plan_split({**photos, name: {*photos[name], 'new one'}}, 0.8, seed)['train']
    assert {**after, name: []} == {**before, name: []}
    assert len((set(before[name]) ^ set(after[name])) - {'new one'}) <= 1


@given(folders, kinds, st.integers(), st.integers(2, 4), st.data())
def test_folds_share_train_out_and_keep_groups_together(photos, kind, seed, count, data):
    groups = draw_groups(data.draw, photos, kind)
    train = samples_of(if_possible(plan_split, photos, 0.8, seed, groups)['train'])
    folds = if_possible(plan_folds, train, count, seed, groups)
    assert sorted(sample for fold in folds for sample in fold) == sorted(train)
    fold_of = {sample.path: number for number, fold in enumerate(folds) for sample in fold}
    assert all(len({fold_of.get(path) for path in group}) == 1 for group in groups)
    for label in range(len(photos)) if not groups else ():
        sizes = [sum(sample.label == label for sample in fold) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


def test_the_split_of_a_seed_never_changes():
    # Datasets made earlier must be reproducible. By hand: printf 1/daisy/0.jpg | sha256sum; the two largest go to val.
    photos = {'daisy': [f'{number}.jpg' for number in range(10)], 'rose': ['a.jpg', 'b.jpg']}
    assert plan_split(photos, seed=1)['val'] == {'daisy': ['1.jpg', '7.jpg'], 'rose': ['a.jpg']}
    assert plan_split(photos, seed=0) != plan_split(photos, seed=1)


@pytest.mark.parametrize(('ratio', 'count', 'to_train'), [(0.7, 10, 7), (0.29, 100, 29), (0.8, 556, 444)])
def test_the_ratio_counts_as_the_decimal_that_it_is_written_as(ratio, count, to_train):
    images = [str(number) for number in range(count)]
    assert len(plan_split({'daisy': images, 'rose': images}, ratio)['train']['daisy']) == to_train
