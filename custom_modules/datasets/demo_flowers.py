"""Draws a small stand-in for the flower photos, for demonstrations and tests. No downloading, no photos."""

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
FIXED_POINT_BITS = 4  # OpenCV draws at fractions of a pixel when coordinates come as fixed-point integers
GOLDEN_ANGLE = np.pi * (3 - 5**0.5)

GREENS = ('#3f6b2a', '#56853a', '#6d9a45', '#2f5a2c', '#7d9c55')
# The colours overlap on purpose: shape has to tell a yellow tulip from a yellow rose.
HUES = {
    'daisy': ('#fbf8f0', '#fbf8f0', '#f3efe4', '#f4b8cf', '#f7e79a'),
    'dandelion': ('#fcd116', '#f7c51e', '#fbdc4a'),
    'rose': ('#c8102e', '#e0487c', '#f6b6c6', '#f7f0e4', '#f8d34c', '#f7b78f', '#8f0f2a'),
    'sunflower': ('#fbc016', '#fbc016', '#f9a80c', '#fbd84a', '#e8862a'),
    'tulip': ('#d7202f', '#f08ab0', '#fbd02b', '#f8f3ea', '#8a3a95', '#f47f2a', '#fac9a8'),
}
GROUNDS = {  # colour at the top, colour at the bottom, colours of the marks
    'grass': ('#86ab56', '#35602a', GREENS),
    'sky': ('#6fa8dc', '#d6e8f4', ('#ffffff', '#eaf3fa', '#bcd6ec')),
    'soil': ('#7a5a40', '#5a3f2c', ('#4a3323', '#8f6e50', '#6b4d36', '#a58a6c')),
    'bokeh': ('#33502f', '#4d6d3d', (*GREENS, '#f7d95a', '#f2a0b8', '#fbf5e6', '#d85a4a', '#b7cfe6')),
    'wall': ('#d3c7b2', '#b8a58c', ('#c3b49c', '#dcd2c0', '#ad9a82')),
    'brick': ('#a8624c', '#8c4d3c', ('#b87460', '#965743', '#7d4637')),
    'foliage': ('#2c4a28', '#1f3a20', GREENS),
}


