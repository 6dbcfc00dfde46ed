"""Draws synthetic pictures of five kinds of flower, for demonstrations and tests without photos.

Points are complex numbers, in pixels: x to the right, y down. A shape is turned and scaled by a complex factor.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError
from custom_modules.files import write_folder_atomically

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
Shape = NDArray[np.complex128]  # the corners of a polygon
Colour = NDArray[np.float64]  # (3,), RGB, 0-255
Random = np.random.Generator

SUPERSAMPLING = 3
GOLDEN_ANGLE = np.pi * (3 - 5**0.5)
GREENS = ('#3f6b2a', '#56853a', '#6d9a45', '#2f5a2c', '#7d9c55')
# The colours overlap on purpose: shape has to tell a yellow tulip from a yellow rose.
HUES = {
    'daisy': ('#fbf8f0', '#f3efe4', '#f4b8cf', '#f7e79a'),
    'dandelion': ('#fcd116', '#f7c51e', '#fbdc4a'),
    'rose': ('#c8102e', '#e0487c', '#f6b6c6', '#f7f0e4', '#f8d34c', '#f7b78f', '#8f0f2a'),
    'sunflower': ('#fbc016', '#f9a80c', '#fbd84a', '#e8862a'),
    'tulip': ('#d7202f', '#f08ab0', '#fbd02b', '#f8f3ea', '#8a3a95', '#f47f2a', '#fac9a8'),
}
GROUNDS = (  # colour at the top, colour at the bottom, colours of the spots
    ('#86ab56', '#35602a', GREENS),  # grass
    ('#6fa8dc', '#d6e8f4', ('#ffffff', '#eaf3fa', '#bcd6ec')),  # sky
    ('#7a5a40', '#5a3f2c', ('#4a3323', '#8f6e50', '#6b4d36', '#a58a6c')),  # soil
    ('#33502f', '#4d6d3d', (*GREENS, '#f7d95a', '#f2a0b8', '#fbf5e6', '#d85a4a', '#b7cfe6')),  # meadow
)
# Per class: layers of petals, each with its count, length, width, widest place (0-1) and brightness; and the disc's
# radius, number of florets and colour. Lengths are in radii of the bloom.
BLOOMS: dict[str, tuple[list[tuple[int, float, float, float, float]], tuple[float, int, str] | None]] = {
    'daisy': ([(16, 1.0, 0.24, 0.7, 0.86), (16, 0.95, 0.24, 0.7, 1.0)], (0.28, 60, '#f4c024')),
    'dandelion': ([(int(12 + 34 * r), r, 0.11, 0.8, 0.72 + 0.28 * r) for r in np.linspace(1, 0.2, 7)], None),
    'rose': ([(5, r, 1.35 * r, 0.68, 0.65 + 0.4 * r) for r in np.linspace(1, 0.2, 6)], None),
    'sunflower': ([(20, 1.0, 0.3, 0.6, 0.8), (20, 0.92, 0.3, 0.6, 1.0)], (0.5, 150, '#5a3c1b')),
}
CLASSES = tuple(HUES)


def draw_demo_flowers(out: Path, per_class: int = 120, size: int = 96, seed: int = 0) -> None:
    """Draws ``out/<class>/<class>_000.jpg`` and so on: five kinds of flower, synthetic.

    A picture depends on (seed, class, index) alone; with the same NumPy and OpenCV it is the same to the byte.

    Args:
        out: Folder to make. It appears whole or not at all.
        per_class: Pictures of each class.
        size: Width and height, in pixels.
        seed: Seed, 0 or above.

    Raises:
        InputError: ``out`` exists and is not an empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f'{out}: already exists. Name a new folder, or remove this one first.')

    def fill_folder(folder: Path) -> None:
        for label, name in enumerate(CLASSES):
            (folder / name).mkdir()
            for i in range(per_class):
                picture = draw_flower(name, size, np.random.default_rng((seed, label, i)))
                _, jpeg = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
                (folder / name / f'{name}_{i:03d}.jpg').write_bytes(jpeg.tobytes())

    write_folder_atomically(out, fill_folder)


