"""Findings about single images: unreadable files, odd formats and pictures, and how training turns them."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from custom_modules.datasets.image_checks import check_image, check_images
from custom_modules.datasets.transforms.load_photo import LoadPhoto
from custom_modules.datasets.transforms.load_random_resized_crop import LoadRandomResizedCrop

CROP = 32  # pixels


@pytest.fixture
def kinds(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that saves a picture and returns what is found: kind and detail."""

    def check(image: Image.Image | bytes, name: str = 'a.png', **options: object) -> dict[str, str]:
        path = tmp_path / name
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        (checked,) = check_images([path], CROP)
        return dict(checked.findings)

    return check


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', **options)
    return buffer.getvalue()


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.JPEG', 'a.bmp', 'a.webp', 'a.tif'])
def test_nothing_is_found_about_a_good_photo(kinds, draw, name):
    assert kinds(draw(0), name) == {}


def test_files_that_are_no_picture(kinds, draw):
    assert kinds(b'', 'a.jpg') == {'empty': 'empty file'}
    assert 'no picture' in kinds(b'some text', 'a.jpg')['broken']
    whole = jpeg(draw(0))
    assert 'truncated' in kinds(whole[: len(whole) * 2 // 3], 'a.jpg')['broken']


def test_a_file_that_is_not_what_its_suffix_says(kinds, draw):
    assert kinds(draw(0), 'a.jpg', format='PNG') == {'misnamed': 'PNG inside'}


def test_a_decompression_bomb_is_reported_unopened(kinds):
    header = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR' + (60_000).to_bytes(4, 'big') * 2 + b'\x08\x02\x00\x00\x00'
    header += zlib.crc32(header[12:]).to_bytes(4, 'big')
    assert 'too large' in kinds(header + b'\x00\x00\x00\x00IDAT5\xaf\x06\x1e')['broken']


def test_how_pixels_are_stored(kinds, draw):
    photo = draw(0)
    assert kinds(photo.convert('CMYK'), 'a.jpg') == {'cmyk': ''}
    assert kinds(photo.convert('L')) == {'grey': 'no colour'}
    assert kinds(photo.convert('L').convert('RGB')) == {'grey': 'no colour'}
    assert kinds(photo.quantize(64)) == {'palette': 'P'}
    values = np.asarray(photo)
    assert kinds(cv2.imencode('.png', values.astype(np.uint16) * 257)[1].tobytes()) == {'deep': 'RGB'}
    grey16 = cv2.imencode('.png', values[..., 0].astype(np.uint16) * 257)[1].tobytes()
    assert kinds(grey16) == {'deep': 'I;16', 'grey': 'no colour'}


def test_transparency_counts_where_a_pixel_is_not_opaque(kinds, draw):
    photo = draw(0).convert('RGBA')
    assert kinds(photo) == {}
    photo.putpixel((0, 0), (0, 0, 0, 0))
    assert kinds(photo) == {'transparent': 'RGBA'}


def test_more_than_one_picture(kinds, draw):
    frames = [draw(seed) for seed in range(3)]
    assert kinds(frames[0], 'a.webp', save_all=True, append_images=frames[1:]) == {'animated': 'WEBP'}
    assert kinds(frames[0], 'a.tif', save_all=True, append_images=frames[1:]) == {'animated': 'TIFF'}


def test_a_phone_photo_with_a_preview_behind_it_is_one_picture(kinds, draw):
    assert kinds(draw(0), 'a.jpg', format='MPO', save_all=True, append_images=[draw(1)]) == {}


@pytest.mark.parametrize(
    ('size', 'kind'),
    [
        ((31, 31), 'small'),
        ((15, 40), 'tiny'),
        ((1, 1), 'tiny'),
        ((32, 100), 'odd_aspect_ratio'),
        ((100, 32), 'odd_aspect_ratio'),
    ],
)
def test_size(kinds, draw, size, kind):
    assert kind in kinds(draw(0, size))


def test_a_size_is_odd_among_the_others(tmp_path, draw):
    paths = [tmp_path / f'{seed}.png' for seed in range(20)]
    for seed, path in enumerate(paths):
        draw(seed, (40 + seed % 3, 40) if seed else (400, 400)).save(path)
    found = [checked.findings for checked in check_images(paths, CROP)]
    assert found == [[('odd_size', '400 x 400')], *[[]] * 19]


def test_one_size_alone_does_not_make_the_others_odd(tmp_path, draw):
    paths = [tmp_path / f'{seed}.png' for seed in range(12)]
    for seed, path in enumerate(paths):
        draw(seed, (60, 40) if seed else (50, 40)).save(path)
    assert [checked.findings for checked in check_images(paths, CROP)] == [[]] * 12


def test_light_and_sharpness(kinds, draw):
    photo = np.asarray(draw(0, (160, 120))).astype(float)
    assert list(kinds(Image.fromarray((photo * 0.2).astype(np.uint8)))) == ['dark']
    assert list(kinds(Image.fromarray((255 - (255 - photo) * 0.04).astype(np.uint8)))) == ['light']
    blurred = cv2.GaussianBlur(photo.astype(np.uint8), (0, 0), 6)
    assert list(kinds(Image.fromarray(blurred))) == ['blurry']


def test_something_sharp_before_a_soft_background_is_not_blurry(kinds, draw):
    photo = np.asarray(draw(0, (256, 192)))
    soft = cv2.GaussianBlur(photo, (0, 0), 12)
    soft[60:120, 90:150] = photo[60:120, 90:150]
    assert kinds(Image.fromarray(soft)) == {}


def test_a_picture_of_one_colour_is_reported_once(kinds):
    for colour in ('black', 'white', 'red'):
        assert kinds(Image.new('RGB', (64, 64), colour)).keys() - {'grey'} == {'low_information'}


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_orientation_is_reported_and_applied_as_in_training(tmp_path, draw, suffix):
    path = tmp_path / f'a{suffix}'
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(0, (64, 48)).save(path, exif=exif)
    checked = check_image(path, CROP)
    assert checked.findings == [('orientation', 'EXIF orientation 6')]
    assert (checked.width, checked.height) == (48, 64)
    assert LoadPhoto(32)({'img_path': str(path)})['img'].shape == (64, 48, 3)
    assert LoadRandomResizedCrop(32)({'img_path': str(path)})['ori_shape'] == (64, 48)


@pytest.mark.parametrize('config', sorted(path.name for path in Path('configs').glob('*.py')))
def test_training_test_and_prediction_load_photos_alike(config):
    cfg = Config.fromfile(f'configs/{config}')
    loaders = [cfg[f'{name}_dataloader'].dataset.pipeline[0] for name in ('train', 'val', 'test')]
    # What the notes on orientation, CMYK and transparency say holds for these as they are by default.
    allowed = {'LoadPhoto': {'type', 'min_short_edge'}}
    allowed['LoadRandomResizedCrop'] = {'type', 'scale', 'flip_prob', 'crop_ratio_range'}
    assert all(loader.keys() <= allowed[loader['type']] for loader in loaders)


def test_names_that_are_not_utf8_or_hold_line_breaks_are_read(tmp_path, draw):
    for name in (b'\xff\xfe.png', b'a\nb.png', '🌷 tulip.png'.encode()):
        path = tmp_path / Path(name.decode('utf-8', 'surrogateescape'))
        draw(0).save(path)
        assert check_image(path, CROP).findings == []


def test_processes_find_the_same_in_the_same_order(tmp_path, draw):
    paths = [tmp_path / f'{width}.png' for width in range(40, 90)]
    for path in paths:
        draw(0, (int(path.stem), 40)).save(path)
    found = check_images(paths, CROP, 2)
    assert found == check_images(paths, CROP, 1)
    assert [checked.width for checked in found] == list(range(40, 90))
