"""Pretrained weights: recognised, converted with proof, fetched source by source, refused without proof."""

import hashlib
import http.server
import os
import sys
import threading
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from custom_modules.errors import InputError
from custom_modules.models import pretrained_weights
from custom_modules.models.checkpoints import named_hash
from custom_modules.models.pretrained_weights import build_backbone, provide_weights
from custom_modules.models.weights_catalogue import WEIGHTS

SHARED = Path(__file__).parents[3] / 'shared' / 'checkpoints'
# timm's ResNets have torchvision's keys and are recognised as torchvision's.
CASES = [
    *((name, 'torchvision') for name, weights in WEIGHTS.items() if 'torchvision' in weights.sources),
    *((name, 'timm') for name, weights in WEIGHTS.items() if weights.timm_name and not name.startswith('resnet')),
    *(
        (name, 'mmpretrain')
        for name in ('mobilenet_v2', 'efficientnet_b0', 'convnext_v2_atto', 'deit_tiny', 'swin_tiny')
    ),
]


def random_state(name: str, layout: str, seed: int = 0) -> dict:
    """A model's state_dict with nothing left at its initial value, batch norm's statistics included."""
    torch.manual_seed(seed)
    if layout == 'mmpretrain':
        model = nn.ModuleDict({'backbone': build_backbone(name), 'head': nn.ModuleDict({'fc': nn.Linear(8, 7)})})
    elif layout == 'torchvision':
        model = torchvision.models.get_model(name, weights=None, num_classes=7)
    else:
        model = timm.create_model(WEIGHTS[name].timm_name, pretrained=False, num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.3, 1.5)
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.fixture
def saved(tmp_path):
    """Writes a checkpoint and gives its path."""

    def save(content, name: str = 'given.pth') -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize(('name', 'layout'), CASES)
def test_import_gives_the_source_models_features(name, layout, saved, tmp_path):
    file = saved(random_state(name, layout))
    lines = provide_weights(name, tmp_path / 'out', file)
    assert (lines[1] == 'proof: loads strictly into the backbone') == (layout == 'mmpretrain')
    assert os.listdir(tmp_path / 'out') == [f'{name}.pth']
    written = torch.load(tmp_path / 'out' / f'{name}.pth', weights_only=True)
    assert set(written['state_dict']) == {f'backbone.{key}' for key in build_backbone(name).state_dict()}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    expected = {'model': name, 'source': 'given.pth', 'sha256': sha256, 'converted_from': layout, 'note': ''}
    assert written['meta'] == expected


def test_half_precision_without_classifier_and_step_counters_loads_as_configs_name_it(saved, tmp_path):
    from mmpretrain.registry import MODELS

    leave_out = 'classifier', 'num_batches_tracked'
    state = random_state('mobilenet_v2', 'torchvision')
    state = {key: value.half() for key, value in state.items() if not any(part in key for part in leave_out)}
    lines = provide_weights('mobilenet_v2', tmp_path, saved({'model': state, 'epoch': 3}))
    assert lines[0].startswith(f'{len(state)} tensors from torchvision keys')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'mobilenet_v2.pth'), 'prefix': 'backbone'}
    backbone = MODELS.build({'type': 'MobileNetV2', 'init_cfg': init_cfg})
    backbone.init_weights()
    assert torch.equal(backbone.conv1.conv.weight, state['features.0.0.weight'].float())
    assert torch.equal(backbone.conv2.bn.running_var, state['features.18.1.running_var'].float())


def test_a_conversion_with_other_features_is_refused(saved, tmp_path, monkeypatch):
    file = saved(random_state('mobilenet_v3_small', 'timm'))
    monkeypatch.setattr(pretrained_weights, '_match_eps', lambda *args: None)
    assert 'the features differ' in refusal('mobilenet_v3_small', file, tmp_path / 'out')


def refusal(name: str, file: Path, out: Path) -> str:
    with pytest.raises(InputError) as caught:
        provide_weights(name, out, file)
    assert not out.exists()
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ('model', 'name', 'said'),
    [
        ('resnet18', 'mobilenet_v2', "does not fit torchvision's mobilenet_v2: unexpected bn1.bias"),
        ('resnet34', 'resnet18', "does not fit torchvision's resnet18: unexpected layer1.2.bn1.bias"),
        ('resnet18', 'resnet50', 'size mismatch for layer1.0.conv1.weight'),
        ('resnet18', 'swin_tiny', 'others that swin_tiny is converted from'),
    ],
)
def test_another_model_is_refused(model, name, said, saved, tmp_path):
    assert said in refusal(name, saved(torchvision.models.get_model(model).state_dict()), tmp_path / 'out')


def test_tensors_that_do_not_fit_are_named(saved, tmp_path):
    state = random_state('mobilenet_v2', 'torchvision')
    state['features.0.1.variance'] = state.pop('features.0.1.running_var')
    line = refusal('mobilenet_v2', saved(state), tmp_path / 'out')
    assert 'unexpected features.0.1.variance; features.0.1.running_var not in the file' in line
    assert 'Give another file, or the name of its model: mobilenet_v2, resnet18' in line


