"""The pictures without a flower, on which the README's figures were measured."""

import pytest
from non_flowers import DRAWINGS, EACH, main
from PIL import Image

from custom_modules.errors import InputError


def test_the_pictures_are_there_and_the_same_each_time(tmp_path):
    pytest.importorskip('skimage', reason='scikit-image brings the photographs')
    for name in ('one', 'again'):
        assert main([str(tmp_path / name)]) == 0
    files = sorted(path for path in (tmp_path / 'one').rglob('*') if path.is_file())
    assert len(files) >= 100
    assert len(list((tmp_path / 'one' / 'drawn').iterdir())) == EACH * len(DRAWINGS)
    contents = [file.read_bytes() for file in files]
    assert contents == [(tmp_path / 'again' / file.relative_to(tmp_path / 'one')).read_bytes() for file in files]
    assert len(set(contents)) == len(files)
    for file in files:
        with Image.open(file) as picture:
            picture.load()
    with pytest.raises(InputError, match='exists already'):
        main([str(tmp_path / 'one')])
