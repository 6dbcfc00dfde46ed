"""Files are written whole or not at all."""

import os

import pytest

from custom_modules.files import write_atomically


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'best.pth'
    path.write_bytes(b'old')

    def fail(file):
        file.write(b'half of the n')
        raise OSError('No space left on device')

    with pytest.raises(OSError, match='No space'):
        write_atomically(path, fail)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['best.pth']


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'best.pth'
    path.write_bytes(b'old')
    write_atomically(path, lambda file: file.write(b'new' if path.read_bytes() == b'old' else b'?'))
    assert path.read_bytes() == b'new'
