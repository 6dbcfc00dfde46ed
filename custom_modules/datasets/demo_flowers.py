"""Draws synthetic pictures of five kinds of flower, for demonstrations and tests without photos."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_modules.datasets.splitting import split_dataset
from custom_modules.errors import InputError

Array = NDArray[np.float64]  # (N, 2) points in local units, x right, y down; or (3,) RGB, 0-255
Random = np.random.Generator

SUPERSAMPLING = 3
FIXED_POINT_BITS = 4  # OpenCV draws at fractions of a pixel when coordinates are fixed-point integers
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
    ('#d3c7b2', '#b8a58c', ('#c3b49c', '#dcd2c0', '#ad9a82')),  # wall
)


def rgb(code: str) -> Array:
    """Returns ``#rrggbb`` as (3,) float64, 0-255."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], float)


@dataclass(frozen=True)
class Pen:
    """Draws on ``image`` in local coordinates, which ``matrix`` (2, 2) and ``origin`` (2,) map to pixels."""

    image: NDArray[np.uint8]
    matrix: Array
    origin: Array

    def at(self, x: float = 0, y: float = 0, scale: float = 1, turn: float = 0, squash: float = 1) -> 'Pen':
        """Returns a pen for a frame at (x, y), squashed along its y axis, then turned by ``turn`` radians."""
        cos, sin = np.cos(turn), np.sin(turn)
        frame = np.array([[cos, -sin * squash], [sin, cos * squash]]) * scale
        return Pen(self.image, self.matrix @ frame, self.matrix @ (x, y) + self.origin)

    def fill(self, outline: Array, colour: Array, edge: float = 1) -> None:
        """Fills a polygon; ``edge`` below 1 also draws its outline in a colour that is darker by this factor."""
        points = self._fixed(outline)
        cv2.fillPoly(self.image, [points], _clip(colour), cv2.LINE_AA, FIXED_POINT_BITS)
        if edge < 1:
            cv2.polylines(self.image, [points], True, _clip(colour * edge), 1, cv2.LINE_AA, FIXED_POINT_BITS)

    def stroke(self, line: Array, colour: Array, width: float) -> None:
        """Draws a line (N, 2) of ``width`` local units, at least one pixel."""
        pixels = max(1, round(width * abs(np.linalg.det(self.matrix)) ** 0.5))
        cv2.polylines(self.image, [self._fixed(line)], False, _clip(colour), pixels, cv2.LINE_AA, FIXED_POINT_BITS)

    def _fixed(self, points: Array) -> NDArray[np.int32]:
        return np.rint((points @ self.matrix.T + self.origin) * 2**FIXED_POINT_BITS).astype(np.int32)


def _clip(colour: Array) -> tuple[int, ...]:
    return tuple(min(max(round(channel), 0), 255) for channel in colour.tolist())


def blade(length: float, width: float, belly: float = 0.55, point: float = 1, bend: float = 0) -> Array:
    """Outlines a petal or leaf along +x from the origin: widest at ``belly``, blunt for ``point`` < 1, else sharp."""
    t = np.linspace(0, 1, 17)
    half = width / 2 * np.abs(np.sin(np.pi * t ** (np.log(0.5) / np.log(belly)))) ** point
    spine = bend * length * t**2
    return np.stack([np.r_[t, t[::-1]] * length, np.r_[spine + half, (spine - half)[::-1]]], axis=1)