def rgb(code: str) -> Array:
    """Returns ``#rrggbb`` as (3,) float64, 0-255."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], float)


@dataclass(frozen=True)
class Bloom:
    """Where a bloom stands: centre, radius and foot of the stem in picture widths, angles in radians."""

    x: float
    y: float
    radius: float
    lean: float
    squash: float
    foot: float


@dataclass(frozen=True)
class Scene:
    """What is chosen by chance before anything is drawn."""

    ground: str
    blur: float  # sigma, of the background, in percent of the picture's width
    hue: Array
    blooms: tuple[Bloom, ...]
    light: Array  # (3,) gain per channel
    slope: Array  # (2,) change of brightness from edge to edge
    noise: float  # sigma, in grey levels


def sample_scene(name: str, rng: Random) -> Scene:
    """Chooses background, colour, positions, light and noise."""
    count = int(rng.choice([1, 2], p=[0.75, 0.25]))
    blooms = []
    for i in range(count):
        radius = rng.uniform(0.32, 0.46) if count == 1 else rng.uniform(0.22, 0.3)
        x = 0.5 + (i - (count - 1) / 2) * 0.75 / count + rng.normal(0, 0.05)
        y = rng.uniform(0.36, 0.5) if count == 1 else rng.uniform(0.28, 0.6)
        squash = rng.uniform({'tulip': 1, 'dandelion': 0.9}.get(name, 0.72), 1)
        blooms.append(Bloom(x, y, radius, rng.normal(0, 0.22), squash, x + rng.normal(0, 0.08)))
    return Scene(
        ground=str(rng.choice(list(GROUNDS))),
        blur=rng.uniform(0.4, 3),
        hue=rgb(str(rng.choice(HUES[name]))) * rng.uniform(0.94, 1.03, 3),
        blooms=tuple(sorted(blooms, key=lambda bloom: bloom.radius)),
        light=rng.uniform(0.75, 1.12) * rng.uniform(0.95, 1.05, 3),
        slope=rng.uniform(-0.25, 0.25, 2),
        noise=rng.uniform(1, 7),
    )


@dataclass(frozen=True)
class Pen:
    """Draws on ``image`` in local coordinates, which ``matrix`` (2, 2) and ``origin`` (2,) take to pixels."""

    image: NDArray[np.uint8]
    matrix: Array
    origin: Array

    def at(self, x: float = 0, y: float = 0, scale: float = 1, turn: float = 0, squash: float = 1) -> 'Pen':
        """Returns a pen for a frame at (x, y), squashed along its y axis, then turned by ``turn`` radians."""
        cos, sin = np.cos(turn), np.sin(turn)
        frame = np.array([[cos, -sin * squash], [sin, cos * squash]]) * scale
        return Pen(self.image, self.matrix @ frame, self.matrix @ (x, y) + self.origin)

    def fill(self, outline: Array, colour: Array, edge: float = 1) -> None:
        """Fills a polygon; ``edge`` below 1 also draws its outline in a colour so much darker."""
        points = self._fixed(outline)
        cv2.fillPoly(self.image, [points], _clip(colour), cv2.LINE_AA, FIXED_POINT_BITS)
        if edge < 1:
            cv2.polylines(self.image, [points], True, _clip(colour * edge), 1, cv2.LINE_AA, FIXED_POINT_BITS)

    def stroke(self, lines: Array, colour: Array, width: float) -> None:
        """Draws a line (N, 2), or several at once (M, N, 2), of ``width`` local units, one pixel at least."""
        points = list(self._fixed(lines).reshape(-1, *lines.shape[-2:]))
        pixels = max(1, round(width * abs(np.linalg.det(self.matrix)) ** 0.5))
        cv2.polylines(self.image, points, False, _clip(colour), pixels, cv2.LINE_AA, FIXED_POINT_BITS)

    def _fixed(self, points: Array) -> NDArray[np.int32]:
        return np.rint((points @ self.matrix.T + self.origin) * 2**FIXED_POINT_BITS).astype(np.int32)


def _clip(colour: Array) -> tuple[int, ...]:
    return tuple(min(max(round(channel), 0), 255) for channel in colour.tolist())


def blade(
    length: float, width: float, belly: float = 0.55, point: float = 1, bend: float = 0, teeth: int = 0
) -> Array:
    """Outlines a petal or leaf along +x from the origin: widest at ``belly``, blunt for ``point`` < 1, else sharp."""
    t = np.linspace(0, 1, 49 if teeth else 17)
    half = width / 2 * np.abs(np.sin(np.pi * t ** (np.log(0.5) / np.log(belly)))) ** point
    if teeth:
        half *= 1 - 3 / teeth * (teeth * t % 1)  # the more, the shallower
    spine = bend * length * t**2
    return np.stack([np.r_[t, t[::-1]] * length, np.r_[spine + half, (spine - half)[::-1]]], axis=1)


def disc(radius: float = 1, corners: int = 24) -> Array:
    """Outlines a circle around the origin."""
    return radius * polar(np.linspace(0, 2 * np.pi, corners, endpoint=False))


def polar(angle: Array) -> Array:
    """Returns the points of the unit circle at these angles."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def ring(rng: Random, pen: Pen, count: int, wobble: float = 0.15) -> Iterator[tuple[Pen, float]]:
    """Yields ``count`` pens around the centre, unevenly, in random order, each with a brightness near 1."""
    start = rng.uniform(0, 2 * np.pi)
    for i in rng.permutation(count):
        turn = start + (i + rng.normal(0, wobble)) * 2 * np.pi / count
        yield pen.at(turn=turn, scale=rng.normal(1, 0.04)), rng.uniform(0.88, 1.06)


