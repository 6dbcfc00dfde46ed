"""Memory, layout and precision settings change how fast a model computes, not its results."""

import platform
import subprocess
import sys

import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from custom_modules.engine.performance import half_precision, without_batch_norm
from custom_modules.engine.run_config import read_config
from custom_modules.engine.runner import PreparedRunner

# The first seven tensors each leave a crumb, of their alignment, in glibc's cache of small pieces, and so a gap too
# small for the next; then that cache is full. In a process of its own, for what ran before leaves gaps as well.
FAULTS_OF_LARGE_TENSORS = """
import resource, torch
from custom_modules.engine.performance import keep_freed_memory

assert keep_freed_memory()
for number in range(30):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50_000_000, dtype=torch.uint8)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has the setting')
def test_a_large_tensor_gets_the_memory_of_an_earlier_one():
    process = subprocess.run(
        [sys.executable, '-c', FAULTS_OF_LARGE_TENSORS], capture_output=True, text=True, check=True
    )
    assert int(process.stdout) < 50_000_000  # bytes cleared for ten tensors: ten times that if each were mapped again


@pytest.mark.parametrize(('native', 'dtype'), [(True, 'bfloat16'), (False, 'float16')])
def test_bfloat16_where_it_is_native(native, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: native)
    assert half_precision() == dtype


CRASH = """
import torch
from custom_modules.engine.performance import to_channels_last

conv = to_channels_last(torch.nn.Conv2d(3, 48, 1, 2, bias=False))
for _ in range(20):
    conv(torch.randn(8, 3, 128, 128)).square().sum().backward()
"""


def test_a_strided_layer_of_1_by_1_on_the_photo_trains():
    subprocess.run([sys.executable, '-c', CRASH], check=True)  # died of a segmentation fault with AVX2


@pytest.mark.parametrize('name', ['flower_mobilenetv2', 'flower_resnet18'])
def test_convolutions_do_what_batch_norm_did(name):
    model = MODELS.build(read_config(f'configs/{name}.py', {}, None, None).model)
    random = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # at the start it does nothing
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                torch.nn.init.uniform_(tensor, 0.5, 1.5, random)
    photos = torch.rand(2, 3, 96, 96, generator=random)
    model.eval()
    fused = without_batch_norm(model)
    with torch.inference_mode():
        torch.testing.assert_close(fused(photos, mode='tensor'), model(photos, mode='tensor'), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    assert without_batch_norm(fused) is fused


def test_batch_norm_of_another_convolution_stays():
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1)
            self.norm = torch.nn.BatchNorm2d(3)
            torch.nn.init.uniform_(self.norm.running_mean, 1, 2)

        def forward(self, photos, mode):
            return self.conv(self.norm(photos)).mean((2, 3))

    model = Other().eval()
    assert without_batch_norm(model) is model
    assert isinstance(model.norm, torch.nn.BatchNorm2d)


def test_a_seed_gives_upstreams_weights_in_either_layout(tiny_config, tmp_path):
    weights = []
    for kind in (Runner, PreparedRunner):
        cfg = read_config(str(tiny_config), {}, None, str(tmp_path / kind.__name__))
        cfg.experiment_name = f'{tmp_path.name}_{kind.__name__}'
        runner = kind.from_cfg(cfg)
        runner._init_model_weights()
        weights.append(runner.model.state_dict())
    assert weights[1]['backbone.conv1.conv.weight'].is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())
