"""A prediction's journal: what of it cannot be read."""

import pytest

from custom_modules.errors import InputError
from custom_modules.inference.journal import Journal


@pytest.mark.parametrize('line', ['{', '[]', '\0', '{}', '{"number": "x"}', '{"number": 0, "scores": [1]}'], ids=repr)
def test_a_damaged_journal_is_named(tmp_path, line):
    Journal(tmp_path / 'part', 'task')
    (tmp_path / 'part' / '0.jsonl').write_text(line + '\n')
    with pytest.raises(InputError, match=r'0\.jsonl: damaged \(.*\); delete the folder .*part$'):
        Journal(tmp_path / 'part', 'task')


def test_a_task_that_is_no_text_is_another_one(tmp_path):
    Journal(tmp_path / 'part', 'task')
    (tmp_path / 'part' / 'task').write_bytes(b'\xff')
    with pytest.raises(InputError, match='holds the beginning of another prediction'):
        Journal(tmp_path / 'part', 'task')