def disc(radius: float = 1, corners: int = 24) -> Array:
    """Outlines a circle around the origin."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ring(rng: Random, pen: Pen, count: int, wobble: float = 0.15) -> Iterator[tuple[Pen, float]]:
    """Yields ``count`` pens around the centre, unevenly, in random order, each with a brightness near 1."""
    start = rng.uniform(0, 2 * np.pi)
    for i in rng.permutation(count):
        turn = start + (i + rng.normal(0, wobble)) * 2 * np.pi / count
        yield pen.at(turn=turn, scale=rng.normal(1, 0.04)), rng.uniform(0.88, 1.06)


def florets(rng: Random, pen: Pen, radius: float, count: int, colour: Array) -> None:
    """Draws a disc of ``count`` florets in a phyllotaxis spiral (Vogel 1979)."""
    pen.fill(disc(radius), colour * 0.6)
    floret = disc(0.85 * radius / count**0.5, corners=7)
    for rank in range(count):
        angle, reach = GOLDEN_ANGLE * rank, radius * ((rank + 0.5) / count) ** 0.5
        pen.at(reach * np.cos(angle), reach * np.sin(angle)).fill(floret, colour * rng.uniform(0.8, 1.2))


# A flower draws one bloom of radius 1 around the origin; y points down the stem.


def daisy(rng: Random, pen: Pen, hue: Array) -> None:
    """Many narrow blunt petals in two layers around a yellow disc."""
    count, width = int(rng.integers(13, 20)), rng.uniform(0.19, 0.25)
    for length, light in ((1.0, 0.86), (0.95, 1.0)):
        for petal, shade in ring(rng, pen, count):
            petal.fill(blade(length, width, 0.68, 0.5), hue * shade * light, edge=0.72)
    florets(rng, pen, rng.uniform(0.24, 0.32), 60, rgb('#f4c024'))


def dandelion(rng: Random, pen: Pen, hue: Array) -> None:
    """A dense bloom of fine rays without a disc."""
    for length in np.linspace(1, 0.2, 7):
        for ray, shade in ring(rng, pen, int(12 + 34 * length), 0.4):
            ray.fill(blade(length, 0.1, 0.85, 0.4), hue * shade * (0.72 + 0.28 * length), edge=0.78)


def rose(rng: Random, pen: Pen, hue: Array) -> None:
    """Broad overlapping petals that spiral inwards to a tight bud, on five sepals."""
    for sepal, shade in ring(rng, pen, 5):
        sepal.fill(blade(1.2, 0.3, 0.4, 1.3), rgb('#4f7a35') * shade, edge=0.7)
    turn, lift = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25)
    outline = blade(1.06, 1.4, 0.6, 0.42) - (0.06, 0)
    for i, reach in enumerate(np.linspace(1, 0.16, 15)):
        light = (0.7 + 0.36 * reach) * rng.uniform(0.93, 1.05)
        petal = pen.at(0, -lift * (1 - reach), reach, turn + i * GOLDEN_ANGLE)
        for size, shade in ((1, 1.14), (0.91, 0.93), (0.78, 0.8)):
            petal.fill(outline * size, hue * light * shade, edge=0.5 if size == 1 else 1)


def sunflower(rng: Random, pen: Pen, hue: Array) -> None:
    """Pointed petals in three layers around a big dark disc of spiralling florets."""
    count = int(rng.integers(17, 24))
    for length, light in ((1.0, 0.74), (0.97, 0.88), (0.9, 1.0)):
        for petal, shade in ring(rng, pen, count, 0.2):
            petal.fill(blade(length, 0.3, 0.62, 1.15), hue * shade * light, edge=0.66)
    florets(rng, pen, rng.uniform(0.46, 0.56), 150, rgb('#5a3c1b'))


def tulip(rng: Random, pen: Pen, hue: Array) -> None:
    """A cup seen from the side: three pointed oval petals in front, the tips of two behind."""
    spread, flame = rng.uniform(0.14, 0.36), rng.uniform(0.85, 1.12)
    base = pen.at(0, 0.95, 1.9, -np.pi / 2)
    for side, length, width, light in (
        (-0.45, 0.94, 0.4, 0.62),
        (0.45, 0.94, 0.4, 0.66),
        (-1, 1.0, 0.5, 0.84),
        (1, 0.98, 0.5, 0.92),
        (0, 0.83, 0.48, 1.02),
    ):
        bend = -0.45 * side * spread  # the cup closes towards the tips
        petal = base.at(turn=side * spread + rng.normal(0, 0.03))
        petal.fill(blade(length, width, 0.38, 0.72, bend), hue * light, edge=0.6)
        petal.fill(blade(length * 0.86, width * 0.4, 0.4, 0.9, bend), hue * light * flame)


FLOWERS: dict[str, Callable[[Random, Pen, Array], None]] = {
    'daisy': daisy,
    'dandelion': dandelion,
    'rose': rose,
    'sunflower': sunflower,
    'tulip': tulip,
}
LEAVES = {'daisy': (0.5, 0.22), 'dandelion': (1.3, 0.4), 'rose': (0.9, 0.55), 'sunflower': (1.3, 0.9)}
"""Length and width of the leaves on the stem, in radii of the bloom; a tulip's are long and rise from the ground."""


