"""tools/test.py on an exported model: the figures of its checkpoint, from the same photos."""

import json

import pytest


def results(folder):
    return json.loads((folder / 'metrics.json').read_text())


@pytest.mark.parametrize('flags', [(), ('--tta',), ('--robustness', '--report')], ids=' '.join)
def test_figures_are_those_of_the_checkpoint(flags, exported, trained, tiny_config, call, tmp_path):
    if '--report' in flags:
        pytest.importorskip('pytorch_grad_cam')
    for name, checkpoint in {'torch': trained.work_dir / 'best.pth', 'onnx': exported}.items():
        result = call('test', tiny_config, checkpoint, '--work-dir', name, *flags)
        assert 'top-1 accuracy' in result.out, result
    torch, onnx = results(tmp_path / 'torch'), results(tmp_path / 'onnx')
    for key in ('accuracy/top1', 'classes', 'epoch', 'pretrained', 'trained_on'):
        assert onnx[key] == torch[key]
    assert onnx['nll/mean'] == pytest.approx(torch['nll/mean'], abs=1e-4)
    for one, other in zip(
        *(found.get('robustness', {}).get('conditions', []) for found in (torch, onnx)), strict=True
    ):
        assert one['accuracy/top1'] == other['accuracy/top1']
    if '--report' in flags:
        assert 'class="photo"' in (tmp_path / 'onnx' / 'report' / 'index.html').read_text()


def test_what_cannot_be_tested_so_is_refused(exported, tiny_config, call):
    step = 'test_dataloader.dataset.pipeline.1.scale=(40, 40)'
    error = call('test', tiny_config, exported, '--cfg-options', step).error
    assert 'gives Preprocessing(crop=(40, 40)' in error
    assert 'Use the config that it was trained with' in error
