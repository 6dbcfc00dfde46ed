"""The registered dataset, built as configs build it."""

import shutil
import struct
import zlib

import pytest
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from custom_modules.datasets import flower_dataset  # noqa: F401  registers it
from custom_modules.datasets.annotation import read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.errors import InputError, PhotoError

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


def test_digest_is_that_of_the_manifest(data, tmp_path):
    assert build(data).digest == read_manifest_digest(data)
    without = shutil.copytree(data, tmp_path / 'data')
    (without / 'manifest.json').unlink()
    assert build(without).digest is None


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


# A PNG of more pixels than OpenCV takes, by its header: OpenCV raises where it returns nothing of other bad files.
HUGE = b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    for kind, content in (
        (b'IHDR', struct.pack('>IIBBBBB', 65_000, 20_000, 8, 2, 0, 0, 0)),
        (b'IDAT', zlib.compress(bytes(1000))),
        (b'IEND', b''),
    )
)


@pytest.mark.parametrize(
    ('content', 'workers'),
    [(b'', 0), (b'<html>not found</html>', 1), (None, 0), (HUGE, 0)],
    ids=['empty', 'text', 'cut short', 'huge'],
)
def test_a_photo_that_cannot_be_read_is_named(content, workers, data, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(data, root)
    photo = root / 'train' / read_samples(root / 'train.txt', CLASSES)[3].path
    photo.write_bytes(photo.read_bytes()[:300] if content is None else content)
    dataset = build(root, pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}])
    batches = iter(DataLoader(dataset, batch_size=None, num_workers=workers))
    with pytest.raises(PhotoError) as caught:
        list(batches)
    if workers:
        batches._shutdown_workers()  # a collection of garbage, in a later test, would wait 5 s for it
    (line,) = caught.value.problems
    assert line.startswith(f'{photo}: no readable photo')
    assert '\n' not in line


def test_a_transform_that_fails_on_a_good_photo_is_not_the_photo_s_fault(data):
    def fail(item):
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        build(data, pipeline=[fail])[0]
