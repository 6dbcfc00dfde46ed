"""Findings about single images: unreadable files, odd formats, sizes and pictures."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from custom_modules.datasets.image_checks import check_images

CROP = 32  # pixels


@pytest.fixture
def kinds(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that saves an image and returns the findings: kind and detail."""

    def check(image: Image.Image | bytes, name: str = 'a.png', **options: object) -> dict[str, str]:
        path = tmp_path / name
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        (checked,) = check_images([path], CROP)
        return dict(checked.findings)

    return check


@pytest.mark.parametrize('name', ['a.png', 'a.JPEG', 'a.bmp', 'a.webp', 'a.tif', 'a\nb.png', 'é🌷 \udcff.png'])
def test_nothing_is_found_about_a_good_photo(kinds, draw, name):
    assert kinds(draw(0), name) == {}


def test_files_that_are_no_image(kinds, draw):
    assert kinds(b'', 'a.jpg') == {'empty': 'empty file'}
    assert 'no picture' in kinds(b'some text', 'a.jpg')['broken']
    file = io.BytesIO()
    draw(0).save(file, 'JPEG')
    assert 'truncated' in kinds(file.getvalue()[: file.tell() * 2 // 3], 'a.jpg')['broken']


def test_formats(kinds, draw):
    photo, *others = (draw(seed) for seed in range(3))
    values = np.asarray(photo)
    assert kinds(photo, 'a.jpg', format='PNG') == {'misnamed': 'PNG inside'}
    assert kinds(photo.convert('CMYK'), 'a.jpg') == {'cmyk': ''}
    assert kinds(photo.convert('L')) == kinds(photo.convert('L').convert('RGB')) == {'grey': 'no colour'}
    assert kinds(photo.quantize(64)) == {'palette': 'P'}
    assert kinds(cv2.imencode('.png', values.astype(np.uint16) * 257)[1].tobytes()) == {'deep': 'RGB'}
    grey16 = cv2.imencode('.png', values[..., 0].astype(np.uint16) * 257)[1].tobytes()
    assert kinds(grey16) == {'deep': 'I;16', 'grey': 'no colour'}
    assert kinds(photo, 'a.webp', save_all=True, append_images=others) == {'animated': 'WEBP'}
    assert kinds(photo, 'a.tif', save_all=True, append_images=others) == {'animated': 'TIFF'}
    assert kinds(photo, 'a.jpg', format='MPO', save_all=True, append_images=others) == {}  # a phone's, with a preview
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ('a.jpg', 'a.png', 'a.avif', 'a.jp2'):
        found = {} if name == 'a.jp2' else {'orientation': 'EXIF orientation 6'}
        assert kinds(photo, name, exif=exif) == found
    alpha = photo.convert('RGBA')
    assert kinds(alpha) == {}
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    assert kinds(alpha) == {'transparent': 'RGBA'}


@pytest.mark.parametrize(
    ('size', 'kind'),
    [((31, 31), 'small'), ((15, 40), 'tiny'), ((1, 1), 'tiny'), ((32, 100), 'odd_aspect_ratio')],
)
def test_size(kinds, draw, size, kind):
    assert kind in kinds(draw(0, size))
    assert kind in kinds(draw(0, size[::-1]))


def test_a_size_is_odd_if_it_is_far_from_the_others(tmp_path, draw):
    sizes = [(400, 400), *[(40 + number % 3, 40) for number in range(19)]]
    paths = [tmp_path / f'{number}.png' for number in range(20)]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        draw(number, size).save(path)
    found = check_images(paths, CROP)
    assert [(checked.width, checked.height) for checked in found] == sizes
    assert [checked.findings for checked in found] == [[('odd_size', '400 x 400, score 0.00')], *[[]] * 19]
    assert check_images(paths, CROP, 2) == found
    for number, path in enumerate(paths[:12]):
        draw(number, (60 if number else 50, 40)).save(path)
    assert [checked.findings for checked in check_images(paths[:12], CROP)] == [[]] * 12


def test_light_and_sharpness(kinds, draw):
    photo = np.asarray(draw(0, (256, 192)))
    assert list(kinds(Image.fromarray((photo * 0.2).astype(np.uint8)))) == ['dark']
    assert list(kinds(Image.fromarray((255 - (255 - photo) * 0.04).astype(np.uint8)))) == ['light']
    soft = cv2.GaussianBlur(photo, (0, 0), 12)
    assert list(kinds(Image.fromarray(soft))) == ['blurry']
    soft[60:120, 90:150] = photo[60:120, 90:150]  # something sharp before a soft background
    assert kinds(Image.fromarray(soft)) == {}
    for colour in ('black', 'white', 'red'):
        assert kinds(Image.new('RGB', (64, 64), colour)).keys() - {'grey'} == {'low_information'}
