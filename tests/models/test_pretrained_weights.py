"""Pretrained weights: recognised, converted with proof, fetched source by source, refused without proof."""

import hashlib
import http.server
import os
import pickle
import threading
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from custom_modules.errors import InputError
from custom_modules.models import pretrained_weights
from custom_modules.models.pretrained_weights import build_backbone, fetch_weights, import_weights, present
from custom_modules.models.weights_catalogue import WEIGHTS, Source, fetch_command

SHARED = Path(__file__).parents[3] / 'shared' / 'checkpoints'
# timm's ResNets have torchvision's keys and are recognised as torchvision's.
CASES = [
    *((name, 'torchvision') for name in WEIGHTS),
    *((name, 'timm') for name in WEIGHTS if name.startswith('mobilenet')),
    ('mobilenet_v2', 'mmpretrain'),
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
    done = import_weights(name, file, tmp_path / 'out')
    assert (done.difference is None) == (layout == 'mmpretrain')
    assert os.listdir(tmp_path / 'out') == [f'{name}.pth']
    written = torch.load(done.path, weights_only=True)
    assert set(written['state_dict']) == {f'backbone.{key}' for key in build_backbone(name).state_dict()}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    expected = {'model': name, 'source': 'given.pth', 'sha256': sha256, 'converted_from': layout, 'note': ''}
    assert written['meta'] == expected == present(name, tmp_path / 'out', file)


def test_half_precision_without_classifier_and_step_counters_loads_as_configs_name_it(saved, tmp_path):
    from mmpretrain.registry import MODELS

    leave_out = 'classifier', 'num_batches_tracked'
    state = random_state('mobilenet_v2', 'torchvision')
    state = {key: value.half() for key, value in state.items() if not any(part in key for part in leave_out)}
    done = import_weights('mobilenet_v2', saved({'model': state, 'epoch': 3}), tmp_path / 'out')
    assert done.converted == len(state)
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(done.path), 'prefix': 'backbone'}
    backbone = MODELS.build({'type': 'MobileNetV2', 'init_cfg': init_cfg})
    backbone.init_weights()
    assert torch.equal(backbone.conv1.conv.weight, state['features.0.0.weight'].float())
    assert torch.equal(backbone.conv2.bn.running_var, state['features.18.1.running_var'].float())


def test_a_conversion_with_other_features_is_refused(saved, tmp_path, monkeypatch):
    file = saved(random_state('mobilenet_v3_small', 'timm'))
    monkeypatch.setattr(pretrained_weights, '_match_eps', lambda *args: None)
    assert 'the features differ' in refusal('mobilenet_v3_small', file, tmp_path / 'out')


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refusal(name: str, file: Path, out: Path) -> str:
    with pytest.raises(InputError) as caught:
        import_weights(name, file, out)
    assert not out.exists()
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ('model', 'name', 'said'),
    [
        ('resnet18', 'mobilenet_v2', 'looks like resnet18 (torchvision keys), not mobilenet_v2. Call python tools/'),
        ('resnet34', 'resnet18', 'another model, no resnet18 with torchvision keys: they differ in layer1.2.bn1'),
        ('alexnet', 'mobilenet_v2', 'another model, no mobilenet_v2'),
    ],
)
def test_another_model_is_refused(model, name, said, saved, tmp_path):
    assert said in refusal(name, saved(torchvision.models.get_model(model).state_dict()), tmp_path / 'out')


def test_tensors_that_do_not_fit_are_named(saved, tmp_path):
    narrow = torchvision.models.mobilenet_v2(width_mult=0.5).state_dict()
    assert 'size mismatch' in refusal('mobilenet_v2', saved(narrow), tmp_path / 'out')
    state = random_state('mobilenet_v2', 'torchvision')
    state['features.0.1.variance'] = state.pop('features.0.1.running_var')
    line = refusal('mobilenet_v2', saved(state), tmp_path / 'out')
    assert 'unexpected features.0.1.variance; features.0.1.running_var not in the file' in line


@pytest.mark.parametrize(
    'spoil',
    [lambda v: v * float('nan'), lambda v: v.to(torch.int8), lambda v: v.to_sparse(), lambda v: v.tolist()],
    ids=['nan', 'int8', 'sparse', 'list'],
)
def test_unusable_tensors_are_named(spoil, saved, tmp_path):
    line = refusal('mobilenet_v2', saved({'features.0.1.bias': spoil(torch.ones(3))}), tmp_path / 'out')
    assert 'no tensor of finite floating-point numbers: features.0.1.bias' in line


