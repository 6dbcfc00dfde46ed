"""Digests and order of predictions. What is predicted: tests/tools/test_predict.py."""

from copy import deepcopy
from dataclasses import replace

import pytest

from custom_modules.inference.torch_predictor import TorchPredictor
from custom_modules.models.model_file import open_model_file


def test_the_digest_is_of_all_that_decides_the_scores(trained):
    file = open_model_file(trained.work_dir / 'best.pth')

    def digest(**changes):
        config = deepcopy(file.config)
        config.model.backbone.init_cfg = changes.pop('init_cfg', None)
        config.merge_from_dict(changes)
        return TorchPredictor(replace(file, given_config=config), 'cpu').digest

    assert digest() == digest(init_cfg={'type': 'Pretrained', 'checkpoint': 'elsewhere.pth'})
    assert digest() != digest(**{'data_preprocessor.mean': [0, 0, 0]})
    assert digest() != digest(**{'test_dataloader.dataset.pipeline.1.scale': (64, 64)})


@pytest.mark.parametrize('workers', [0, 3])
def test_outcomes_are_in_the_order_of_the_paths(trained, data, workers):
    predictor = TorchPredictor(open_model_file(trained.work_dir / 'best.pth'), 'cpu')
    paths = [str(path) for path in sorted((data / 'val').glob('*/*'))]
    paths.insert(2, 'gone.jpg')
    outcomes = list(predictor.predict(paths, 4, workers))
    assert [outcome.path for outcome in outcomes] == paths
    assert [hasattr(outcome, 'problem') for outcome in outcomes] == [path == 'gone.jpg' for path in paths]
