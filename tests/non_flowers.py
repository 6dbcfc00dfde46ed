"""Writes more than a hundred pictures without a flower, the same each time: ``python tests/non_flowers.py DIR``.

``DIR/photos`` holds photographs that scikit-image, scikit-learn and matplotlib bring along, and ``DIR/parts`` parts of
them: those are not independent of each other, so that an interval over them is too narrow. ``DIR/faces`` holds small
grey faces of Labelled Faces in the Wild, which scikit-image brings too, and ``DIR/drawn`` what is drawn here.

The README's figures of ``tools/test.py --ood`` are of these; they do not stand for all that a model will meet.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.files import write_folder_atomically

# Their names in scikit-image's data folder, and how many parts are cut out of each. Left out are drawings and logos.
PHOTOS = {
    'astronaut.png': 4,
    'brick.png': 1,
    'camera.png': 3,
    'cell.png': 1,
    'chelsea.png': 3,
    'clock_motion.png': 0,
    'coffee.png': 3,
    'coins.png': 2,
    'grass.png': 1,
    'gravel.png': 1,
    'hubble_deep_field.jpg': 3,
    'ihc.png': 2,
    'moon.png': 2,
    'motorcycle_left.png': 4,
    'page.png': 1,
    'retina.jpg': 2,
    'rocket.jpg': 3,
    'text.png': 0,
}
FACES = 20
EACH = 5  # pictures of each kind of drawing
EDGE = 256  # pixels, of drawings

Random = np.random.Generator


def colour(random: Random) -> tuple[int, int, int]:
    """Any colour."""
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def canvas(fill: str | tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A picture of one colour, and what draws on it."""
    picture = Image.new('RGB', (EDGE, EDGE), fill)
    return picture, ImageDraw.Draw(picture)


def box(random: Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a part of a drawing."""
    left, top = random.integers(-20, EDGE - 40, 2).tolist()
    width, height = random.integers(20, 120, 2).tolist()
    return left, top, left + width, top + height


def noise(random: Random) -> Image.Image:
    """Each pixel for itself."""
    return Image.fromarray(random.integers(0, 256, (EDGE, EDGE, 3), np.uint8))


def clouds(random: Random) -> Image.Image:
    """Noise of low frequencies in two colours."""
    coarse = Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    return Image.composite(canvas(colour(random))[0], canvas(colour(random))[0], coarse)


def gradient(random: Random) -> Image.Image:
    """From one colour to another, at some angle."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:EDGE, :EDGE] / EDGE - 0.5
    share = np.clip(np.cos(angle) * rows + np.sin(angle) * columns + 0.5, 0, 1)[..., None]
    return Image.fromarray((share * colour(random) + (1 - share) * colour(random)).astype(np.uint8))


def stripes(random: Random) -> Image.Image:
    """Waves of one direction, or of two."""
    rows, columns = np.mgrid[:EDGE, :EDGE]
    waves = np.sin(rows * random.uniform(0, 0.4)) + np.sin(columns * random.uniform(0.05, 0.4))
    return Image.fromarray(np.where(waves[..., None] > 0, colour(random), colour(random)).astype(np.uint8))


def rectangles(random: Random) -> Image.Image:
    """Many rectangles over each other."""
    picture, draw = canvas(colour(random))
    for _ in range(25):
        draw.rectangle(box(random), fill=colour(random), outline=colour(random))
    return picture


def circles(random: Random) -> Image.Image:
    """A few discs, apart from each other, for those that overlap look like petals."""
    picture, draw = canvas(colour(random))
    for place in random.permutation(16)[:7].tolist():
        x, y = EDGE // 4 * (place % 4) + 32, EDGE // 4 * (place // 4) + 32
        radius = int(random.integers(8, 30))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour(random))
    return picture


def text(random: Random) -> Image.Image:
    """A page of letters."""
    picture, draw = canvas('white')
    font = ImageFont.load_default(int(random.integers(10, 24)))
    for line in range(0, EDGE, int(font.size * 1.4)):
        letters = ''.join(map(chr, random.choice([*range(97, 123), 32, 32, 32, 32], 40)))
        draw.text((8, line), letters, fill='black', font=font)
    return picture


