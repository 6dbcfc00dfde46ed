"""One batch of each side: what it finds, and that everything is put back."""

import random

import numpy as np
import torch
from torch import nn

from custom_modules.engine.trial import kept_as_is


def test_everything_is_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3).eval())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        with kept_as_is(model):
            model.train()
            model(torch.randn(8, 3) * 9 + random.random() + np.random.rand())
            assert not torch.equal(model[0].running_mean, before['0.running_mean'])
            model.eval()
            raise KeyError
    except KeyError:
        pass
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])
