"""Embeddings: equal to the backbone's pooled output, computed once per content."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmpretrain.registry import MODELS, TRANSFORMS

from custom_modules.errors import InputError
from custom_modules.evaluation.embeddings import PIPELINE, Embedder, embed_photos
from custom_modules.files import sha256_of
from custom_modules.models.pretrained_weights import build_backbone


@pytest.fixture(scope='module')
def embedder(random_weights: Path) -> Embedder:
    return Embedder(random_weights)


@pytest.fixture
def photos(raw: Path) -> dict[str, Path]:
    """Five drawn flowers of different content, by sha256."""
    return {sha256_of(path): path for path in sorted(raw.glob('*/*'))[::11]}


def test_an_embedding_is_the_pooled_output_after_the_test_pipeline(photos, random_weights, embedder, tmp_path):
    found, computed = embed_photos(photos, embedder, tmp_path / 'cache.npz')
    assert (list(found), computed) == (list(photos), 5)
    config = Config.fromfile(PIPELINE)
    pipeline = Compose([TRANSFORMS.build(step) for step in config.test_pipeline])
    preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **config.data_preprocessor})
    backbone = build_backbone('mobilenet_v2')
    state = torch.load(random_weights, weights_only=True)['state_dict']
    backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()})
    inputs = torch.stack([pipeline({'img_path': str(photo)})['inputs'] for photo in photos.values()])
    with torch.no_grad():
        expected = backbone(preprocessor({'inputs': inputs})['inputs'])[-1].mean((2, 3)).numpy()
    assert expected.shape == (5, 1280)
    assert expected.std(axis=0).max() > 0.01  # these weights distinguish the photos
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-4 * np.abs(expected).max())


def test_each_content_is_computed_once(photos, random_weights, embedder, tmp_path):
    first, rest = dict(list(photos.items())[:3]), dict(list(photos.items())[2:])
    cache = tmp_path / 'new' / 'cache.npz'
    found, computed = embed_photos(first, embedder, cache)
    assert computed == 3
    done = []
    more, computed = embed_photos(rest, embedder, cache, lambda *numbers: done.append(numbers))
    assert (computed, done) == (2, [(3, 3)])
    (both,) = first.keys() & rest.keys()
    np.testing.assert_array_equal(more[both], found[both])
    gone = dict.fromkeys(photos, tmp_path / 'gone.jpg')  # in the cache, and so not opened
    assert embed_photos(gone, embedder, cache)[1] == 0

    checkpoint = torch.load(random_weights, weights_only=True)
    checkpoint['state_dict']['backbone.conv1.conv.weight'] += 1
    torch.save(checkpoint, tmp_path / 'other.pth')
    assert Embedder(tmp_path / 'other.pth').cache_name != embedder.cache_name == Embedder(random_weights).cache_name


def test_a_damaged_cache_is_computed_again(photos, embedder, tmp_path):
    one = dict(list(photos.items())[:1])
    cache = tmp_path / 'cache.npz'
    embed_photos(one, embedder, cache)
    cache.write_bytes(cache.read_bytes()[:1000])
    assert [embed_photos(one, embedder, cache)[1] for _ in range(2)] == [1, 0]


def test_unusable_weights_are_one_line(tmp_path, random_weights):
    torch.save({'state_dict': {}, 'meta': {'classes': ['a', 'b']}}, tmp_path / 'best.pth')
    with pytest.raises(InputError, match='not a file that tools/fetch_weights'):
        Embedder(tmp_path / 'best.pth')
    checkpoint = torch.load(random_weights, weights_only=True)
    torch.save({**checkpoint, 'meta': {'model': 'resnet18'}}, tmp_path / 'odd.pth')
    with pytest.raises(InputError, match='does not fit resnet18'):
        Embedder(tmp_path / 'odd.pth')
