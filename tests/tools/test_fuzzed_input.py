"""tools/predict.py on damaged and tampered files: a prediction or a line each, for hundreds of cases."""

import io
import random
import struct
import zipfile
import zlib
from contextlib import contextmanager
from copy import deepcopy
from itertools import product

import pytest
import torch
from PIL import Image

CASES = 12  # of each format
onnx = pytest.importorskip('onnx', reason='onnx is an extra')

from custom_modules.models.onnx_file import UNSEALED, seal  # noqa: E402


def damaged(content, draw):
    """The bytes cut, with bits flipped, with another header, or with a part removed or inserted."""
    kind, at, changed = draw.randrange(5), draw.randrange(len(content)), bytearray(content)
    match kind:
        case 0:
            del changed[at:]
        case 1:
            for _ in range(draw.choice([1, 2, 20])):
                changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        case 2:
            for _ in range(draw.choice([1, 4])):
                changed[draw.randrange(min(len(content), 120))] = draw.randrange(256)
        case 3:
            del changed[at : at + draw.randrange(1, 500)]
        case 4:
            changed[at:at] = draw.randbytes(20)
    return bytes(changed)


def huge(png, width, height):
    """A PNG with this size in its header."""
    header = png[12:16] + struct.pack('>II', width, height) + png[24:29]
    return png[:12] + header + struct.pack('>I', zlib.crc32(header)) + png[33:]


@pytest.fixture(scope='module')
def pictures(data, tmp_path_factory):
    """Damaged pictures of all formats, and narrow ones that a resize would enlarge."""
    folder, draw = tmp_path_factory.mktemp('damaged'), random.Random(0)
    with Image.open(next((data / 'val' / 'rose').iterdir())) as opened:
        picture = opened.convert('RGB')

    def saved(**options):
        content = io.BytesIO()
        picture.save(content, **options)
        return content.getvalue()

    for name, options in {
        'photo.jpg': {'format': 'JPEG'},
        'progressive.jpg': {'format': 'JPEG', 'progressive': True},
        'photo.png': {'format': 'PNG'},
        'photo.webp': {'format': 'WEBP'},
        'lossless.webp': {'format': 'WEBP', 'lossless': True},
        'gif.png': {'format': 'GIF'},
        'photo.bmp': {'format': 'BMP'},
        'plain.tif': {'format': 'TIFF'},
        'lzw.tif': {'format': 'TIFF', 'compression': 'tiff_lzw'},
        'jpeg.tif': {'format': 'TIFF', 'compression': 'jpeg'},
    }.items():
        for number in range(CASES):
            (folder / f'{number:02}_{name}').write_bytes(damaged(saved(**options), draw))
    for width, height in ((2**31 - 1, 2**31 - 1), (60000, 1), (0, 5), (9000, 9000), (90000, 90000)):
        (folder / f'huge_{width}_{height}.png').write_bytes(huge(saved(format='PNG'), width, height))
    Image.new('RGB', (1, 60000)).save(folder / 'narrow.png')
    return folder


@pytest.mark.parametrize('engine', ['torch', 'onnx'])
def test_damaged_pictures_give_a_prediction_or_a_line_each(pictures, best, exported, call, engine):
    result = call('predict', pictures, '--checkpoint', best if engine == 'torch' else exported, '--workers', 0)
    assert result.code == 1
    predicted = {line.split('  ')[0] for line in result.out.splitlines()}
    errors = [line for line in result.err.splitlines() if line.startswith('error: ')]
    refused = {line.removeprefix('error: ').partition(': ')[0] for line in errors}
    assert len(errors) == len(refused)
    assert not predicted & refused
    assert predicted | refused == set(map(str, pictures.iterdir()))
    assert 20 < len(predicted) < 100
    assert any('narrow.png: too narrow, 1 x 60000 pixels' in line for line in errors)


@pytest.fixture
def ask(data, call, tmp_path):
    """A function that predicts an image by a model of these bytes: one row with scores, or else one line."""
    photo = next((data / 'val' / 'rose').iterdir())

    def ask(name, content):
        (tmp_path / name).write_bytes(content)
        result = call('predict', photo, '--checkpoint', name)
        if result.code == 0:
            assert len(result.out.splitlines()) == 1, result
            assert 'nan' not in result.out
        else:
            assert result.error
        return result

    return ask


