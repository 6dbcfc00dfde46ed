"""A prepared dataset is read in one go, and everything wrong with one is reported in one go."""

import json
import shutil

import pytest

from custom_modules.datasets.annotation import Sample
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.errors import InputError


@pytest.fixture
def copy(data, tmp_path):
    return shutil.copytree(data, tmp_path / 'data')


def test_contents(copy):
    prepared = read_prepared(copy)
    assert prepared.root == copy
    assert prepared.classes == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    assert (len(prepared.train), len(prepared.val)) == (40, 15)
    assert prepared.val[-1] == Sample(prepared.val[-1].path, 4)
    assert prepared.digest == json.loads((copy / 'manifest.json').read_bytes())['digest']
    (copy / 'manifest.json').unlink()
    assert read_prepared(copy).digest is None


def test_all_problems_are_reported_at_once(copy):
    (copy / 'train.txt').write_bytes((copy / 'train.txt').read_bytes() + b'dasy/a.jpg 0\n')
    (copy / 'val.txt').unlink()
    (copy / 'manifest.json').write_text('{}')
    with pytest.raises(InputError) as error:
        read_prepared(copy)
    first, second, third = error.value.problems
    assert first.startswith(f'{copy / "train.txt"}:41: ')
    assert "did you mean 'daisy'?" in first
    assert second.startswith(f'{copy / "val.txt"}: no such file')
    assert third.startswith(f'{copy / "manifest.json"}: ')


def test_a_changed_or_broken_manifest_is_refused(copy):
    text = (copy / 'manifest.json').read_text()
    for broken in (text.replace('"seed": 0', '"seed": 1'), text[:-5], '[]', '{}', '\udce9'):
        (copy / 'manifest.json').write_bytes(broken.encode('utf-8', 'surrogateescape'))
        with pytest.raises(InputError, match=r'manifest\.json: .*tools/split_dataset\.py'):
            read_prepared(copy)
