"""tools/fetch_weights.py: what it prints and returns."""

import torch
import torchvision

from custom_modules.models.weights_catalogue import WEIGHTS


def test_import_then_again(call, tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / 'weights.pth')
    assert 'no such file' in call('fetch_weights', 'resnet18', '--from', 'absent.pth', '--out', 'new').error
    assert not (tmp_path / 'new').exists()

    out = call('fetch_weights', 'resnet18', '--from', 'weights.pth', '--out', 'new').out
    assert '100 % of the backbone' in out
    assert 'features differ by at most' in out
    assert 'written: new/resnet18.pth' in out
    before = (tmp_path / 'new' / 'resnet18.pth').stat().st_mtime_ns
    for arguments in (['--from', 'weights.pth'], []):
        again = call('fetch_weights', 'resnet18', *arguments, '--out', 'new')
        assert again.code == 0
        assert 'already there and intact, from weights.pth' in again.out
    assert (tmp_path / 'new' / 'resnet18.pth').stat().st_mtime_ns == before


def test_list(call, tmp_path):
    (tmp_path / 'resnet18.pth').touch()
    result = call('fetch_weights', '--list', '--out', tmp_path)
    assert result.code == 0
    assert 'resnet18.pth (there)' in result.out
    assert 'mobilenet_v2.pth (not there)' in result.out
    assert result.out.count('https://') == sum(len(weights.sources) for weights in WEIGHTS.values())
