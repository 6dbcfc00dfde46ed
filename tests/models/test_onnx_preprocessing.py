"""Pixels of an exported model: those of the test pipeline, whatever the file."""

import os
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from PIL import Image

from custom_modules.errors import InputError
from custom_modules.inference.predictor import open_predictor
from custom_modules.models.onnx_preprocessing import Preprocessing
from custom_modules.photos.image_files import BROKEN

PIPELINES = {
    'reduced': [
        {'type': 'LoadImageFromFile'},
        {'type': 'ResizeEdge', 'scale': 64, 'edge': 'short'},
        {'type': 'CenterCrop', 'crop_size': (56, 48)},
        {'type': 'PackInputs'},
    ],
    'names until 2.4': [
        {'type': 'LoadPhoto', 'min_short_edge': 64},
        {'type': 'ResizeEdge', 'scale': 64},
        {'type': 'CenterCrop', 'crop_size': (56, 48)},
        {'type': 'PackPhoto'},
    ],
    'whole': [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (40, 32)},
        {'type': 'PackInputs'},
    ],
}


def turned(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A drawn photo in many formats, modes and turns."""
    from custom_modules.datasets.demo_flowers import draw_flower

    folder = tmp_path_factory.mktemp('photos')
    picture = Image.fromarray(draw_flower('tulip', 301, np.random.default_rng(0))).crop((0, 0, 301, 200))
    for turn in range(1, 9):
        for suffix in ('jpg', 'png', 'webp'):
            picture.save(folder / f'turned_{turn}.{suffix}', exif=turned(turn))
    for mode, suffix in (
        ('L', 'jpg'),
        ('CMYK', 'jpg'),
        ('L', 'jp2'),
        ('RGBA', 'jp2'),
        ('CMYK', 'tif'),
        ('RGBA', 'avif'),
    ):
        picture.convert(mode).save(folder / f'{mode}.{suffix}')
    for turn in (1, 6):
        picture.save(folder / f'turned_{turn}.avif', exif=turned(turn))
        picture.save(folder / f'turned_{turn}.tif', exif=turned(turn), compression='tiff_lzw')
    picture.convert('P').save(folder / 'palette.gif')
    picture.convert('P').save(folder / 'palette.png')
    Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16) * 257).save(folder / 'deep.jp2')
    picture.convert('1').save(folder / 'bits.png')
    picture.save(folder / 'progressive.jpg', progressive=True, subsampling=2, quality=50)
    picture.save(folder / 'plain.bmp')
    transparent = picture.convert('RGBA')
    transparent.putalpha(picture.convert('L'))
    transparent.save(folder / 'transparent.png')
    cv2.imwrite(str(folder / 'deep.png'), np.asarray(picture)[..., 0].astype(np.uint16) * 257 - 100)
    return sorted(folder.iterdir())


@pytest.mark.parametrize('pipeline', PIPELINES.values(), ids=PIPELINES)
def test_pixels_are_those_of_the_test_pipeline(pipeline, photos):
    from mmengine.registry import init_default_scope

    import custom_modules.register  # noqa: F401
    from custom_modules.datasets.transforms.reduced_decoding import build_pipeline

    init_default_scope('mmpretrain')
    transforms = build_pipeline(pipeline)
    preprocessing = Preprocessing.of_pipeline(pipeline, 'a')
    assert Preprocessing.from_dict(asdict(preprocessing)) == preprocessing
    for photo in photos:
        expected = transforms({'img_path': os.fspath(photo)})['inputs'].numpy()[::-1]
        found = preprocessing.load(photo)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), photo
        assert np.abs(found.astype(int) - expected).max() == 0, photo


def test_torch_and_onnx_give_the_same_scores(photos, best, exported, tmp_path):
    content = next(path for path in photos if path.name == 'progressive.jpg').read_bytes()
    (tmp_path / 'truncated.jpg').write_bytes(content[:-100])
    paths = [os.fspath(path) for path in (*photos, tmp_path / 'truncated.jpg')]
    *found, (_, problem) = zip(*(open_predictor(str(model)).predict(paths) for model in (best, exported)), strict=True)
    assert problem.problem == BROKEN
    for path, (one, other) in zip(paths, found, strict=False):
        assert one.label == other.label, path
        assert one.scores == pytest.approx(other.scores, abs=1e-4), path


@pytest.mark.parametrize(
    ('steps', 'said'),
    [
        ([{'type': 'ResizeEdge', 'scale': 64, 'interpolation': 'bicubic'}], "ResizeEdge has interpolation='bicubic'"),
        ([{'type': 'RandomFlip', 'prob': 0.5}], 'RandomFlip has prob=0.5'),
        ([{'type': 'ResizeEdge', 'scale': 64}], 'it is LoadImageFromFile, ResizeEdge'),
        ([{'type': 'ResizeEdge', 'scale': 64}, {'type': 'CenterCrop', 'crop_size': 65}], 'shorter than the crop'),
        ([{'type': 'Resize', 'scale': 'large'}], 'cannot be exported'),
    ],
)
def test_other_pipelines_are_refused(steps, said):
    with pytest.raises(InputError, match=said):
        Preprocessing.of_pipeline([{'type': 'LoadImageFromFile'}, *steps], 'a.pth')
