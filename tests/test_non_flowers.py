"""The images without a flower, on which configs/README.md has figures."""

import pytest
from non_flowers import main
from PIL import Image

from custom_modules.errors import InputError


def test_the_images_can_be_read_and_differ_from_each_other(tmp_path):
    pytest.importorskip('skimage', reason='scikit-image brings the photographs')
    assert main([str(tmp_path / 'images')]) == 0
    files = [path for path in (tmp_path / 'images').rglob('*') if path.is_file()]
    counts = {part.name: len(list(part.iterdir())) for part in (tmp_path / 'images').iterdir()}
    assert counts == {'photos': 20, 'parts': 42, 'faces': 20}
    assert len({file.read_bytes() for file in files}) == len(files)
    for file in files:
        with Image.open(file) as image:
            image.load()
    with pytest.raises(InputError, match='exists already'):
        main([str(tmp_path / 'images')])
