"""Near-duplicates: planted copies are found, others are not, unreadable files have a reason, groups are exact."""

import io
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

import custom_modules.photos.fingerprint as module
from custom_modules.datasets.demo_flowers import draw_demo_flowers
from custom_modules.errors import InputError
from custom_modules.photos.fingerprint import (
    DHASH_BITS,
    MAX_DHASH_DISTANCE,
    MAX_PHASH_DISTANCE,
    PHASH_BITS,
    fingerprint,
    fingerprint_all,
    group_near_duplicates,
)

PHOTOS = Path(__file__).parents[3] / 'shared' / 'flower_dataset_raw'

COPIES = {
    'half the size': lambda image: encoded(image.resize((image.width // 2, image.height // 2)), quality=85),
    'quality 50': lambda image: encoded(image, quality=50),
    'cropped by 2 %': lambda image: encoded(cropped(image, 0.02), quality=90),
    'brighter by 5 %': lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.05), quality=90),
    'darker by 5 %': lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.95), quality=90),
    'PNG': lambda image: encoded(image, 'PNG'),
}

hashes = st.integers(0, 2 ** (PHASH_BITS + DHASH_BITS) - 1)


@pytest.fixture(scope='module')
def flowers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures like the demo's."""
    folder = tmp_path_factory.mktemp('demo')
    draw_demo_flowers(folder, per_class=20)
    return sorted(folder.glob('*/*'))


@pytest.fixture
def photo(flowers: list[Path]) -> Image.Image:
    """One picture, RGB, 128 pixels or more."""
    return Image.open(flowers[0]).convert('RGB')


