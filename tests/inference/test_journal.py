"""The journal of a prediction: corrupt files, other models, and processes that share the images."""

import pytest

from custom_modules.errors import InputError
from custom_modules.inference.journal import Process, predict_resumably
from custom_modules.metrics.predictions import Prediction

PATHS = ['a.jpg', 'b.jpg', 'c.jpg']


class Predictor:
    """Predicts the same for each image, and notes which ones it was asked for."""

    def __init__(self, digest='digest'):
        self.digest = digest
        self.asked = []

    def predict(self, paths, *_):
        self.asked += paths
        return (Prediction(path, [1.0]) for path in paths)


@pytest.mark.parametrize('line', ['{', '[]', '\0', '{}', '{"model": "digest", "scores": [1]}'], ids=repr)
def test_a_corrupt_journal_is_named(tmp_path, line):
    (tmp_path / '0.jsonl').write_text(line + '\n')
    with pytest.raises(InputError, match=r'0\.jsonl: corrupt \(.*\)\. Delete the folder'):
        predict_resumably(tmp_path, Predictor(), PATHS, 1, 0)


def test_only_the_same_model_goes_on_where_it_ended(tmp_path):
    predict_resumably(tmp_path, Predictor(), PATHS[:1], 1, 0)
    with (tmp_path / '0.jsonl').open('a') as file:
        file.write('{"model": "digest", "pa')  # cut by a kill
    with pytest.raises(InputError, match='holds the beginning of a prediction with another model'):
        predict_resumably(tmp_path, Predictor('other'), PATHS, 1, 0)
    predictor = Predictor()
    assert list(predict_resumably(tmp_path, predictor, PATHS[::-1], 1, 0)) == PATHS[::-1]
    assert predictor.asked == PATHS[:0:-1]


def test_processes_share_the_images_and_the_first_gathers_them(tmp_path):
    waits = []

    def barrier():  # before this process has written, then after both have
        waits.append((tmp_path / '1.jsonl').exists())
        if len(waits) == 3:
            (tmp_path / '0.jsonl').write_text('the first process may already have removed the folder')

    predictor = Predictor()
    assert predict_resumably(tmp_path, predictor, PATHS, 1, 0, process=Process(1, 2, barrier)) == {}
    assert predictor.asked == ['b.jpg']
    assert waits == [False, False, True]
