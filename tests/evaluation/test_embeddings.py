"""Embeddings: that they are what the backbone computes, that nothing is computed twice, and what cannot be read."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose

from custom_modules.datasets import embeddings
from custom_modules.errors import InputError
from custom_modules.evaluation.embeddings import PIPELINE, Embedder, embed_photos, read_embeddings
from custom_modules.models.pretrained_weights import build_backbone


@pytest.fixture(scope='module')
def weights(random_weights: Path) -> Path:
    return random_weights


@pytest.fixture(scope='module')
def embedder(weights: Path) -> Embedder:
    return Embedder(weights)


@pytest.fixture
def photos(raw: Path, tmp_path: Path) -> list[Path]:
    """Five drawn flowers of different content, in a folder of their own."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    return [
        Path(shutil.copy(next(iter(sorted(raw.glob(f'{name}/*')))), folder / f'{name}.jpg'))
        for name in ('daisy', 'dandelion', 'rose', 'sunflower', 'tulip')
    ]


def test_an_embedding_is_the_pooled_output_after_the_test_pipeline(photos, weights, embedder, tmp_path):
    found = embed_photos(photos, embedder, tmp_path).features
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import mmpretrain.datasets  # noqa: F401
        from mmpretrain.registry import MODELS, TRANSFORMS
    config = Config.fromfile(PIPELINE)
    pipeline = Compose([TRANSFORMS.build(step) for step in config.test_pipeline])
    preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **config.data_preprocessor})
    backbone = build_backbone('mobilenet_v2')
    state = torch.load(weights, weights_only=True)['state_dict']
    backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()})
    inputs = torch.stack([pipeline({'img_path': str(photo)})['inputs'] for photo in photos])
    with torch.no_grad():
        expected = backbone(preprocessor({'inputs': inputs})['inputs'])[-1].mean((2, 3)).numpy()
    assert found.shape == (5, 1280)
    assert found.dtype == np.float32
    assert expected.std(axis=0).max() > 0.01  # these weights tell photos apart at all
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_each_content_is_computed_once_ever(photos, embedder, tmp_path):
    first = embed_photos(photos[:3], embedder, tmp_path)
    assert (first.computed, first.kept, first.unreadable) == (3, [0, 1, 2], {})

    again = embed_photos(photos[:3], embedder, tmp_path)
    assert again.computed == 0
    np.testing.assert_array_equal(again.features, first.features)

    copy = Path(shutil.copy(photos[3], tmp_path / 'copy.jpg'))
    moved = photos[0].rename(tmp_path / 'moved.jpg')
    more = embed_photos([photos[3], moved, copy, photos[4]], embedder, tmp_path)
    assert more.computed == 2
    np.testing.assert_array_equal(more.features[1], first.features[0])
    np.testing.assert_array_equal(more.features[0], more.features[2])
    assert list(tmp_path.glob('*.npz')) == [more.cache]


def test_a_changed_photo_other_weights_and_another_version_are_computed_anew(
    photos, weights, embedder, tmp_path, monkeypatch
):
    embed_photos(photos, embedder, tmp_path)
    shutil.copy(photos[1], photos[0])
    photos[2].write_bytes(photos[2].read_bytes() + b'\0')
    assert embed_photos(photos, embedder, tmp_path).computed == 1

    checkpoint = torch.load(weights, weights_only=True)
    checkpoint['state_dict']['backbone.conv1.conv.weight'] += 1
    torch.save(checkpoint, tmp_path / 'other.pth')
    assert embed_photos(photos[3:], Embedder(tmp_path / 'other.pth'), tmp_path).computed == 2
    monkeypatch.setattr(embeddings, 'VERSION', -1)
    assert embed_photos(photos[3:], Embedder(weights), tmp_path).computed == 2


def test_the_cache_alone_gives_what_it_has_of_all_photos(photos, weights, embedder, tmp_path):
    cache = tmp_path / 'cache'
    assert read_embeddings(photos[:3], weights, cache) is None
    first = embed_photos(photos[:3], embedder, cache)
    again = read_embeddings([*photos[:3], tmp_path / 'absent.jpg'], weights, cache)
    assert (again.kept, again.computed, again.cache) == ([0, 1, 2], 0, first.cache)
    assert again.unreadable == {3: 'cannot be read: No such file or directory'}
    np.testing.assert_array_equal(again.features, first.features)

    assert read_embeddings(photos, weights, cache) is None
    other = tmp_path / 'other.pth'
    assert read_embeddings(photos[:3], other, cache) is None
    other.write_bytes(weights.read_bytes() + b'\0')
    assert read_embeddings(photos[:3], other, cache) is None
    first.cache.write_bytes(b'PK\3\4 torn')
    assert read_embeddings(photos[:3], weights, cache) is None


