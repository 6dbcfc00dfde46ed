"""A prediction's journal: what of it cannot be read, and who looks at it last."""

import shutil

import pytest

from custom_modules.errors import InputError
from custom_modules.inference.journal import Journal, Process, predict_resumably
from custom_modules.metrics.predictions import Prediction


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


class Engine:
    digest = 'digest'

    def predict(self, paths, *_):
        return (Prediction(path, [1.0]) for path in paths)


def test_the_first_process_may_have_removed_it_before_another_looks(tmp_path):
    folder = tmp_path / '.a.csv.part'
    waits = []

    def barrier():
        waits.append(len(list(folder.glob('*.jsonl'))))
        if waits[-1]:  # all have written: process 0 is through with it before this one goes on
            for file in folder.glob('*.jsonl'):
                file.rename(tmp_path / file.name)
            shutil.rmtree(folder)
            folder.mkdir()
            (folder / '1.jsonl').mkdir()  # so that a look fails

    predict_resumably(tmp_path / 'a.csv', Engine(), ['a.jpg', 'b.jpg'], process=Process(1, 2, barrier))
    assert waits == [0, 0, 1]
    assert 'b.jpg' in (tmp_path / '1.jsonl').read_text()
