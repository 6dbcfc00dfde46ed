"""Files and folders appear complete or not at all; a locked folder belongs to one process."""

import errno
import os
import subprocess
import sys

import pytest

from custom_modules.files import lock_folder, write_atomically, write_folder_atomically


def test_a_file_is_replaced_by_the_complete_new_one_or_not_at_all(tmp_path):
    path = tmp_path / 'best.pth'
    path.write_bytes(b'old')

    def fail(file):
        file.write(b'half of the n')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OSError, match='No space') as caught:
        write_atomically(path, fail)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b'old'
    write_atomically(path, lambda file: file.write(b'new after ' + path.read_bytes()))
    assert path.read_bytes() == b'new after old'
    assert os.listdir(tmp_path) == ['best.pth']


def test_a_folder_is_replaced_by_the_complete_new_one_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'a' / 'report'
    write_folder_atomically(path, lambda new: (new / 'old').write_text('old'))
    replace = os.replace

    def fail(new):
        (new / 'half').touch()
        raise KeyboardInterrupt

    def refuse(source, target):
        if source.suffix == '.tmp':
            raise PermissionError(errno.EACCES, 'Permission denied')
        replace(source, target)

    with pytest.raises(KeyboardInterrupt):
        write_folder_atomically(path, fail)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', refuse)
        with pytest.raises(PermissionError):
            write_folder_atomically(path, lambda new: None)
    assert [file.name for file in path.parent.rglob('*')] == ['report', 'old']
    write_folder_atomically(path, lambda new: (new / 'new').write_text((path / 'old').read_text()))
    assert [file.name for file in path.parent.rglob('*')] == ['report', 'new']


def test_a_locked_folder_belongs_to_one_process_until_that_ends(tmp_path):
    code = f"""
from pathlib import Path
from custom_modules.errors import run_tool
from custom_modules.files import lock_folder
raise SystemExit(run_tool(lambda: lock_folder(Path({str(tmp_path)!r})) and 0))
"""

    def other() -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)

    lock = lock_folder(tmp_path)
    refused = other()
    assert refused.returncode == 2
    assert 'another run is writing there' in refused.stderr
    lock.close()
    assert other().returncode == 0
