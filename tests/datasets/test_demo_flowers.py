"""The drawn demo flowers: files, reproducibility, and folders written whole or not at all."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from custom_modules.datasets.demo_flowers import CLASSES, draw_demo_flowers, draw_flower
from custom_modules.errors import InputError


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*.jpg')}


@pytest.fixture(scope='module')
def four_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('demo') / 'flowers'
    draw_demo_flowers(out, per_class=4)
    return out


def test_files_are_square_colour_jpegs_in_a_folder_per_class(four_each: Path) -> None:
    assert list(four_each.parent.iterdir()) == [four_each]
    assert sorted(read_bytes(four_each)) == [f'{name}/{name}_{i:03d}.jpg' for name in CLASSES for i in range(4)]
    for path in four_each.rglob('*.jpg'):
        assert path.read_bytes()[:3] == b'\xff\xd8\xff'
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (96, 96, 3)


def test_a_picture_depends_on_seed_class_and_index_alone(four_each: Path, tmp_path: Path) -> None:
    draw_demo_flowers(tmp_path / 'two', per_class=2)
    draw_demo_flowers(tmp_path / 'other', per_class=2, seed=1)
    four, two, other = (read_bytes(folder) for folder in (four_each, tmp_path / 'two', tmp_path / 'other'))

    assert two == {name: data for name, data in four.items() if name in two}
    assert all(two[name] != other[name] for name in two)
    assert len({*four.values(), *other.values()}) == len(four) + len(other)


def test_the_file_shows_what_was_drawn_in_rgb_and_in_the_size_asked_for(tmp_path: Path) -> None:
    draw_demo_flowers(tmp_path / 'out', per_class=1, size=40, seed=3)
    for label, name in enumerate(CLASSES):
        drawn = draw_flower(name, 40, np.random.default_rng((3, label, 0)))
        read = cv2.cvtColor(cv2.imread(str(tmp_path / 'out' / name / f'{name}_000.jpg')), cv2.COLOR_BGR2RGB)
        assert (read.shape, drawn.dtype) == ((40, 40, 3), np.uint8)
        assert np.abs(read.astype(float) - drawn).mean() < 10  # grey levels lost to JPEG


def test_an_empty_folder_is_filled_and_a_full_one_is_refused(tmp_path: Path) -> None:
    draw_demo_flowers(tmp_path / 'out', per_class=0)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [*CLASSES]
    with pytest.raises(InputError, match='already exists'):
        draw_demo_flowers(tmp_path / 'out', per_class=1)
    (tmp_path / 'empty').mkdir()
    draw_demo_flowers(tmp_path / 'empty', per_class=1, size=16)
    assert len(read_bytes(tmp_path / 'empty')) == len(CLASSES)
