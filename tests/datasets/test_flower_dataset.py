"""The registered dataset, built as configs build it."""

import shutil

import pytest
from mmpretrain.registry import DATASETS

from custom_modules.datasets import flower_dataset  # noqa: F401  registers it
from custom_modules.datasets.annotation import read_samples
from custom_modules.errors import InputError

CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


def build(root, **given):
    return DATASETS.build({'type': 'FlowerDataset', 'data_root': str(root), **given})


def test_both_sides_of_a_prepared_dataset(data):
    for side, n in (('train', 40), ('val', 15)):
        dataset = build(data, ann_file=f'{side}.txt', data_prefix=side)
        assert len(dataset) == n
        assert list(dataset.metainfo['classes']) == CLASSES
        samples = read_samples(data / f'{side}.txt', CLASSES)
        infos = [dataset.get_data_info(i) for i in range(n)]
        assert [info['gt_label'] for info in infos] == [sample.label for sample in samples]
        assert [info['img_path'] for info in infos] == [str(data / side / sample.path) for sample in samples]


def test_defaults_are_the_training_side(data):
    assert len(build(data)) == 40


def test_items_go_through_the_pipeline(data):
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]
    item = build(data, pipeline=pipeline)[39]
    assert item['inputs'].shape == (3, 48, 48)
    assert item['data_samples'].gt_label.tolist() == [4]
    assert '/train/tulip/' in item['data_samples'].img_path


def test_upstreams_arguments_work(data):
    assert len(build(data, indices=7)) == 7
    lazy = build(data, lazy_init=True)
    assert list(lazy.metainfo['classes']) == CLASSES


def test_paths_in_the_annotation_may_be_windows_ones(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    file = tmp_path / 'data' / 'val.txt'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes().replace(b'/', b'\\').replace(b'\n', b'\r\n').rstrip())
    assert len(build(tmp_path / 'data', ann_file='val.txt', data_prefix='val')) == 15


def test_what_deviates_is_named_by_line(data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    file = tmp_path / 'data' / 'val.txt'
    lines = file.read_text().splitlines()
    lines[4] = lines[4].replace(' 1', ' 3')
    file.write_text('\n'.join(lines))
    with pytest.raises(InputError, match=r'val\.txt:5: index 3 is .sunflower. in classes\.txt'):
        build(tmp_path / 'data', ann_file='val.txt', data_prefix='val')
    with pytest.raises(InputError, match=r'classes\.txt: no such file'):
        build(tmp_path)