@pytest.mark.parametrize(
    'spoil',
    [lambda v: v * float('nan'), lambda v: v.to(torch.int8), lambda v: v.to_sparse(), lambda v: v.tolist()],
    ids=['nan', 'int8', 'sparse', 'list'],
)
def test_unusable_tensors_are_named(spoil, saved, tmp_path):
    line = refusal('mobilenet_v2', saved({'features.0.1.bias': spoil(torch.ones(3))}), tmp_path / 'out')
    assert 'no tensor of finite floating-point numbers: features.0.1.bias' in line


def test_files_that_cannot_be_used_are_named(saved, tmp_path, monkeypatch):
    saved({}, 'nothing.pth')
    for name, said in [('nothing.pth', 'holds no state_dict'), ('absent.pth', 'no such file')]:
        assert f'{tmp_path / name}: {said}' in refusal('mobilenet_v2', tmp_path / name, tmp_path / 'out')
    monkeypatch.setitem(sys.modules, 'timm', None)
    file = saved(random_state('mobilenet_v2', 'timm'))
    assert 'pip install timm' in refusal('mobilenet_v2', file, tmp_path / 'out')


def test_an_existing_file_is_not_overwritten(saved, tmp_path):
    out = tmp_path / 'out'
    provide_weights('mobilenet_v2', out, saved(random_state('mobilenet_v2', 'mmpretrain')))
    path, other = out / 'mobilenet_v2.pth', saved(random_state('mobilenet_v2', 'mmpretrain', seed=1), 'other.pth')
    with pytest.raises(InputError, match='exists with other weights'):
        provide_weights('mobilenet_v2', out, other)
    for content, said in [(path.read_bytes()[:-1000], 'corrupt'), (other.read_bytes(), 'not written by this')]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            provide_weights('mobilenet_v2', out)
        assert path.read_bytes() == content


def test_fetch_takes_the_first_source_that_delivers(saved, tmp_path, monkeypatch):
    """Over HTTP: a silent server, an absent file, a wrong hash, no checkpoint; then a good file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if 'silent' in self.path:
                stop.wait()
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    good = saved(random_state('mobilenet_v2', 'mmpretrain'))
    content = good.read_bytes()
    good = good.rename(tmp_path / f'good-{hashlib.sha256(content).hexdigest()[:8]}.pth')
    (tmp_path / 'damaged-00000000.pth').write_bytes(content)
    page = tmp_path / f'page-{hashlib.sha256(b"<html>").hexdigest()[:8]}.pth'  # the right hash, but no checkpoint
    page.write_bytes(b'<html>')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(pretrained_weights, 'TIMEOUT', 0.5)
    stop = threading.Event()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), lambda *a: Handler(*a, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = ['silent-12345678.pth', 'absent-12345678.pth', 'damaged-00000000.pth', page.name, good.name]
        sources = [(name, f'http://127.0.0.1:{server.server_port}/{name}') for name in names]
        try:
            weights = WEIGHTS['mobilenet_v2']
            monkeypatch.setitem(WEIGHTS, 'mobilenet_v2', weights._replace(sources=dict(sources[:4])))
            with pytest.raises(InputError) as caught:
                provide_weights('mobilenet_v2', tmp_path / 'none')
            monkeypatch.setitem(WEIGHTS, 'mobilenet_v2', weights._replace(sources=dict(sources[1:])))
            lines = provide_weights('mobilenet_v2', tmp_path / 'out')
        finally:
            stop.set()
            server.shutdown()
    first, *failures, last = caught.value.problems
    assert 'no source could be used' in first
    reasons = 'timed out', '404', 'not 00000000 as its name says', 'checkpoint'
    for (publisher, url), failure, reason in zip(sources[:4], failures, reasons, strict=True):
        assert failure.startswith(f'{publisher}: {url}: ')
        assert reason in failure
    assert '--from FILE' in last
    assert not (tmp_path / 'none').exists()
    assert '(as in its name)' in lines[2]
    written = torch.load(tmp_path / 'out' / 'mobilenet_v2.pth', weights_only=True)
    assert written['meta']['source'] == sources[-1][1]


def test_sources_are_those_the_publishers_name():
    import mmpretrain

    configs = Path(mmpretrain.__file__).parent.glob('.mim/configs/*/metafile.yml')
    metafiles = ''.join(path.read_text() for path in configs)
    for name, weights in WEIGHTS.items():
        zoo, mirror, *torchvisions = weights.sources.values()
        assert any(f'Weights: {url}\n' in metafiles for url in (zoo, mirror))  # MMPretrain's, or those of its fork
        assert mirror.partition('/mmclassification/')[2] == zoo.partition('/mmclassification/')[2]
        for url in torchvisions:
            assert url == torchvision.models.get_model_weights(name)['IMAGENET1K_V1'].url
        assert all(named_hash(Path(url)) for url in weights.sources.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs ../shared/checkpoints, the real weights')
def test_a_real_file_with_a_note(tmp_path):
    lines = provide_weights('resnet18', tmp_path, SHARED / 'resnet18_partial_torchvision-keys_fp16.pth')
    assert lines[-2].startswith('note: partly pretrained')
    assert provide_weights('resnet18', tmp_path)[-1] == lines[-2]