def draw_plant(name: str, rng: Random, pen: Pen, x: float, radius: float, hue: Array) -> None:
    """Draws a bloom of ``radius`` near ``x`` with its stem and two leaves, in the frame of the picture (0-1)."""
    y = rng.uniform(0.36, 0.5) if radius > 0.31 else rng.uniform(0.28, 0.6)
    green = rgb(str(rng.choice(GREENS))) * rng.uniform(0.85, 1.15)
    pen.stroke(np.array([[x, y], [x + rng.normal(0, 0.08), 1.1]]), green, radius * 0.12)
    length, width = LEAVES.get(name, (2.6, 0.42))
    for side in (-1, 1):
        rise = rng.uniform(0.9, 1.35) if name == 'tulip' else rng.uniform(0.1, 0.8)
        foot = pen.at(x, 1.1 if name == 'tulip' else rng.uniform(y + radius, 1), radius, -np.pi / 2)
        leaf = foot.at(turn=side * (np.pi / 2 - rise))
        leaf.fill(blade(length, width, 0.45, 0.9, side * rng.uniform(0, 0.25)), green, edge=0.7)
    squash = rng.uniform({'tulip': 1, 'dandelion': 0.9}.get(name, 0.72), 1)
    FLOWERS[name](rng, pen.at(x, y, radius, rng.normal(0, 0.22), squash), hue)


def draw_ground(rng: Random, side: int) -> NDArray[np.uint8]:
    """Draws the background: a gradient with spots, out of focus. Returns (side, side, 3) uint8 RGB."""
    top, bottom, spots = GROUNDS[rng.integers(len(GROUNDS))]
    t = np.linspace(0, 1, side)[:, None, None]
    image = np.repeat(rgb(top) * (1 - t) + rgb(bottom) * t, side, axis=1).astype(np.uint8)
    pen = Pen(image, np.eye(2) * side, np.zeros(2))
    for x, y in rng.uniform(-0.1, 1.1, (90, 2)):
        colour = rgb(str(rng.choice(spots))) * rng.uniform(0.8, 1.1)
        pen.at(x, y, rng.uniform(0.01, 0.09), rng.uniform(0, 3), rng.uniform(0.3, 1)).fill(disc(), colour)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 3) / 100 * side)


def draw_flower(name: str, size: int, rng: Random) -> NDArray[np.uint8]:
    """Draws one picture of ``name``, a key of :data:`FLOWERS`. Returns (size, size, 3) uint8 RGB."""
    side = size * SUPERSAMPLING
    image = draw_ground(rng, side)
    pen = Pen(image, np.eye(2) * side, np.zeros(2))
    hue = rgb(str(rng.choice(HUES[name]))) * rng.uniform(0.94, 1.03, 3)
    if rng.random() < 0.75:
        draw_plant(name, rng, pen, 0.5 + rng.normal(0, 0.05), rng.uniform(0.32, 0.46), hue)
    else:
        for x in (0.3, 0.7):
            draw_plant(name, rng, pen, x + rng.normal(0, 0.05), rng.uniform(0.22, 0.3), hue)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    light = rng.uniform(0.75, 1.12) * rng.uniform(0.95, 1.05, 3)
    shadow = 1 + rng.uniform(-0.25, 0.25) * np.linspace(-0.5, 0.5, size)[None, :, None]
    noisy = small * light * shadow + rng.normal(0, rng.uniform(1, 7), small.shape)
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


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
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.demo_flowers_') as staging:
        for label, name in enumerate(FLOWERS):
            folder = Path(staging, 'flowers', name)
            folder.mkdir(parents=True)
            for i in range(per_class):
                picture = draw_flower(name, size, np.random.default_rng((seed, label, i)))
                _, jpeg = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
                (folder / f'{name}_{i:03d}.jpg').write_bytes(jpeg.tobytes())
        if out.exists():
            out.rmdir()  # empty; Windows cannot replace it
        Path(staging, 'flowers').replace(out)


def prepare_demo_flowers(data_root: Path) -> None:
    """Draws the flowers and splits them into ``data_root`` as any images are."""
    data_root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_root.parent) as raw:
        draw_demo_flowers(Path(raw))
        split_dataset(Path(raw), data_root)
