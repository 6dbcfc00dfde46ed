"""Which photos are kept, of the real ones."""

from pathlib import Path

import pytest

from custom_modules.datasets.comparison import compare_photos
from custom_modules.datasets.raw_folders import scan_raw
from custom_modules.datasets.split_plan import plan_split

PHOTOS = Path(__file__).parents[3] / 'shared' / 'flower_dataset_raw'


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the raw flower photos are not beside this checkout')
def test_the_real_photos_leak_for_no_seed(tmp_path):
    compared = compare_photos(PHOTOS, scan_raw(PHOTOS))
    assert len(compared.left_out) == 7
    assert len(compared.groups) == 9
    sizes = {name: len(images) for name, images in compared.photos.items()}
    sides = set()
    for seed in range(20):
        plan = plan_split(compared.photos, seed=seed, groups=compared.groups)
        assert {name: len(images) for name, images in plan.sides['train'].items()} == {
            name: int(0.8 * size) for name, size in sizes.items()
        }
        train = {sample.path for sample in plan.samples('train')}
        assert all(len(train.intersection(group)) in (0, len(group)) for group in compared.groups)
        sides.add(tuple(group[0] in train for group in compared.groups))
    assert len(sides) > 10, 'groups are drawn too'
