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
from custom_modules.models.pretrained_weights import (
    LAYOUTS,
    build_backbone,
    fetch_weights,
    import_weights,
    module_names,
    present,
)
from custom_modules.models.weights_catalogue import WEIGHTS, Source, fetch_command

SHARED = Path(__file__).parents[3] / 'shared' / 'checkpoints'
CASES = [(name, layout) for name in WEIGHTS for layout in LAYOUTS if (name, layout) != ('resnet50', 'timm')]


def random_state(name: str, layout: str, classes: int = 7, seed: int = 0) -> dict:
    """A model's state_dict with nothing left at its initial value, batch norm's statistics included."""
    torch.manual_seed(seed)
    if layout == 'mmpretrain':
        model = nn.ModuleDict({'backbone': build_backbone(name), 'head': nn.ModuleDict({'fc': nn.Linear(8, classes)})})
    elif layout == 'torchvision':
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
    else:
        model = timm.create_model(WEIGHTS[name].timm_name, pretrained=False, num_classes=classes)
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
    # timm's ResNets have torchvision's keys and are taken for them.
    assert done.meta['converted_from'] == ('torchvision' if layout == 'timm' and name.startswith('resnet') else layout)
    assert (done.difference is None) == (layout == 'mmpretrain')

    written = torch.load(tmp_path / 'out' / WEIGHTS[name].file, weights_only=True)
    keys = [f'backbone.{key}' for key in build_backbone(name).state_dict()]
    assert sorted(written['state_dict']) == sorted(keys)  # no classifier
    assert written['meta'] == {
        'model': name,
        'source': 'given.pth',
        'sha256': hashlib.sha256(file.read_bytes()).hexdigest(),
        'converted_from': done.meta['converted_from'],
        'note': '',
    }
    assert os.listdir(tmp_path / 'out') == [WEIGHTS[name].file]
    assert present(name, tmp_path / 'out', file) == written['meta']


@pytest.mark.parametrize('wrapper', ['state_dict', 'model'])
def test_import_of_half_precision_wrapped_without_classifier_and_step_counters(wrapper, saved, tmp_path):
    state = {
        key: value.half()
        for key, value in random_state('mobilenet_v2', 'torchvision').items()
        if not key.startswith('classifier') and not key.endswith('num_batches_tracked')
    }
    done = import_weights('mobilenet_v2', saved({wrapper: state, 'epoch': 3}), tmp_path / 'out')
    assert done.converted == len(state)
    written = torch.load(done.path, weights_only=True)['state_dict']
    assert {value.dtype for value in written.values()} == {torch.float32}
    assert torch.equal(written['backbone.conv1.conv.weight'], state['features.0.0.weight'].float())


def test_the_file_loads_the_way_configs_name_it(saved, tmp_path):
    from mmengine.model import BaseModule, initialize  # noqa: F401  (initialises through init_cfg)
    from mmpretrain.registry import MODELS

    state = random_state('mobilenet_v2', 'torchvision')
    done = import_weights('mobilenet_v2', saved(state), tmp_path / 'out')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(done.path), 'prefix': 'backbone'}
    backbone = MODELS.build({'type': 'MobileNetV2', 'init_cfg': init_cfg})
    backbone.init_weights()
    assert torch.equal(backbone.conv2.bn.running_var, state['features.18.1.running_var'])


def test_other_epsilon_is_absorbed_or_refused(saved, tmp_path, monkeypatch):
    file = saved(random_state('mobilenet_v3_small', 'timm'))
    assert import_weights('mobilenet_v3_small', file, tmp_path / 'a').difference <= pretrained_weights.TOLERANCE
    monkeypatch.setattr(pretrained_weights, '_match_eps', lambda *args: None)
    with pytest.raises(InputError, match='features differ'):
        import_weights('mobilenet_v3_small', file, tmp_path / 'b')
    assert not (tmp_path / 'b').exists()


