"""Conversion of models to ONNX."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from custom_modules.inference.onnx_conversion import ScoringModel, export
from custom_modules.models.onnx_file import Metadata, open_session, score
from custom_modules.models.onnx_preprocessing import Preprocessing

SWIN = {
    'type': 'ImageClassifier',
    'backbone': {
        'type': 'SwinTransformer',
        'arch': {'embed_dims': 8, 'depths': [2, 1], 'num_heads': [1, 2]},
        'img_size': 32,
        'window_size': 4,
        'out_indices': (1,),
    },
    'neck': {'type': 'GlobalAveragePooling'},
    'head': {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': 16},
    'data_preprocessor': {'type': 'ClsDataPreprocessor', 'mean': [128] * 3, 'std': [64] * 3, 'to_rgb': True},
}


def test_swin_scores_any_number_of_images():
    pytest.importorskip('onnxscript')
    torch.manual_seed(0)
    model = MODELS.build(SWIN).eval()
    torch.nn.init.normal_(model.head.fc.weight)
    predictor = SimpleNamespace(model=model, file=SimpleNamespace(path='swin'))
    classes = ['daisy', 'rose', 'tulip']
    session = open_session(export(predictor, Metadata(classes, Preprocessing((32, 32)))), 'swin')
    for number in (1, 2, 5):
        images = np.random.default_rng(number).integers(0, 256, (number, 3, 32, 32), np.uint8)
        with torch.no_grad():
            expected = ScoringModel(model)(torch.from_numpy(images)).numpy()
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(score(session, images, classes, 'swin'), expected, atol=1e-5)
