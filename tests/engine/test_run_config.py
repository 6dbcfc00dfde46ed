"""From a config and command-line arguments to one run's config."""

import textwrap
from pathlib import Path

import pytest

from custom_modules.engine.run_config import parse_options, read_config
from custom_modules.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'


def read(name='flower_resnet18', **given):
    return read_config(str(CONFIGS / f'{name}.py'), **{'options': {}, 'data_root': None, 'work_dir': None, **given})


def test_options_are_parsed_as_upstream_does():
    assert parse_options(None) == {}
    pairs = ['a.b=1', 'c=0.5', 'd=x=y', 'e=[1,2]', 'f=(3,4)', 'g=True', 'h=None', 'i=']
    values = [1, 0.5, 'x=y', [1, 2], (3, 4), True, None, '']
    assert parse_options(pairs) == {pair.partition('=')[0]: value for pair, value in zip(pairs, values, strict=True)}
    for pair in ('a', '=1', 'a=[(1,2]', ''):
        with pytest.raises(InputError, match=r'^--cfg-options'):
            parse_options([pair])


def test_none_is_refused_where_settings_are_needed():
    names = ['randomness', 'env_cfg', 'train_dataloader.dataset', 'test_dataloader.dataset']
    with pytest.raises(InputError) as error:
        read(options=dict.fromkeys(names))
    assert {problem.split(':')[0] for problem in error.value.problems} == {f'--cfg-options {name}' for name in names}
    assert read(options={'val_dataloader': None}).val_dataloader is None  # --no-validate may follow


def test_a_users_hooks_leave_the_projects_in_place(tmp_path):
    text = "custom_hooks = [dict(type='EMAHook'), dict(type='BestCheckpointHook', metric='nll/mean', rule='less')]"
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(CONFIGS / "flower_resnet18.py")!r}\n{text}\n')
    cfg = read_config(str(tmp_path / 'mine.py'), {}, None, None)
    assert {'curves', 'mid_epoch_checkpoint'} <= set(cfg.default_hooks)
    assert 'best_checkpoint' not in cfg.default_hooks  # the user's takes its place
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', 'BestCheckpointHook']


def test_pure_python_configs_name_registered_classes(tmp_path):
    text = """
        from mmengine.hooks import CheckpointHook
        from mmpretrain.models import ImageClassifier, LinearClsHead, ResNet
        from torch.nn import BatchNorm2d, Identity
        model = dict(type=ImageClassifier, backbone=dict(type=ResNet, depth=18, norm_cfg=dict(type=BatchNorm2d)))
        model.update(head=dict(type=LinearClsHead, num_classes=5, in_channels=512), neck=dict(type=Identity))
        default_hooks = dict(checkpoint=dict(type=CheckpointHook))
    """
    (tmp_path / 'pure.py').write_text(textwrap.dedent(text))
    cfg = read_config(str(tmp_path / 'pure.py'), {}, None, None)
    assert cfg.default_hooks.checkpoint.type == 'CheckpointHook'
    names = [cfg.model.type, cfg.model.backbone.type, cfg.model.backbone.norm_cfg.type, cfg.model.neck.type]
    assert names == ['ImageClassifier', 'ResNet', 'BN', 'torch.nn.modules.linear.Identity']
    assert set(cfg) == {'model', 'default_hooks', 'default_scope', 'work_dir'}


def test_none_leaves_out_a_hook_of_a_base_config():
    options = {f'default_hooks.{name}': None for name in ('linear_probe', 'checkpoint')}
    hooks = read('flower_mobilenetv2_fast', options=options).default_hooks
    assert 'linear_probe' not in hooks
    assert hooks.checkpoint is None  # which MMEngine would bring otherwise
    assert hooks.ema.type == 'EMAHook'


def test_the_work_dir_is_named_for_the_config():
    assert read().work_dir == str(Path('work_dirs') / 'flower_resnet18')
    assert read(demo=True).work_dir == str(Path('work_dirs') / 'flower_resnet18_demo')
    assert read(options={'work_dir': 'mine'}).work_dir == 'mine'


def test_a_config_that_cannot_be_read_is_refused(tmp_path):
    bases = (f'_base_ = {name!r}' for name in ('absent.py', 'mmpretrain::absent.py', 'absent_package::a.py'))
    for text in ('x = ', 'x = 1 / 0', "custom_imports = dict(imports=['no.x'])", *bases):
        (tmp_path / 'bad.py').write_text(text)
        with pytest.raises(InputError, match=r'bad\.py: not a usable config: '):
            read_config(str(tmp_path / 'bad.py'), {}, None, None)


def test_a_part_of_a_config_is_refused():
    with pytest.raises(InputError, match=r'flower_dataset\.py: has no model, so it is a part of a config'):
        read('_base_/flower_dataset')


def test_modules_that_older_configs_import_are_replaced(tmp_path, capsys):
    """Work dirs of versions before 2.4 hold configs that name each module where it then was."""
    mine = tmp_path / 'mine.py'
    gone = ['custom_modules.engine.best_checkpoint_hook', 'custom_modules.evaluation.no_such.x']
    imports = [*gone, 'custom_modules.datasets.flower_dataset', 'json']
    cfg = read()
    cfg.custom_imports = {'imports': imports, 'allow_failed_imports': False}
    cfg.dump(mine)
    imported = read_config(str(mine), {}, None, None).custom_imports.imports
    assert imported == ['custom_modules.register', 'custom_modules.datasets.flower_dataset', 'json']
    assert capsys.readouterr().err == f'{mine}: custom_imports: custom_modules.register replaces {", ".join(gone)}\n'


def test_no_such_config_lists_those_there_are(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    with pytest.raises(InputError, match=r'flower\.py: no such config\. Choose .*configs/flower_mobilenetv2\.py'):
        read_config('configs/flower.py', {}, None, None)
    with pytest.raises(InputError, match='configs: no such config'):
        read_config('configs', {}, None, None)


def test_options_that_do_not_fit_what_is_there(tmp_path):
    text = "model = dict(backbone=dict(type='ResNet', depth=18, init_cfg=None), head=dict(type='LinearClsHead'))"
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(InputError, match=r'a\.py: its model has no head\. Name an ImageClassifier of both\.$'):
        read_config(str(tmp_path / 'a.py'), {'model.head': None}, None, None)
    with pytest.raises(InputError, match=r'^--cfg-options: '):
        read_config(str(tmp_path / 'a.py'), {'model.backbone.init_cfg.checkpoint': 'x'}, None, None)
