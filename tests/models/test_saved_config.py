"""The config in a checkpoint is parsed, never run."""

import pytest
from mmengine.config import Config

from custom_modules.errors import InputError
from custom_modules.models.saved_config import parse_settings, read_saved_config


def test_text_that_mmengine_writes_is_read_back(tiny_config):
    cfg = Config.fromfile(tiny_config)
    assert parse_settings(cfg.pretty_text) == cfg.to_dict()
    text = "a = {'b.c': (1, ), 'd': -inf}\ne = dict({'f g': 1}, h=[None, True, 1e-05])\n"
    assert parse_settings(text) == {'a': {'b.c': (1,), 'd': float('-inf')}, 'e': {'f g': 1, 'h': [None, True, 1e-5]}}


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        "a = __import__('os').system('touch ran')",
        "a = dict(b=open('ran', 'w'))",
        'a = [b for b in (1,)]',
        'a.b = 1',
        'a = (',
        'a = ' + '(' * 5000 + ')' * 5000,
        'a = ' + '-' * 5000 + '1',
        'a = -None',
        'a = dict(**dict(b=1))',
        'a = {**dict(b=1)}',
        'a = {[]: 1}',
    ],
)
def test_a_config_that_is_a_program_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'^best.pth: its config is more than plain settings \(.*--config FILE$'):
        read_saved_config({'meta': {'config': text}}, 'best.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('place', ['model', 'model.head', 'test_dataloader.collate_fn'])
def test_a_type_that_is_not_registered_is_refused(tiny_config, place):
    cfg = Config.fromfile(tiny_config)
    for kind in ('os.system', 'mmengine.os.system', 'builtins.exec'):
        cfg.merge_from_dict({place: {'_delete_': True, 'type': kind, 'command': 'touch ran'}})
        with pytest.raises(InputError, match=rf'{kind.removeprefix("mmengine.")}, which is not registered here'):
            read_saved_config({'meta': {'config': cfg.pretty_text}}, 'best.pth')


@pytest.mark.parametrize('meta', [{}, {'config': ''}, {'config': 'model = dict()'}, {'config': 7}])
def test_a_checkpoint_without_a_config_is_refused(meta):
    with pytest.raises(InputError, match=r'^x.pth: (carries no|its) config.*--config FILE'):
        read_saved_config({'meta': meta}, 'x.pth')
