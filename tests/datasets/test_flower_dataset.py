"""The registered dataset, built as configs build it."""

import shutil
import struct
import zlib

import pytest
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from custom_modules.datasets import flower_dataset  # noqa: F401  registers it
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.errors import InputError, PhotoError

PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]


def build(root, **given):
    return DATASETS.build({'type': 'FlowerDataset', 'data_root': str(root), **given})


def test_both_subsets_of_a_prepared_dataset(data):
    prepared = read_prepared(data)
    for subset, samples in (('train', prepared.train), ('val', prepared.val)):
        dataset = build(data, ann_file=f'{subset}.txt', data_prefix=subset)
        assert list(dataset.metainfo['classes']) == prepared.classes
        assert dataset.digest == prepared.digest
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert [(info['img_path'], info['gt_label']) for info in infos] == [
            (str(data / subset / sample.path), sample.label) for sample in samples
        ]
    assert len(build(data, indices=7)) == 7  # upstream's arguments
    item = build(data, pipeline=PIPELINE)[39]  # train is the default
    assert (item['inputs'].shape, item['data_samples'].gt_label.tolist()) == ((3, 48, 48), [4])


def test_deviations_are_reported_by_line(data, tmp_path):
    root = shutil.copytree(data, tmp_path / 'data')
    lines = (root / 'val.txt').read_text().splitlines()
    lines[4] = lines[4].replace(' 1', ' 3')
    (root / 'val.txt').write_text('\n'.join(lines))
    with pytest.raises(InputError, match=r'val\.txt:5: index .3., but .\w+. has index 1 in classes\.txt'):
        build(root, ann_file='val.txt', data_prefix='val')
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
def test_an_unreadable_photo_is_named(content, workers, data, tmp_path):
    root = shutil.copytree(data, tmp_path / 'data')
    photo = root / 'train' / read_prepared(root).train[3].path
    photo.write_bytes(photo.read_bytes()[:300] if content is None else content)
    batches = iter(DataLoader(build(root, pipeline=PIPELINE), batch_size=None, num_workers=workers))
    with pytest.raises(PhotoError) as caught:
        list(batches)
    if workers:
        batches._shutdown_workers()  # a collection of garbage, in a later test, would wait 5 s for it
    (line,) = caught.value.problems
    assert line.startswith(f'{photo}: no readable photo')
    assert '\n' not in line


def test_a_failing_transform_is_not_blamed_on_the_photo(data):
    def fail(item):
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        build(data, pipeline=[fail])[0]