def test_no_checkpoint_is_one_line_and_runs_nothing(saved, tmp_path, monkeypatch):
    whole = saved(random_state('mobilenet_v2', 'timm')).read_bytes()
    (tmp_path / 'truncated').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'malicious').write_bytes(pickle.dumps(Touch(tmp_path / 'executed')))
    (tmp_path / 'mobilenet_v2-b0353104.pth').write_bytes(whole)  # another file than its name says
    saved({'state_dict': {'x': torch.ones(1)}, 'meta': Touch(tmp_path / 'executed')}, 'malicious.pth')
    saved({}, 'nothing.pth')
    for name in ['truncated', 'malicious', 'malicious.pth', 'nothing.pth', 'absent.pth', 'mobilenet_v2-b0353104.pth']:
        assert str(tmp_path / name) in refusal('mobilenet_v2', tmp_path / name, tmp_path / 'out')
    assert not (tmp_path / 'executed').exists()
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    assert 'pip install timm' in refusal('mobilenet_v2', tmp_path / 'given.pth', tmp_path / 'out')


def test_an_existing_file_is_not_overwritten(saved, tmp_path):
    done = import_weights('mobilenet_v2', saved(random_state('mobilenet_v2', 'mmpretrain')), tmp_path / 'out')
    other = saved(random_state('mobilenet_v2', 'mmpretrain', seed=1), 'other.pth')
    with pytest.raises(InputError, match='exists with other weights'):
        present('mobilenet_v2', tmp_path / 'out', other)
    for content, said in [(done.path.read_bytes()[:-1000], 'corrupt'), (other.read_bytes(), 'not written by this')]:
        done.path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            present('mobilenet_v2', tmp_path / 'out')
    assert present('resnet18', tmp_path / 'out') is None


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
        sources = tuple(Source(name, f'http://127.0.0.1:{server.server_port}/{name}') for name in names)
        try:
            monkeypatch.setitem(WEIGHTS, 'mobilenet_v2', WEIGHTS['mobilenet_v2']._replace(sources=sources[:4]))
            with pytest.raises(InputError) as caught:
                fetch_weights('mobilenet_v2', tmp_path / 'none')
            monkeypatch.setitem(WEIGHTS, 'mobilenet_v2', WEIGHTS['mobilenet_v2']._replace(sources=sources[1:]))
            done = fetch_weights('mobilenet_v2', tmp_path / 'out')
        finally:
            stop.set()
            server.shutdown()
    first, *failures, last = caught.value.problems
    assert 'no source could be used' in first
    reasons = 'timed out', '404', 'invalid hash', 'checkpoint'
    for source, failure, reason in zip(sources[:4], failures, reasons, strict=True):
        assert failure.startswith(f'{source.owner}: {source.url}: ')
        assert reason in failure
    assert '--from FILE' in last
    assert not (tmp_path / 'none').exists()
    assert done.hash_known
    assert torch.load(done.path, weights_only=True)['meta']['source'] == sources[-1].url


def test_sources_are_those_the_publishers_name():
    import mmpretrain

    configs = Path(mmpretrain.__file__).parent.glob('.mim/configs/*/metafile.yml')
    metafiles = ''.join(path.read_text() for path in configs)
    for name, weights in WEIGHTS.items():
        zoo, mirror, torchvisions = weights.sources
        assert f'Weights: {zoo.url}\n' in metafiles
        assert mirror.url.partition('/mmclassification/')[2] == zoo.url.partition('/mmclassification/')[2]
        assert torchvisions.url == torchvision.models.get_model_weights(name)['IMAGENET1K_V1'].url
        assert all(len(source.hash_prefix) == 8 and int(source.hash_prefix, 16) for source in weights.sources)


def test_fetch_command():
    assert fetch_command('checkpoints/mobilenet_v2.pth') == 'python tools/fetch_weights.py mobilenet_v2'
    assert fetch_command(Path('a b/resnet18.pth')) == 'python tools/fetch_weights.py resnet18 --out "a b"'
    assert fetch_command('work_dirs/run/best.pth') is None


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs ../shared/checkpoints, the real weights')
def test_a_real_file_with_a_note(tmp_path):
    done = import_weights('resnet18', SHARED / 'resnet18_partial_torchvision-keys_fp16.pth', tmp_path)
    assert done.meta['note'].startswith('partly pretrained')
    assert torch.load(done.path, weights_only=True)['meta'] == done.meta