def draw_flower(name: str, size: int, rng: Random) -> Picture:
    """Draws one picture, (size, size, 3), of one of :data:`CLASSES`: one or two flowers, in varying light."""
    side = size * SUPERSAMPLING
    image = draw_ground(rng, side)
    hue = pick(rng, HUES[name]) * rng.uniform(0.94, 1.03, 3)
    places, radii = ((0.5,), (0.32, 0.46)) if rng.random() < 0.75 else ((0.3, 0.7), (0.22, 0.3))
    for x in places:
        radius = rng.uniform(*radii)
        centre = x + rng.normal(0, 0.05) + 1j * rng.uniform(0.36, 0.5)
        draw_plant(rng, image, name, centre * side, radius * side, hue)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    light = rng.uniform(0.75, 1.12) * rng.uniform(0.95, 1.05, 3)
    noisy = small * light + rng.normal(0, rng.uniform(1, 7), small.shape)
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def draw_ground(rng: Random, side: int) -> Picture:
    """Draws the background: a gradient with spots, out of focus."""
    top, bottom, spots = GROUNDS[rng.integers(len(GROUNDS))]
    t = np.linspace(0, 1, side)[:, None, None]
    image = np.repeat(rgb(top) * (1 - t) + rgb(bottom) * t, side, axis=1).astype(np.uint8)
    for x, y in rng.uniform(-0.1, 1.1, (90, 2)):
        fill(image, side * (x + 1j * y + disc(rng.uniform(0.01, 0.09))), pick(rng, spots))
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 3) / 100 * side)


def draw_plant(rng: Random, image: Picture, name: str, centre: complex, radius: float, hue: Colour) -> None:
    """Draws a stem with two leaves, and on it a bloom of ``radius`` pixels around ``centre``."""
    green = pick(rng, GREENS)
    foot = complex(centre.real + rng.normal(0, 0.2) * radius, 1.1 * len(image))
    fill(image, np.array([centre, foot - 0.06 * radius, foot + 0.06 * radius]), green * 0.9)
    for turn in (-1, 1):
        up = -1j * np.exp(1j * turn * rng.uniform(0.3, 1.2))
        fill(image, foot - 0.2j * radius + radius * up * blade(1.8, 0.5, 0.45), green, edge=0.7)
    if name == 'tulip':
        draw_tulip(rng, image, centre, radius, hue)
        return
    layers, middle = BLOOMS[name]
    for count, length, width, belly, light in layers:
        start = rng.uniform(0, 2 * np.pi)
        for i in rng.permutation(count):
            turn = np.exp(1j * (start + (i + rng.normal(0, 0.15)) * 2 * np.pi / count))
            petal = rng.normal(radius, 0.04 * radius) * turn * blade(length, width, belly, 0.5)
            fill(image, centre + petal, hue * light * rng.uniform(0.9, 1.05), edge=0.7)
    if middle is not None:
        reach, florets, code = middle
        fill(image, centre + radius * disc(reach), rgb(code) * 0.6)
        for rank in range(florets):  # a phyllotaxis spiral (Vogel 1979)
            place = reach * ((rank + 0.5) / florets) ** 0.5 * np.exp(1j * GOLDEN_ANGLE * rank)
            floret = place + disc(0.85 * reach / florets**0.5)
            fill(image, centre + radius * floret, rgb(code) * rng.uniform(0.8, 1.2))


def draw_tulip(rng: Random, image: Picture, centre: complex, radius: float, hue: Colour) -> None:
    """Draws a cup seen from the side: three pointed petals in front, the tips of two behind."""
    spread = rng.uniform(0.14, 0.36)
    for side, length, light in (
        (-0.45, 1.8, 0.64),
        (0.45, 1.8, 0.68),
        (-1, 1.9, 0.84),
        (1, 1.9, 0.92),
        (0, 1.6, 1.02),
    ):
        petal = -1j * np.exp(1j * side * spread) * blade(length, 0.95, 0.38, 0.72)
        fill(image, centre + radius * (0.95j + petal), hue * light, edge=0.6)


def blade(length: float, width: float, belly: float, point: float = 1) -> Shape:
    """A petal or leaf along +x from 0: widest at ``belly`` (0-1), blunt for a ``point`` below 1."""
    t = np.linspace(0, 1, 17)
    half = width / 2 * np.abs(np.sin(np.pi * t ** (np.log(0.5) / np.log(belly)))) ** point
    upper = length * t + 1j * half
    return np.concatenate([upper, upper[::-1].conj()])


def disc(radius: float) -> Shape:
    """A circle around 0."""
    return radius * np.exp(2j * np.pi * np.arange(24) / 24)


def fill(image: Picture, shape: Shape, colour: Colour, edge: float = 1) -> None:
    """Fills a polygon; ``edge`` below 1 also draws its outline in a colour that is darker by this factor."""
    points = [np.stack([shape.real, shape.imag], axis=1).round().astype(np.int32)]
    cv2.fillPoly(image, points, np.clip(colour, 0, 255).tolist(), cv2.LINE_AA)
    if edge < 1:
        cv2.polylines(image, points, True, np.clip(colour * edge, 0, 255).tolist(), 1, cv2.LINE_AA)


def pick(rng: Random, codes: tuple[str, ...]) -> Colour:
    """One of the colours, ``#rrggbb`` each, at random."""
    return rgb(str(rng.choice(codes)))


def rgb(code: str) -> Colour:
    """The colour ``#rrggbb``."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], float)