def florets(rng: Random, pen: Pen, radius: float, count: int, inner: Array, outer: Array) -> None:
    """Draws a disc of ``count`` florets in a phyllotaxis spiral (Vogel 1979), from ``inner`` to ``outer`` colour."""
    pen.fill(disc(radius), outer * 0.6)
    floret = disc(0.85 * radius / count**0.5, corners=7)
    rank = np.arange(count, dtype=float)
    share = ((rank[:, None] + 0.5) / count) ** 0.5
    centres = share * radius * polar(GOLDEN_ANGLE * rank)
    colours = (inner + (outer - inner) * share**2) * rng.uniform(0.8, 1.2, (count, 1))
    for centre, colour in zip(centres, colours, strict=True):
        pen.fill(floret + centre, colour)


# A flower draws one bloom of radius 1 around the origin; y points down the stem.


def daisy(rng: Random, pen: Pen, hue: Array) -> None:
    """Many narrow blunt petals in two layers around a yellow disc."""
    count, width = int(rng.integers(13, 20)), rng.uniform(0.19, 0.25)
    for length, light in ((1.0, 0.86), (0.95, 1.0)):
        outline, fold = blade(length, width, 0.68, 0.5), np.array([[0.3, 0], [0.75, 0]])
        for petal, shade in ring(rng, pen, count):
            petal.fill(outline, hue * shade * light, edge=0.72)
            petal.stroke(fold, hue * light * 0.85, 0.02)
    florets(rng, pen, rng.uniform(0.24, 0.32), 60, rgb('#f2b91d'), rgb('#f7cf2e'))


def dandelion(rng: Random, pen: Pen, hue: Array) -> None:
    """A dense bloom of fine rays without a disc, or, one time in three, the clock of seeds."""
    if rng.random() < 1 / 3:
        return clock(rng, pen)
    for length in np.linspace(1, 0.2, 7):
        outline, light = blade(length, 0.1, 0.85, 0.4), 0.72 + 0.28 * length
        for ray, shade in ring(rng, pen, int(12 + 34 * length), 0.4):
            ray.fill(outline, hue * shade * light, edge=0.78)


def clock(rng: Random, pen: Pen) -> None:
    """A dandelion gone to seed: a see-through ball of parachutes on spokes around a small brown core."""
    veil = pen.image.copy()
    Pen(veil, pen.matrix, pen.origin).fill(disc(0.95, corners=48), rgb('#f4f4ee'))
    cv2.addWeighted(veil, 0.2, pen.image, 0.8, 0, dst=pen.image)
    count, hairs = 80, np.stack([np.zeros((9, 2)), disc(0.2, corners=9)], axis=1)
    for i in rng.permutation(count):
        depth = 1 - 2 * (i + 0.5) / count  # 1 faces us, -1 is behind
        tip = np.array([0.84 * (1 - depth**2) ** 0.5, 0])
        white = rgb('#ffffff') * (0.9 + 0.1 * depth) * rng.uniform(0.95, 1)
        seed = pen.at(turn=i * GOLDEN_ANGLE)
        seed.stroke(np.stack([tip * 0, tip]), white * 0.8, 0.012)
        seed.stroke(tip + hairs * (0.35 + 0.65 * abs(depth), 1), white, 0.012)
    pen.fill(disc(0.12), rgb('#8a6f4a'), edge=0.7)


def rose(rng: Random, pen: Pen, hue: Array) -> None:
    """Broad overlapping petals, spiralling inwards to a tight bud, on five sepals."""
    for sepal, shade in ring(rng, pen, 5):
        sepal.fill(blade(1.2, 0.3, 0.4, 1.3), rgb('#4f7a35') * shade, edge=0.7)
    turn, lift = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25)
    outline = blade(1.06, 1.4, 0.6, 0.42) - (0.06, 0)
    for i, reach in enumerate(np.linspace(1, 0.22, 14)):
        light = (0.7 + 0.36 * reach) * rng.uniform(0.93, 1.05)
        petal = pen.at(0, -lift * (1 - reach), reach, turn + i * GOLDEN_ANGLE)
        wavy = outline + rng.normal(0, 0.015, outline.shape)
        petal.fill(wavy, hue * light * 1.14, edge=0.5)
        petal.fill(wavy * 0.91, hue * light * 0.93)
        petal.fill(wavy * 0.78, hue * light * 0.8)
    t = np.linspace(0, 1, 40)
    pen.at(0, -lift * 0.8, 0.2, turn).stroke(t[:, None] * polar(14 * t), hue * 0.45, 0.2)