def resealed(content, change):
    """A checkpoint's zip with one member changed or removed, and new checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, 'w') as new:
        for name, member in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, member)
    return out.getvalue()


def test_damaged_checkpoints(best, ask):
    whole, draw = best.read_bytes(), random.Random(0)
    good = ask('case.pth', whole).out
    for _ in range(40):  # wrong checksums are refused, unless the damage is outside the weights
        result = ask('case.pth', damaged(whole, draw))
        assert result.code == 2 or result.out == good
    for kind in ['one out', 'data.pkl', 'any'] * 10:

        def change(members, kind=kind):
            name = draw.choice([*members] if kind != 'data.pkl' else [m for m in members if m.endswith('data.pkl')])
            if kind == 'one out':
                del members[name]
            else:
                members[name] = damaged(members[name] or b'0', draw)
            return members

        ask('case.pth', resealed(whole, change))


def test_tampered_checkpoints(best, ask):
    whole = torch.load(best, weights_only=True)
    config = whole['meta']['config']

    def said(change):
        case = deepcopy(whole)
        change(case)
        content = io.BytesIO()
        torch.save(case, content)
        return ask('case.pth', content.getvalue()).err

    def weight(value):
        return lambda case: case['state_dict'].update({'head.fc.bias': value})

    def meta(**values):
        return lambda case: case['meta'].update(values)

    for value in (torch.zeros(4), torch.zeros(1, 5)):
        assert 'its weights are not of its model' in said(weight(value)), value
    for value in ('text', 3, None, [0.0] * 5, torch.zeros(5, device='meta')):
        assert 'head.fc.bias is no tensor of numbers' in said(weight(value)), value
    assert 'its scores are not finite: the weights are broken' in said(weight(torch.full((5,), float('nan'))))
    for value in (3, 'daisy', torch.zeros(5), [1, 2], [], None, {'daisy': 0}):
        assert 'holds no class names' in said(meta(classes=value, dataset_meta=None)), value
    for value in (['daisy', 'rose'], list('abcdef')):
        assert f'has 5 scores, but the model names {len(value)} classes' in said(
            meta(classes=value, dataset_meta=None)
        )
    for value in (torch.zeros(3), 3, None, '', 'x = 1', 'x = (', '\0', '[' * 5000):
        said(meta(config=value))
    for old, new in {
        '                32,\n': '-1,\n',  # of Resize's scale
        'in_channels=1280': 'in_channels=7',
        "type='GlobalAveragePooling'": "type='ResNet'",
        "type='PackInputs'": "type='RandomFlip'",
        'widen_factor=0.25': 'widen_factor=99999999',
        'num_classes=5': 'num_classes=-5',
    }.items():
        assert old in config
        assert said(meta(config=config.replace(old, new)))


def test_tampered_onnx_models(exported, ask):
    whole, draw = exported.read_bytes(), random.Random(0)
    good = ask('case.onnx', whole).out
    model = onnx.load_from_string(whole)

    @contextmanager
    def changed():
        case = deepcopy(model)
        yield case
        next(prop for prop in case.metadata_props if prop.key == 'checksum').value = UNSEALED
        ask('case.onnx', seal(case.SerializeToString()))

    for _ in range(60):
        result = ask('case.onnx', damaged(whole, draw))
        assert result.code == 2 or result.out == good

    places = [i for i, prop in enumerate(model.metadata_props) if prop.key in ('classes', 'preprocessing', 'about')]
    values = ('', '[', 'null', '3', '[]', '{}', '[1]', '{"crop": [16000, 16000]}', '{"crop": null}', '"a"')
    for place, value in product(places, values):
        with changed() as case:
            case.metadata_props[place].value = value
    for place, size in product(range(4), (0, 1, 16000, 2**31, 2**62)):
        with changed() as case:
            case.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size
    with changed() as case:
        case.graph.initializer[0].dims[0] = 2**62
    with changed() as case:
        case.graph.initializer[0].ClearField('raw_data')
    with changed() as case:
        case.graph.node.pop()
