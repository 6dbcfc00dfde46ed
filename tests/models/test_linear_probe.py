"""The linear probe: logistic regression against scikit-learn, and the fitted head of a classifier."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from sklearn.linear_model import LogisticRegression

from custom_modules.errors import InputError
from custom_modules.models.linear_probe import fit_head, logistic_regression


@pytest.mark.parametrize('l2', [0.001, 0.1])
def test_logistic_regression_finds_scikit_learns_optimum(l2):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = (rng.normal(size=(90, 6)) + labels[:, None] * 0.5).astype(np.float32)
    # scikit-learn minimises C * (sum of losses) + half the squared weights
    theirs = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-8, max_iter=10_000).fit(features, labels)
    weight, bias = logistic_regression(torch.from_numpy(features), torch.from_numpy(labels), 3, l2)
    scores = (torch.from_numpy(features) @ weight.T + bias).softmax(1)
    assert weight.shape == (3, 6)
    np.testing.assert_allclose(scores, theirs.predict_proba(features), atol=2e-3)


@pytest.fixture
def model_and_loader(tiny_config, trained):
    """The tiny classifier after its training, and a loader of its training photos without augmentation."""
    cfg = Config.fromfile(tiny_config)
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model | {'data_preprocessor': cfg.data_preprocessor})
    model.load_state_dict(torch.load(trained.work_dir / 'best.pth')['state_dict'])
    loader = cfg.train_dataloader
    loader.update(sampler={'type': 'DefaultSampler', 'shuffle': False}, persistent_workers=False)
    loader.dataset.pipeline = cfg.test_pipeline
    return model, Runner.build_dataloader(loader)


@pytest.mark.parametrize(
    ('head', 'layer'),
    [
        ({}, 'fc'),
        ({'type': 'StackedLinearClsHead', 'mid_channels': [64], 'dropout_rate': 0.9}, 'layers.1.fc'),
        ({'type': 'VisionTransformerClsHead', 'hidden_dim': 64}, 'layers.head'),
    ],
)
def test_the_last_layer_is_solved_and_nothing_else_touched(head, layer, model_and_loader):
    model, loader = model_and_loader
    if head:
        model.head = MODELS.build({'num_classes': 5, 'in_channels': model.head.in_channels, **head})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    features, outputs = fit_head(model, loader, l2=1e-5)
    assert features.shape == (40, model.head.get_submodule(layer).in_features)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f'head.{layer}.weight', f'head.{layer}.bias'}

    right = losses = 0.0
    model.eval()
    for batch in loader:
        truth = torch.cat([sample.gt_label for sample in batch['data_samples']])
        scores = torch.stack([sample.pred_score for sample in model.test_step(batch)])
        right += float((scores.argmax(1) == truth).sum())
        losses -= float(scores[torch.arange(len(truth)), truth].log().sum().detach())
    assert float(outputs['accuracy_top-1']) == pytest.approx(right / 40 * 100)
    assert float(outputs['loss']) == pytest.approx(losses / 40, rel=1e-3)
    assert right / 40 > 0.5  # of five classes


def test_another_head_and_a_negative_penalty_are_refused(model_and_loader):
    model, loader = model_and_loader
    for l2 in (-1.0, float('nan')):
        with pytest.raises(InputError, match='l2 is'):
            fit_head(model, loader, l2=l2)
    of_deit = MODELS.build({'type': 'DeiTClsHead', 'num_classes': 5, 'in_channels': 8})  # two last layers
    for model.head in (torch.nn.Identity(), of_deit):
        with pytest.raises(InputError, match='Use a LinearClsHead'):
            fit_head(model, loader, l2=0.001)