def sunflower(rng: Random, pen: Pen, hue: Array) -> None:
    """Pointed petals in three layers around a big dark disc of spiralling florets."""
    count = int(rng.integers(17, 24))
    for length, light in ((1.0, 0.74), (0.97, 0.88), (0.9, 1.0)):
        outline, fold = blade(length, 0.3, 0.62, 1.15, rng.normal(0, 0.06)), np.array([[0.4, 0], [0.85, 0]])
        for petal, shade in ring(rng, pen, count, 0.2):
            petal.fill(outline, hue * shade * light, edge=0.66)
            petal.stroke(fold, hue * light * 0.8, 0.015)
    florets(rng, pen, rng.uniform(0.46, 0.56), 150, rgb('#4a3a1c'), rgb('#6b3d1a') * rng.uniform(0.7, 1.1))


def tulip(rng: Random, pen: Pen, hue: Array) -> None:
    """A cup seen from the side: three pointed oval petals in front, the tips of two behind."""
    spread, flame = rng.uniform(0.14, 0.36), rng.uniform(0.85, 1.12)
    base = pen.at(0, 0.95, 1.9, -np.pi / 2)
    for side, length, width, light in (
        (-0.45, 0.94, 0.4, 0.62),
        (0.45, 0.94, 0.4, 0.66),
        (-1, 1.0, 0.5, 0.84),
        (1, 0.98, 0.5, 0.92),
        (0, rng.uniform(0.78, 0.88), 0.48, 1.02),
    ):
        bend = -0.45 * side * spread  # the cup closes towards the tips
        petal = base.at(turn=side * spread + rng.normal(0, 0.03))
        petal.fill(blade(length, width, 0.38, 0.72, bend), hue * light, edge=0.6)
        petal.fill(blade(length * 0.86, width * 0.4, 0.4, 0.9, bend), hue * light * flame)
        petal.stroke(np.array([[0.1, 0], [0.5, bend * 0.25], [0.8, bend * 0.64]]), hue * light * 0.8, 0.012)


FLOWERS: dict[str, Callable[[Random, Pen, Array], None]] = {
    'daisy': daisy,
    'dandelion': dandelion,
    'rose': rose,
    'sunflower': sunflower,
    'tulip': tulip,
}
# Of the stem: width. Of the leaves: pairs on the stem, whether they spring from its foot, length, width, belly, teeth.
STEMS = {
    'daisy': (0.06, 1, False, 0.5, 0.22, 0.7, 0),
    'dandelion': (0.09, 2, True, 1.7, 0.5, 0.7, 6),
    'rose': (0.08, 2, False, 0.9, 0.55, 0.45, 12),
    'sunflower': (0.13, 1, False, 1.3, 0.9, 0.4, 0),
    'tulip': (0.13, 1, True, 2.6, 0.42, 0.4, 0),
}