def test_what_was_computed_before_a_failure_is_kept(photos, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, 'BATCH', 2)
    batches = 0

    class Interrupted:
        key, name, width, load = embedder.key, embedder.name, embedder.width, staticmethod(embedder.load)

        def __call__(self, photos):
            nonlocal batches
            batches += 1
            if batches == 2:
                raise KeyboardInterrupt
            return embedder(photos)

    with pytest.raises(KeyboardInterrupt):
        embed_photos(photos, Interrupted(), tmp_path / 'cache')
    assert [path.suffix for path in (tmp_path / 'cache').iterdir()] == ['.npz']
    assert embed_photos(photos, embedder, tmp_path / 'cache').computed == 3


@pytest.mark.parametrize('content', [b'', b'PK\3\4 torn', b'anything'])
def test_a_damaged_cache_is_computed_again(photos, embedder, tmp_path, content):
    cache = embed_photos(photos[:1], embedder, tmp_path).cache
    cache.write_bytes(content)
    assert embed_photos(photos[:1], embedder, tmp_path).computed == 1
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])
    assert embed_photos(photos[:1], embedder, tmp_path).computed == 1
    assert embed_photos(photos[:1], embedder, tmp_path).computed == 0


@pytest.mark.parametrize(
    'changed',
    [
        {'features': np.zeros((1, 7), np.float32)},
        {'features': np.full((1, 1280), np.nan, np.float32)},
        {'features': np.zeros((1, 1280), '<U3')},
        {'sha256': np.zeros((1, 31), np.uint8)},
        {'sha256': np.zeros((1, 32), np.float32)},
        {'sha256': np.zeros((0, 32), np.uint8)},
    ],
)
def test_a_cache_of_another_make_is_computed_again(photos, embedder, tmp_path, changed):
    done = embed_photos(photos[:1], embedder, tmp_path)
    with np.load(done.cache) as arrays:
        np.savez(done.cache, **{**arrays, **changed})
    again = embed_photos(photos[:1], embedder, tmp_path)
    assert again.computed == 1
    np.testing.assert_array_equal(again.features, done.features)


def test_unreadable_photos_are_named_and_the_others_embedded(photos, embedder, tmp_path):
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'text.png').write_text('no image')
    (tmp_path / 'bomb.png').write_bytes(png_of_size(50_000, 50_000))
    (tmp_path / 'cut.png').write_bytes(png_of_size(300, 300))
    given = [
        tmp_path / 'empty.jpg',
        photos[0],
        *(tmp_path / f'{name}.png' for name in ('text', 'absent', 'bomb', 'cut')),
    ]
    done: list[tuple[int, int]] = []
    found = embed_photos([*given, photos[1]], embedder, tmp_path, lambda *numbers: done.append(numbers))
    assert found.kept == [1, 6]
    assert len(found.features) == 2
    assert found.unreadable[0] == found.unreadable[2] == 'no picture, or of a kind that training cannot read'
    assert found.unreadable[3] == 'cannot be read: No such file or directory'
    assert found.unreadable[4].startswith('too large')
    assert found.unreadable[5].startswith('broken picture: ')
    assert done[-1] == (7, 7)

    none = embed_photos(given[:1], embedder, tmp_path)
    assert (none.kept, len(none.features)) == ([], 0)


def test_unusable_weights_are_one_line(tmp_path, weights):
    with pytest.raises(InputError, match='no such file; get it with: python tools/fetch_weights'):
        Embedder(tmp_path / 'mobilenet_v2.pth')
    torch.save({'state_dict': {}, 'meta': {'classes': ['a', 'b']}}, tmp_path / 'best.pth')
    with pytest.raises(InputError, match='not a file that tools/fetch_weights'):
        Embedder(tmp_path / 'best.pth')
    checkpoint = torch.load(weights, weights_only=True)
    torch.save({**checkpoint, 'meta': {'model': 'resnet18'}}, tmp_path / 'odd.pth')
    with pytest.raises(InputError, match='does not fit resnet18'):
        Embedder(tmp_path / 'odd.pth')


def test_a_cache_that_cannot_be_written_is_one_line(photos, embedder, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='is a file, not a folder'):
        embed_photos(photos[:1], embedder, tmp_path / 'file')
    assert os.path.getsize(tmp_path / 'file') == 0


def png_of_size(width: int, height: int) -> bytes:
    """The header of a PNG that claims to be of that many pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')
