"""Writes 82 images without a flower, the same each time: ``python tests/non_flowers.py DIR``.

``DIR/photos`` holds photographs from scikit-image, scikit-learn and matplotlib. ``DIR/parts`` holds parts of them;
these are not independent, so an interval over them is too narrow. ``DIR/faces`` holds small grey faces of Labelled
Faces in the Wild.

The figures of ``tools/test.py --ood`` in configs/README.md were measured on these images.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.files import write_folder_atomically

# Names in scikit-image's data folder, and how many parts are cut out of each. Drawings and logos are left out.
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
EDGE = 256  # pixels, of faces


def photographs() -> dict[str, Path]:
    """The photographs by name."""
    import matplotlib
    import skimage
    import sklearn

    theirs = Path(skimage.__file__).parent / 'data'
    return {
        **{name: theirs / name for name in PHOTOS},
        'china.jpg': Path(sklearn.__file__).parent / 'datasets' / 'images' / 'china.jpg',
        'grace_hopper.jpg': Path(matplotlib.get_data_path()) / 'sample_data' / 'grace_hopper.jpg',
    }


def cut(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A square part, its edge 0.35 to 0.7 of the image's short one."""
    edge = int(min(image.size) * random.uniform(0.35, 0.7))
    left, top = (int(random.integers(0, length - edge + 1)) for length in image.size)
    return image.crop((left, top, left + edge, top + edge))


def write(folder: Path) -> None:
    """Writes all images into an existing folder."""
    files = photographs()
    for name in ('photos', 'parts', 'faces'):
        (folder / name).mkdir()
    for number, (name, path) in enumerate(files.items()):
        random = np.random.default_rng([0, number])
        with Image.open(path) as opened:
            image = opened.convert('RGB')
        stem = Path(name).stem
        image.save(folder / 'photos' / f'{stem}.png')
        for part in range(PHOTOS.get(name, 3)):
            cut(image, random).save(folder / 'parts' / f'{stem}_{part + 1}.png')
    faces = np.load(files['brick.png'].with_name('lfw_subset.npy'))  # (200, 25, 25) in 0-1, the faces first
    for number in range(FACES):
        grey = Image.fromarray((255 * faces[number]).astype(np.uint8))
        grey.resize((EDGE, EDGE), Image.Resampling.BICUBIC).save(folder / 'faces' / f'face_{number + 1:02}.png')


def main(argv: list[str] | None = None) -> int:
    """Writes the images into a new folder."""
    parser = argparse.ArgumentParser(description='Write images without a flower, to test a flower classifier.')
    parser.add_argument('folder', metavar='DIR', help='a new folder')
    folder = Path(parser.parse_args(argv).folder)
    if folder.exists():
        raise InputError(f'{folder}: exists already. Name a new folder.')
    write_folder_atomically(folder, write)
    for part in sorted(folder.iterdir()):
        print(f'{part}: {len(list(part.iterdir()))} images')
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