def encoded(image: Image.Image, kind: str = 'JPEG', **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Removes a share of the width and height on every edge."""
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def near(a: int, b: int) -> bool:
    both = a ^ b
    return (both >> DHASH_BITS).bit_count() <= MAX_PHASH_DISTANCE and (
        both & (2**DHASH_BITS - 1)
    ).bit_count() <= MAX_DHASH_DISTANCE


def looks(*files: Path) -> list[int]:
    found = fingerprint_all(files)
    assert all(item.problem is None for item in found), found
    return [item.phash for item in found]


def test_drawn_pictures_are_no_near_duplicates(flowers):
    assert group_near_duplicates(looks(*flowers)) == []


@pytest.mark.parametrize('how', COPIES)
def test_planted_copies_are_found_among_drawn_pictures(flowers, tmp_path, how):
    chosen = flowers[::4]
    for number, file in enumerate(chosen):
        (tmp_path / f'{number:03}.jpg').write_bytes(COPIES[how](Image.open(file).convert('RGB')))
    found = group_near_duplicates(looks(*chosen, *sorted(tmp_path.iterdir())))
    assert found == [[number, number + len(chosen)] for number in range(len(chosen))]


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the raw flower photos are not beside this checkout')
def test_real_photos_known_pairs_and_planted_copies(tmp_path):
    files = sorted(PHOTOS.glob('*/*'))
    chosen = range(0, len(files), 40)
    for number in chosen:
        image = Image.open(files[number]).convert('RGB')
        for how, copy in COPIES.items():
            (tmp_path / f'{number} {how}.jpg').write_bytes(copy(image))
    planted = sorted(tmp_path.iterdir())
    groups = group_near_duplicates(looks(*files, *planted))
    group_of = {position: group for group in groups for position in group}
    missed = [
        copy.name
        for position, copy in enumerate(planted, len(files))
        if int(copy.name.split()[0]) not in group_of.get(position, [])
    ]
    assert missed == []
    real = [[files[i].relative_to(PHOTOS).as_posix() for i in group if i < len(files)] for group in groups]
    real = [group for group in real if len(group) > 1]
    # All looked at: the 4 identical pairs that are known, and 9 of one photo in other colours, crops or sizes.
    assert len(real) == 13
    assert all(len(group) == 2 for group in real)
    for name in ('17104364030_ee31ee279b_n', '17291451621_0e39f08b9e_n', '17291930305_79deae6a90_n'):
        assert [f'rose/{name}.jpg', f'tulip/{name}.jpg'] in real
    assert ['sunflower/14889392928_9742aed45b_m.jpg', 'sunflower/15066430311_fb57fa92b0_m.jpg'] in real


def test_kinds_of_picture_look_like_what_they_show(photo, tmp_path):
    grey16 = Image.fromarray(np.asarray(photo.convert('L')).astype(np.uint16) * 257)
    alpha = photo.copy()
    alpha.putalpha(128)
    kinds = {
        'grey.png': encoded(photo.convert('L'), 'PNG'),
        'grey16.png': encoded(grey16, 'PNG'),
        'alpha.png': encoded(alpha, 'PNG'),
        'palette.png': encoded(photo.convert('P'), 'PNG'),
        'cmyk.jpg': encoded(photo.convert('CMYK'), quality=95),
        'gif named.jpg': encoded(photo.convert('P'), 'GIF'),
        'several.tif': encoded(photo, 'TIFF', save_all=True, append_images=[photo.rotate(90)]),
        'web.webp': encoded(photo, 'WEBP', quality=90),
        'broken exif.jpg': b'\xff\xd8\xff\xe1\x00\x10Exif\0\0garbage!' + encoded(photo, quality=95)[2:],
    }
    photo.save(tmp_path / 'original.png')
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
    original, *others = looks(tmp_path / 'original.png', *(tmp_path / name for name in kinds))
    assert [name for name, other in zip(kinds, others, strict=True) if not near(original, other)] == []


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pictures_are_turned_as_training_turns_them(photo, tmp_path, orientation):
    import cv2

    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    cv2.imwrite(str(tmp_path / 'upright.png'), cv2.imread(str(tmp_path / 'turned.jpg')))
    assert near(*looks(tmp_path / 'turned.jpg', tmp_path / 'upright.png'))


def test_what_cannot_be_read_has_a_reason(photo, tmp_path, monkeypatch):
    jpeg, png = encoded(photo), encoded(photo, 'PNG')
    bad = {
        'empty.jpg': (b'', 'empty file'),
        'text.jpg': (b'no picture', 'no picture'),
        'truncated.jpg': (jpeg[: len(jpeg) // 2], 'broken picture: image file is truncated'),
        'truncated.png': (png[: len(png) // 2], 'broken picture: '),
        'checksum.png': (png[:2000] + bytes([png[2000] ^ 1]) + png[2001:], 'broken picture: '),
        'float.tif': (encoded(photo.convert('F'), 'TIFF'), 'broken picture: 32 bits a channel'),
        'bomb.png': (encoded(Image.new('1', (14_000, 14_000)), 'PNG'), 'too large, more than 89 million pixels'),
        'large.png': (encoded(Image.new('1', (10_000, 10_000)), 'PNG'), 'too large, more than 89 million pixels'),
        'postscript.jpg': (encoded(photo, 'EPS'), 'no picture'),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'loop.jpg').symlink_to('loop.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    found = fingerprint_all([tmp_path / name for name in bad])
    assert [name for name, item in zip(bad, found, strict=True) if item.phash is not None] == []
    for item, (name, (_, reason)) in zip(found, bad.items(), strict=True):
        assert item.problem.startswith(reason), name
        assert '\n' not in item.problem
        assert len(item.sha256) == 64
    for name in ('folder.jpg', 'loop.jpg', 'pipe.jpg', 'absent.jpg', 'x' * 300):
        assert fingerprint(tmp_path / name).problem == 'no file'
    monkeypatch.setattr('builtins.open', lambda *_: (_ for _ in ()).throw(PermissionError(13, 'Permission denied')))
    assert fingerprint(tmp_path / 'text.jpg').problem == 'cannot be read: Permission denied'


@pytest.mark.parametrize('module', ['imagehash', 'scipy.fftpack'])
def test_a_missing_package_is_no_broken_picture(flowers, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises((InputError, ImportError), match=module):
        fingerprint_all(flowers[:1])


@settings(max_examples=50)
@given(st.binary(max_size=400), st.integers(0, 3000), st.sampled_from(['JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF']))
def test_garbage_raises_nothing(tmp_path_factory, garbage, where, kind):
    picture = encoded(Image.effect_noise((32, 32), 50), kind)
    file = tmp_path_factory.getbasetemp() / 'garbage.jpg'
    file.write_bytes(picture[:where] + garbage + picture[where + len(garbage) :])
    item = fingerprint(file)
    assert (item.phash is None) == (item.problem is not None)


@given(st.lists(hashes, min_size=1, max_size=12), st.randoms(), st.data())
def test_groups_are_what_comparing_every_pair_gives(seeds, chance, data):
    values: list[int | None] = [None, *seeds]
    for value in seeds:  # neighbours at any distance around the thresholds
        p, d = data.draw(st.integers(0, MAX_PHASH_DISTANCE + 2)), data.draw(st.integers(0, MAX_DHASH_DISTANCE + 2))
        bits = chance.sample(range(DHASH_BITS), d) + chance.sample(range(DHASH_BITS, DHASH_BITS + PHASH_BITS), p)
        values.append(value ^ sum(1 << bit for bit in bits))
    chance.shuffle(values)
    group_of = {i: {i} for i in range(len(values))}
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            if a is not None and b is not None and near(a, b) and group_of[i] is not group_of[j]:
                group_of[i] |= group_of[j]
                for k in group_of[j]:
                    group_of[k] = group_of[i]
    expected = sorted({tuple(sorted(group)) for group in group_of.values() if len(group) > 1})
    assert group_near_duplicates(values) == [list(group) for group in expected]


def test_groups_across_blocks(monkeypatch):
    chance = random.Random(0)
    values = [chance.getrandbits(320) for _ in range(50)] * 2
    values += [value ^ 1 for value in values[:50]]
    chance.shuffle(values)
    expected = group_near_duplicates(values)
    assert len(expected) == 50
    monkeypatch.setattr(module, '_ROWS', 7)
    monkeypatch.setattr(module, '_COLUMNS', 11)
    assert group_near_duplicates(values) == expected
    assert group_near_duplicates([]) == group_near_duplicates([None, None]) == []


@pytest.mark.parametrize('count', [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize('kind', ['different', 'alike'])
def test_many_hashes_take_seconds(kind, count):
    chance = random.Random(0)
    base = chance.getrandbits(320)
    values = [chance.getrandbits(320) if kind == 'different' else base ^ i for i in range(count)]
    values[-1] = values[0] ^ 3 << 256
    started = time.process_time()
    groups = group_near_duplicates(values)
    seconds = time.process_time() - started
    assert groups == ([[0, count - 1]] if kind == 'different' else [list(range(count))])
    assert seconds < 60, 'a few seconds on an idle core'
