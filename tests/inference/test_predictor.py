"""What names the scores of a predictor, so that none of another one are mixed in. What it predicts: tests/tools."""

from copy import deepcopy

from custom_modules.inference.predictor import Predictor
from custom_modules.models.checkpoints import load_checkpoint
from custom_modules.models.saved_config import read_saved_config


def test_the_digest_is_of_all_that_decides_the_scores(trained):
    name = str(trained.work_dir / 'best.pth')
    checkpoint = load_checkpoint(name)
    cfg = read_saved_config(checkpoint, name)
    digest = Predictor(deepcopy(cfg), checkpoint, name, 'cpu').digest

    elsewhere = deepcopy(cfg)
    elsewhere.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': 'elsewhere.pth'}
    assert Predictor(elsewhere, checkpoint, name, 'cpu').digest == digest
    for key, value in {
        'data_preprocessor.mean': [0, 0, 0],
        'test_dataloader.dataset.pipeline.1.scale': (64, 64),
    }.items():
        other = deepcopy(cfg)
        other.merge_from_dict({key: value})
        assert Predictor(other, checkpoint, name, 'cpu').digest != digest, key
