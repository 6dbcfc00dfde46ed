"""Near-duplicates: planted copies are found, other images are not; unreadable files have a reason."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

from custom_modules.photos.fingerprint import (
    DHASH_BITS,
    MAX_DHASH_DISTANCE,
    MAX_PHASH_DISTANCE,
    PHASH_BITS,
    fingerprint,
    group_near_duplicates,
)

PHOTOS = Path(__file__).parents[3] / 'shared' / 'flower_dataset_raw'
KNOWN_PAIRS = [
    ['rose/17104364030_ee31ee279b_n.jpg', 'tulip/17104364030_ee31ee279b_n.jpg'],
    ['rose/17291451621_0e39f08b9e_n.jpg', 'tulip/17291451621_0e39f08b9e_n.jpg'],
    ['rose/17291930305_79deae6a90_n.jpg', 'tulip/17291930305_79deae6a90_n.jpg'],
    ['sunflower/14889392928_9742aed45b_m.jpg', 'sunflower/15066430311_fb57fa92b0_m.jpg'],
]
COPIES = {
    'half the size': lambda image: encoded(image.resize((image.width // 2, image.height // 2)), quality=85),
    'quality 50': lambda image: encoded(image, quality=50),
    'cropped by 2 %': lambda image: encoded(cropped(image, 0.02), quality=90),
    'brighter by 5 %': lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.05), quality=90),
    'darker by 5 %': lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.95), quality=90),
    'PNG': lambda image: encoded(image, 'PNG'),
}

hashes = st.integers(0, 2 ** (PHASH_BITS + DHASH_BITS) - 1)


def drawn(seed: int) -> Image.Image:
    """Smooth random colours, 160 x 120 pixels."""
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(cv2.resize(colours, (160, 120), interpolation=cv2.INTER_CUBIC))


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
    dhash = both & (2**DHASH_BITS - 1)
    return (both >> DHASH_BITS).bit_count() <= MAX_PHASH_DISTANCE and dhash.bit_count() <= MAX_DHASH_DISTANCE


def looks(*files: Path) -> list[int]:
    found = [fingerprint(file) for file in files]
    assert all(item.problem is None for item in found), found
    return [item.phash for item in found]


@pytest.mark.parametrize('how', COPIES)
def test_planted_copies_are_found_among_drawn_images(tmp_path, how):
    originals = [drawn(seed) for seed in range(20)]
    contents = [encoded(image, quality=95) for image in originals] + [COPIES[how](image) for image in originals]
    files = [tmp_path / f'{number}.jpg' for number in range(40)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert group_near_duplicates(looks(*files)) == [[number, number + 20] for number in range(20)]


@pytest.mark.skipif(not PHOTOS.is_dir(), reason='the raw flower photos are not beside this checkout')
@pytest.mark.parametrize(('step', 'pairs'), [(20, 4), pytest.param(1, 13, marks=pytest.mark.slow)])
def test_known_pairs_and_planted_copies_are_found_among_real_photos(tmp_path, step, pairs):
    """Every one of the 13 pairs was looked at: 4 are identical, 9 of one photo in other colours, crops or sizes."""
    files = sorted({*sorted(PHOTOS.glob('*/*'))[::step], *(PHOTOS / path for pair in KNOWN_PAIRS for path in pair)})
    chosen = range(0, len(files), 20)
    for number in chosen:
        image = Image.open(files[number]).convert('RGB')
        for how, copy in COPIES.items():
            (tmp_path / f'{number} {how}.jpg').write_bytes(copy(image))
    planted = sorted(tmp_path.iterdir())
    groups = group_near_duplicates(looks(*files, *planted))
    group_of = {position: group for group in groups for position in group}
    for position, copy in enumerate(planted, len(files)):
        assert int(copy.name.split()[0]) in group_of[position], copy.name
    found = [[files[i].relative_to(PHOTOS).as_posix() for i in group if i < len(files)] for group in groups]
    found = [group for group in found if len(group) > 1]
    assert [len(group) for group in found] == [2] * pairs
    assert all(pair in found for pair in KNOWN_PAIRS)


def test_formats_and_orientations_are_read_as_training_reads_them(tmp_path):
    image = drawn(0)
    grey16 = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)
    alpha = image.copy()
    alpha.putalpha(128)
    kinds = {
        'grey.png': encoded(image.convert('L'), 'PNG'),
        'grey16.png': encoded(grey16, 'PNG'),
        'alpha.png': encoded(alpha, 'PNG'),
        'palette.png': encoded(image.convert('P'), 'PNG'),
        'cmyk.jpg': encoded(image.convert('CMYK'), quality=95),
        'gif named.jpg': encoded(image.convert('P'), 'GIF'),
        'several.tif': encoded(image, 'TIFF', save_all=True, append_images=[image.rotate(90)]),
        'web.webp': encoded(image, 'WEBP', quality=90),
        'broken exif.jpg': b'\xff\xd8\xff\xe1\x00\x10Exif\0\0garbage!' + encoded(image, quality=95)[2:],
    }
    image.save(tmp_path / 'original.png')
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
    original, *others = looks(tmp_path / 'original.png', *(tmp_path / name for name in kinds))
    assert [name for name, other in zip(kinds, others, strict=True) if not near(original, other)] == []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / 'turned.jpg', exif=exif, quality=95)
        cv2.imwrite(str(tmp_path / 'upright.png'), cv2.imread(str(tmp_path / 'turned.jpg')))
        assert near(*looks(tmp_path / 'turned.jpg', tmp_path / 'upright.png')), orientation


def test_unreadable_files_have_a_reason(tmp_path, monkeypatch):
    image = drawn(0)
    jpeg, png = encoded(image), encoded(image, 'PNG')
    bad = {
        'empty.jpg': (b'', 'empty file'),
        'text.jpg': (b'no picture', 'no picture'),
        'truncated.jpg': (jpeg[: len(jpeg) // 2], 'broken picture: image file is truncated'),
        'truncated.png': (png[: len(png) // 2], 'broken picture: '),
        'checksum.png': (png[:2000] + bytes([png[2000] ^ 1]) + png[2001:], 'broken picture: '),
        'float.tif': (encoded(image.convert('F'), 'TIFF'), 'broken picture: 32 bits a channel'),
        'bomb.png': (encoded(Image.new('1', (14_000, 14_000)), 'PNG'), 'too large, more than 89 million pixels'),
        'large.png': (encoded(Image.new('1', (10_000, 10_000)), 'PNG'), 'too large, more than 89 million pixels'),
        'postscript.jpg': (encoded(image, 'EPS'), 'no picture'),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        item = fingerprint(tmp_path / name)
        assert item.phash is None
        assert item.problem.startswith(reason), name
        assert '\n' not in item.problem
        assert len(item.sha256) == 64
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'loop.jpg').symlink_to('loop.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    for name in ('folder.jpg', 'loop.jpg', 'pipe.jpg', 'absent.jpg', 'x' * 300):
        assert fingerprint(tmp_path / name).problem == 'no file'
    monkeypatch.setattr('builtins.open', lambda *_: (_ for _ in ()).throw(PermissionError(13, 'Permission denied')))
    assert fingerprint(tmp_path / 'text.jpg').problem == 'cannot be read: Permission denied'


@settings(max_examples=50)
@given(st.binary(max_size=400), st.integers(0, 3000), st.sampled_from(['JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF']))
def test_garbage_raises_nothing(tmp_path_factory, garbage, where, kind):
    content = encoded(Image.effect_noise((32, 32), 50), kind)
    file = tmp_path_factory.getbasetemp() / 'garbage.jpg'
    file.write_bytes(content[:where] + garbage + content[where + len(garbage) :])
    item = fingerprint(file)
    assert (item.phash is None) == (item.problem is not None)


@settings(max_examples=50)
@given(st.lists(hashes, min_size=1, max_size=12), st.randoms(), st.data())
def test_groups_are_those_of_comparing_every_pair(seeds, chance, data):
    values: list[int | None] = [None, *seeds]
    for value in seeds:  # neighbours at any distance around the thresholds
        p, d = data.draw(st.integers(0, MAX_PHASH_DISTANCE + 2)), data.draw(st.integers(0, MAX_DHASH_DISTANCE + 2))
        bits = chance.sample(range(DHASH_BITS), d) + chance.sample(range(DHASH_BITS, DHASH_BITS + PHASH_BITS), p)
        values.append(value ^ sum(1 << bit for bit in bits))
    chance.shuffle(values)
    pairs = [[a is not None and b is not None and near(a, b) for b in values] for a in values]
    number, group_of = connected_components(np.array(pairs))
    groups = [np.flatnonzero(group_of == group).tolist() for group in range(number)]
    assert group_near_duplicates(values) == [group for group in groups if len(group) > 1]