@pytest.mark.parametrize(
    ('name', 'layout', 'one', 'other'),
    [
        ('mobilenet_v2', 'torchvision', 'features.15.conv.2', 'features.16.conv.2'),
        ('mobilenet_v3_small', 'torchvision', 'features.10.block.2.fc2', 'features.11.block.2.fc2'),
    ],
)
def test_swapped_tensors_are_refused(name, layout, one, other, saved, tmp_path, monkeypatch):
    table = module_names(name, layout)
    table[one], table[other] = table[other], table[one]
    right = module_names
    wrong = {(name, layout): table}
    monkeypatch.setattr(pretrained_weights, 'module_names', lambda *args: wrong.get(args) or right(*args))
    with pytest.raises(InputError, match='features differ'):
        import_weights(name, saved(random_state(name, layout)), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


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


def test_another_models_file_is_named_with_the_call_to_make(saved, tmp_path):
    file = saved(random_state('resnet18', 'torchvision'))
    line = refusal('mobilenet_v2', file, tmp_path / 'out')
    assert 'looks like resnet18' in line
    assert f'python tools/fetch_weights.py resnet18 --from "{file}"' in line


@pytest.mark.parametrize(
    ('model', 'name', 'said'),
    [
        ('resnet34', 'resnet18', 'another model, no resnet18 with torchvision keys: it has layer1.2.bn1'),
        ('alexnet', 'mobilenet_v2', 'another model, no mobilenet_v2'),
    ],
)
def test_a_model_not_known_here_is_refused(model, name, said, saved, tmp_path):
    state = torchvision.models.get_model(model, weights=None).state_dict()
    assert said in refusal(name, saved(state), tmp_path / 'out')


@pytest.mark.parametrize('layout', ['mmpretrain', 'torchvision'])
def test_tensors_that_do_not_fit_are_named(layout, saved, tmp_path):
    narrow = torchvision.models.mobilenet_v2(width_mult=0.5).state_dict()
    assert 'size mismatch' in refusal('mobilenet_v2', saved(narrow), tmp_path / 'out')
    state = random_state('mobilenet_v2', layout)
    victim = next(key for key in state if key.endswith('running_var'))
    renamed = {key.replace(victim, victim + 'iance'): value for key, value in state.items()}
    assert 'running_variance' in refusal('mobilenet_v2', saved(renamed), tmp_path / 'out')
    del renamed[victim + 'iance']
    assert 'running_var not in the file' in refusal('mobilenet_v2', saved(renamed), tmp_path / 'out')


@pytest.mark.parametrize(
    'spoil',
    [
        lambda v: v * float('nan'),
        lambda v: v.to(torch.int8),
        lambda v: v.to_sparse(),
        lambda v: v.to('meta'),
        lambda v: v.tolist(),
    ],
    ids=['nan', 'int8', 'sparse', 'meta', 'list'],
)
def test_unusable_tensors_are_named(spoil, saved, tmp_path):
    state = random_state('mobilenet_v2', 'mmpretrain')
    state['backbone.conv1.bn.bias'] = spoil(state['backbone.conv1.bn.bias'])
    line = refusal('mobilenet_v2', saved(state), tmp_path / 'out')
    assert 'no tensor of finite floating-point numbers: backbone.conv1.bn.bias' in line


def test_no_checkpoint_is_one_line_and_runs_nothing(saved, tmp_path):
    whole = saved(random_state('mobilenet_v2', 'torchvision')).read_bytes()
    bad = {
        'truncated': whole[: len(whole) // 2],
        'garbage': os.urandom(4096),
        'text': b'<html>404 Not Found</html>',
        'empty': b'',
        'malicious': pickle.dumps(Touch(tmp_path / 'executed')),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    saved({'state_dict': {'x': torch.ones(1)}, 'meta': Touch(tmp_path / 'executed')}, 'malicious.pth')
    saved([torch.ones(1)], 'list.pth')
    saved({}, 'nothing.pth')
    for name in [*bad, 'malicious.pth', 'list.pth', 'nothing.pth', 'absent.pth', '.']:
        assert str(tmp_path / name) in refusal('mobilenet_v2', tmp_path / name, tmp_path / 'out')
    assert not (tmp_path / 'executed').exists()


def test_a_damaged_file_with_a_known_name_is_refused(saved, tmp_path):
    file = saved(random_state('mobilenet_v2', 'torchvision'), 'mobilenet_v2-b0353104.pth')
    assert 'not b0353104' in refusal('mobilenet_v2', file, tmp_path / 'out')


def test_timm_keys_without_timm_name_the_command(saved, tmp_path, monkeypatch):
    file = saved(random_state('mobilenet_v2', 'timm'))
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    assert 'pip install timm' in refusal('mobilenet_v2', file, tmp_path / 'out')


def test_an_existing_file_is_not_overwritten(saved, tmp_path):
    file = saved(random_state('mobilenet_v2', 'mmpretrain'))
    done = import_weights('mobilenet_v2', file, tmp_path / 'out')
    other = saved(random_state('mobilenet_v2', 'mmpretrain', seed=1), 'other.pth')
    with pytest.raises(InputError, match='exists with other weights'):
        present('mobilenet_v2', tmp_path / 'out', other)
    whole = done.path.read_bytes()
    done.path.write_bytes(whole[:-1000])
    with pytest.raises(InputError, match='corrupt'):
        present('mobilenet_v2', tmp_path / 'out')
    done.path.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match='not written by this tool'):
        present('mobilenet_v2', tmp_path / 'out')
    assert present('resnet18', tmp_path / 'out') is None


@pytest.fixture
def served(saved, tmp_path, monkeypatch):
    """``served(urls)`` makes them mobilenet_v2's sources; a good file, named by its hash, lies at ``served.good``."""

    def use(*urls: str) -> None:
        sources = tuple(Source(f'source {i}', url) for i, url in enumerate(urls))
        weights = WEIGHTS['mobilenet_v2']
        replaced = type(weights)(weights.file, sources, weights.backbone, weights.timm_name)
        monkeypatch.setitem(WEIGHTS, 'mobilenet_v2', replaced)

    file = saved(random_state('mobilenet_v2', 'mmpretrain'))
    use.good = file.rename(tmp_path / f'good-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth')
    return use


def test_fetch_takes_the_first_source_that_delivers(served, tmp_path):
    damaged = tmp_path / 'damaged-00000000.pth'
    damaged.write_bytes(served.good.read_bytes())
    html = b'<html>'
    page = tmp_path / f'page-{hashlib.sha256(html).hexdigest()[:8]}.pth'  # the right hash, but no checkpoint
    page.write_bytes(html)
    absent = tmp_path / 'absent-12345678.pth'
    served(
        absent.as_uri(), damaged.as_uri(), page.as_uri(), served.good.as_uri(), 'file:///never/reached-00000000.pth'
    )
    done = fetch_weights('mobilenet_v2', tmp_path / 'out')
    assert done.hash_known
    assert torch.load(done.path, weights_only=True)['meta']['source'] == served.good.as_uri()

    served(absent.as_uri(), damaged.as_uri(), page.as_uri())
    with pytest.raises(InputError) as caught:
        fetch_weights('mobilenet_v2', tmp_path / 'none')
    first, *failures, last = caught.value.problems
    assert 'no source could be used' in first
    for source, failure, said in zip(
        (absent, damaged, page), failures, ('No such file', 'invalid hash', 'checkpoint'), strict=True
    ):
        assert source.as_uri() in failure
        assert said in failure.replace(source.as_uri(), '')
    assert '--from FILE' in last
    assert not (tmp_path / 'none').exists()


def test_fetch_over_http_with_a_silent_server_in_the_way(served, tmp_path, monkeypatch):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if 'silent' in self.path:
                stop.wait()
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(pretrained_weights, 'TIMEOUT', 0.5)
    stop = threading.Event()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), lambda *a: Handler(*a, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f'http://127.0.0.1:{server.server_port}'
        served(f'{root}/silent-12345678.pth', f'{root}/absent-12345678.pth', f'{root}/{served.good.name}')
        try:
            done = fetch_weights('mobilenet_v2', tmp_path / 'out')
        finally:
            stop.set()
            server.shutdown()
    assert torch.load(done.path, weights_only=True)['meta']['source'] == f'{root}/{served.good.name}'


def test_sources_are_those_the_publishers_name():
    import mmpretrain

    metafiles = ''.join(
        path.read_text() for path in Path(mmpretrain.__file__).parent.glob('.mim/configs/*/metafile.yml')
    )
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
@pytest.mark.parametrize(
    ('name', 'file', 'note'),
    [
        ('mobilenet_v2', 'mobilenet_v2_imagenet_torchvision-keys.pth', ''),
        ('resnet18', 'resnet18_partial_torchvision-keys_fp16.pth', 'partly pretrained'),
    ],
)
def test_real_files(name, file, note, tmp_path):
    done = import_weights(name, SHARED / file, tmp_path)
    assert done.meta['note'].startswith(note)
    assert torch.load(done.path, weights_only=True)['meta']['note'] == done.meta['note']
