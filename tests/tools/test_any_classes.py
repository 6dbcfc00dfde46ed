"""Any number of classes under any names: printed commands work as printed, from raw photos to an exported model."""

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

AWKWARD = ['1', '10', '2', 'a b', "it's", 'x,y', '薔薇', '-x', '=1+2', '<b>', 'Löwe', '🌼']


def draw(folder: Path, classes: list[str]) -> None:
    """Five noise pictures of one colour for each class."""
    random = np.random.default_rng(len(classes))
    for name in classes:
        colour = random.integers(40, 200, 3)
        (folder / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.clip(random.normal(colour, 40, (12, 15, 3)), 0, 255).astype(np.uint8)
            (folder / name / f'{number}.png').write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


def printed(out: str, label: str) -> list[str]:
    """The arguments of a printed command, as a shell splits them."""
    (line,) = (line for line in out.splitlines() if line.startswith(label))
    return shlex.split(line.partition('python tools/')[2])[1:]


@pytest.mark.parametrize('classes', [AWKWARD[:2], AWKWARD[3:6], AWKWARD, [f'f{n:03}' for n in range(200)]], ids=len)
def test_from_raw_photos_to_an_exported_model(classes, tiny_config, call, tmp_path):
    draw(tmp_path / 'raw', classes)
    split = call('split_dataset', 'raw', './-my "data" 🌼')
    assert split.code == 0, split
    _, *options = printed(split.out, 'next:')
    fast = '--cfg-options', 'train_dataloader.batch_size=64', 'train_cfg.max_epochs=1'
    trained = call('train', tiny_config, *options, '--work-dir', './-run', *fast)
    assert trained.code == 0, trained
    assert f'{len(classes)} classes, from -my "data" 🌼/classes.txt\n' in trained.out
    assert max(map(len, trained.out.splitlines())) < 300
    for arguments in (printed(trained.out, 'test:'), (tiny_config, './-run/best.pth', *options)):  # made for five
        tested = call('test', *arguments)
        assert tested.code in (0, 1), tested
        assert not tested.err
    photo = next((tmp_path / 'raw' / classes[-1]).iterdir())
    for model in ('-run/best.pth', '-run/best.onnx'):
        if model.endswith('.onnx'):
            pytest.importorskip('onnxscript')
            assert call('export_onnx', './-run/best.pth', *options).code == 0
        predicted = call('predict', photo, '--checkpoint', f'./{model}')
        assert predicted.code == 0, predicted
        assert any(f'{name} 0.' in predicted.out for name in classes)
    assert call('predict', photo, '--checkpoint', './-run/best.pth', '--config', tiny_config).code == 0