def stem(rng: Random, pen: Pen, name: str, bloom: Bloom) -> None:
    """Draws stem and leaves of a bloom, in the frame of the picture."""
    width, pairs, from_foot, length, leaf_width, belly, teeth = STEMS[name]
    green = rgb(str(rng.choice(GREENS)))
    t = np.linspace(0, 1, 20)[:, None]
    foot, knee = np.array([bloom.foot, 1.1]), np.array([bloom.x - 0.6 * bloom.radius * np.sin(bloom.lean), 0.8])
    line = (1 - t) ** 2 * (bloom.x, bloom.y) + 2 * t * (1 - t) * knee + t**2 * foot
    pen.stroke(line, green * 0.75, bloom.radius * (width + 0.03))
    pen.stroke(line, green * 1.1, bloom.radius * width)
    for side in (-1, 1) * pairs:
        x, y = line[-1] if from_foot else line[rng.integers(8, 16)]
        rise = rng.uniform(0.9, 1.35) if from_foot and not teeth else rng.uniform(0.1, 0.8)
        leaf = pen.at(
            x, y - 0.1 * from_foot, bloom.radius * rng.uniform(0.8, 1.15), -np.pi / 2 + side * (np.pi / 2 - rise)
        )
        bend = side * rng.uniform(0, 0.25)
        leaf.fill(blade(length, leaf_width, belly, 0.9, bend, teeth), green * rng.uniform(0.85, 1.15), edge=0.7)
        leaf.stroke(np.array([[0, 0], [0.5, bend * 0.25], [0.9, bend * 0.81]]) * (length, length), green * 1.3, 0.03)


def draw_ground(scene: Scene, rng: Random, side: int) -> NDArray[np.uint8]:
    """Paints the background: a gradient with marks, out of focus. Returns (side, side, 3) uint8 RGB."""
    top, bottom, marks = GROUNDS[scene.ground]
    t = np.linspace(0, 1, side)[:, None, None]
    image = np.repeat(rgb(top) * (1 - t) + rgb(bottom) * t, side, axis=1).astype(np.uint8)
    pen = Pen(image, np.eye(2) * side, np.zeros(2))
    colours = np.array([rgb(code) for code in rng.choice(marks, 90)]) * rng.uniform(0.8, 1.1, (90, 1))
    grass, leaf, spot = blade(0.35, 0.03), blade(0.3, 0.13), disc()
    for (x, y), colour in zip(rng.uniform(-0.1, 1.1, (90, 2)), colours, strict=True):
        match scene.ground:
            case 'grass':
                pen.at(x, y + 0.2, 1, rng.normal(-1.6, 0.3)).fill(grass, colour)
            case 'foliage':
                pen.at(x, y, 1, rng.uniform(0, 6.3)).fill(leaf, colour)
            case 'sky':
                x, y = round(2 * x) / 2 + rng.normal(0, 0.09), round(3 * y) / 3 + rng.normal(0, 0.025)  # in clouds
                pen.at(x, y, 0.06, squash=0.6).fill(spot, colour)
            case 'brick':
                row = round(y * 8)
                brick = pen.at((round(x * 4) + row % 2 / 2) / 4, row / 8)
                brick.fill(np.array([[0, 0], [0.24, 0], [0.24, 0.115], [0, 0.115]]), colour)
            case _:
                pen.at(x, y, rng.uniform(0.01, 0.07), squash=rng.uniform(0.6, 1)).fill(spot, colour)
    return cv2.GaussianBlur(image, (0, 0), scene.blur / 100 * side)


def draw_flower(name: str, size: int, rng: Random) -> NDArray[np.uint8]:
    """Draws one picture of ``name``, a key of :data:`FLOWERS`. Returns (size, size, 3) uint8 RGB."""
    scene = sample_scene(name, rng)
    side = size * SUPERSAMPLING
    image = draw_ground(scene, rng, side)
    pen = Pen(image, np.eye(2) * side, np.zeros(2))
    for bloom in scene.blooms:
        stem(rng, pen, name, bloom)
        head = pen.at(bloom.x, bloom.y, bloom.radius, bloom.lean, bloom.squash)
        FLOWERS[name](rng, head, scene.hue)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    across = np.linspace(-0.5, 0.5, size)
    slope = 1 + scene.slope[0] * across[None, :, None] + scene.slope[1] * across[:, None, None]
    noisy = small * scene.light * slope + rng.normal(0, scene.noise, small.shape)
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
        raise InputError(f'{out}: already exists; name a new folder, or remove this one first')
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
    """Draws the flowers and splits them as any photos are, into ``data_root``."""
    data_root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_root.parent) as raw:
        draw_demo_flowers(Path(raw))
        split_dataset(Path(raw), data_root)
