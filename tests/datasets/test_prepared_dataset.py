"""A prepared dataset read in one go, and everything wrong with one reported in one go."""

import json
import shutil

import pytest

from custom_modules.datasets.annotation import Sample
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.errors import InputError


@pytest.fixture
def copy(data, tmp_path):
    return shutil.copytree(data, tmp_path / 'data')


def test_contents(data):
    prepared = read_prepared(data)
    assert prepared.root == data
    assert prepared.classes == ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']
    assert (len(prepared.train), len(prepared.val)) == (40, 15)
    assert prepared.val[-1] == Sample(prepared.val[-1].path, 4)
    assert prepared.digest == json.loads((data / 'manifest.json').read_bytes())['digest']


def test_no_manifest_means_no_digest(copy):
    (copy / 'manifest.json').unlink()
    assert read_prepared(copy).digest is None


def test_all_problems_at_once(copy):
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


def test_an_image_in_both_subsets(copy):
    prepared = read_prepared(copy)
    path, label = prepared.val[0]
    shutil.copy(copy / 'val' / path, copy / 'train' / path)
    with (copy / 'train.txt').open('a') as file:
        file.write(f'{path} {label}\n')
    with pytest.raises(InputError, match='is in train and in val'):
        read_prepared(copy)


def test_missing_class_names_are_the_one_problem(copy):
    (copy / 'classes.txt').unlink()
    with pytest.raises(InputError) as error:
        read_prepared(copy)
    assert len(error.value.problems) == 1