def landscape(random: Random) -> Image.Image:
    """Hills one behind the other, under a sky with a sun."""
    picture, draw = canvas((120 + int(random.integers(80)), 180, 235))
    x, y = random.integers(20, 200), random.integers(15, 60)
    draw.ellipse((x, y, x + 34, y + 34), fill=(255, 235, 120))
    for depth in range(4):
        phase, pitch = random.uniform(0, 6), random.uniform(0.01, 0.04)
        top = [(column, 100 + 35 * depth + 20 * np.sin(phase + pitch * column)) for column in range(EDGE)]
        shade = 60 + 25 * (3 - depth)
        draw.polygon([*top, (EDGE, EDGE), (0, EDGE)], fill=(shade // 2, shade, shade // 3))
    return picture


def face(random: Random) -> Image.Image:
    """A head with eyes, nose and mouth."""
    picture, draw = canvas(colour(random))
    tone = int(random.integers(80, 220))
    draw.ellipse((58, 30, 198, 226), fill=(tone + 30, tone, tone - 30))
    for x in (96, 160):
        draw.ellipse((x - 14, 94, x + 14, 112), fill='white')
        draw.ellipse((x - 6, 97, x + 6, 109), fill=colour(random))
    draw.polygon([(128, 112), (116, 152), (140, 152)], fill=(tone, tone - 30, tone - 60))
    draw.arc((92, 140, 164, 196), 20, 160, fill=(150, 30, 40), width=int(random.integers(3, 9)))
    return picture


def house(random: Random) -> Image.Image:
    """Walls, a roof, windows and a door."""
    picture, draw = canvas((170, 205, 240))
    draw.rectangle((0, 200, EDGE, EDGE), fill=(90, 140, 70))
    left, top = int(random.integers(30, 80)), int(random.integers(90, 130))
    draw.rectangle((left, top, left + 140, 210), fill=colour(random))
    draw.polygon([(left - 14, top), (left + 70, top - 60), (left + 154, top)], fill=colour(random))
    for x in (left + 15, left + 95):
        draw.rectangle((x, top + 20, x + 30, top + 50), fill=(230, 240, 250), outline='black')
    draw.rectangle((left + 55, 160, left + 85, 210), fill=colour(random))
    return picture


def chart(random: Random) -> Image.Image:
    """Bars over an axis."""
    picture, draw = canvas('white')
    fill = colour(random)
    for column in range(8):
        draw.rectangle((30 + 26 * column, int(random.integers(30, 210)), 48 + 26 * column, 225), fill=fill)
    draw.line((22, 20, 22, 226, 240, 226), fill='black', width=2)
    return picture


def blurred_shapes(random: Random) -> Image.Image:
    """Rectangles out of focus."""
    return rectangles(random).filter(ImageFilter.GaussianBlur(random.uniform(3, 10)))


DRAWINGS = noise, clouds, gradient, stripes, rectangles, circles, text, landscape, face, house, chart, blurred_shapes


def photographs() -> dict[str, Path]:
    """The photographs by name.

    Raises:
        InputError: A package is not installed.
    """
    try:
        import matplotlib
        import skimage
        import sklearn
    except ImportError as error:
        raise InputError(f'{error}: pip install scikit-image scikit-learn matplotlib') from None
    theirs = Path(skimage.__file__).parent / 'data'
    return {
        **{name: theirs / name for name in PHOTOS},
        'china.jpg': Path(sklearn.__file__).parent / 'datasets' / 'images' / 'china.jpg',  # beside it lies a flower
        'grace_hopper.jpg': Path(matplotlib.get_data_path()) / 'sample_data' / 'grace_hopper.jpg',
    }


def cut(picture: Image.Image, random: Random) -> Image.Image:
    """A square part, its edge 0.35 to 0.7 of the picture's short one."""
    edge = int(min(picture.size) * random.uniform(0.35, 0.7))
    left, top = (int(random.integers(0, side - edge + 1)) for side in picture.size)
    return picture.crop((left, top, left + edge, top + edge))


def write(folder: Path) -> None:
    """Writes all pictures into a folder that is there."""
    files = photographs()
    for name in ('photos', 'parts', 'faces', 'drawn'):
        (folder / name).mkdir()
    for number, (name, path) in enumerate(files.items()):
        random = np.random.default_rng([0, number])
        with Image.open(path) as opened:
            picture = opened.convert('RGB')
        stem = Path(name).stem
        picture.save(folder / 'photos' / f'{stem}.png')
        for part in range(PHOTOS.get(name, 3)):
            cut(picture, random).save(folder / 'parts' / f'{stem}_{part + 1}.png')
    faces = np.load(files['brick.png'].with_name('lfw_subset.npy'))  # (200, 25, 25) in 0-1, the faces first
    for number in range(FACES):
        grey = Image.fromarray((255 * faces[number]).astype(np.uint8))
        grey.resize((EDGE, EDGE), Image.Resampling.BICUBIC).save(folder / 'faces' / f'face_{number + 1:02}.png')
    for place, kind in enumerate(DRAWINGS):
        for number in range(EACH):
            kind(np.random.default_rng([1, place, number])).save(
                folder / 'drawn' / f'{kind.__name__}_{number + 1}.png'
            )


def main(argv: list[str] | None = None) -> int:
    """Writes the pictures into a new folder."""
    parser = argparse.ArgumentParser(description='Write pictures without a flower, to test a flower classifier with.')
    parser.add_argument('folder', metavar='DIR', help='a new folder')
    folder = Path(parser.parse_args(argv).folder)
    if folder.exists():
        raise InputError(f'{folder}: exists already; name a new folder')
    write_folder_atomically(folder, write)
    for part in sorted(folder.iterdir()):
        print(f'{part}: {len(list(part.iterdir()))} pictures')
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
