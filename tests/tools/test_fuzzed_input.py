"""tools/predict.py on files that were cut, flipped and tampered with: a prediction or a line each, whatever they hold.

A few hundred cases, drawn from a seed; thousands more were run by hand.
"""

import io
import random
import struct
import zipfile
import zlib
from copy import deepcopy

import pytest
import torch
from PIL import Image

CASES = 12  # of each picture
onnx = pytest.importorskip('onnx', reason='onnx is an extra')

from custom_modules.models.onnx_file import UNSEALED, seal  # noqa: E402


@pytest.fixture
def best(trained):
    return trained.work_dir / 'best.pth'


def damaged(content, draw):
    """The bytes cut, with bits flipped, with another header, or with a part taken out or put in."""
    kind, at = draw.randrange(5), draw.randrange(len(content))
    changed = bytearray(content)
    if kind == 0:
        return content[:at]
    if kind == 1:
        for _ in range(draw.choice([1, 2, 20])):
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == 2:
        for _ in range(draw.choice([1, 4])):
            changed[draw.randrange(min(len(content), 120))] = draw.randrange(256)
    elif kind == 3:
        del changed[at : at + draw.randrange(1, 500)]
    else:
        changed[at:at] = draw.randbytes(20)
    return bytes(changed)


def huge(png, width, height):
    """A PNG that says it is so large."""
    header = png[12:16] + struct.pack('>II', width, height) + png[24:29]
    return png[:12] + header + struct.pack('>I', zlib.crc32(header)) + png[33:]


@pytest.fixture(scope='module')
def pictures(data, tmp_path_factory):
    """Damaged pictures of all formats, and narrow ones that a resize would blow up."""
    folder = tmp_path_factory.mktemp('damaged')
    draw = random.Random(0)
    with Image.open(next((data / 'val' / 'rose').iterdir())) as opened:
        picture = opened.convert('RGB')
    kinds = {
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
    }
    for name, how in kinds.items():
        content = io.BytesIO()
        picture.save(content, **how)
        for number in range(CASES):
            (folder / f'{number:02}_{name}').write_bytes(damaged(content.getvalue(), draw))
    content = io.BytesIO()
    picture.save(content, 'PNG')
    for width, height in ((2**31 - 1, 2**31 - 1), (60000, 1), (1, 60000), (0, 5), (9000, 9000), (90000, 90000)):
        (folder / f'huge_{width}_{height}.png').write_bytes(huge(content.getvalue(), width, height))
    Image.new('RGB', (1, 60000)).save(folder / 'narrow.png')
    return folder


@pytest.mark.parametrize('engine', ['torch', 'onnx'])
def test_damaged_pictures_give_a_prediction_or_a_line_each(pictures, best, exported, call, engine):
    result = call('predict', pictures, '--checkpoint', best if engine == 'torch' else exported, '--workers', 0)
    assert result.code == 1
    listed = {line.split('  ')[0] for line in result.out.splitlines()}
    errors = [line for line in result.err.splitlines() if line.startswith('error: ')]
    told = {line.removeprefix('error: ').rsplit(': ', 1)[0] for line in errors}
    assert not listed & told
    assert listed | told == set(map(str, pictures.iterdir()))
    assert len(errors) == len(told)
    assert 20 < len(listed) < 100  # both kinds are there
    assert any('narrow.png: too narrow, 1 x 60000 pixels' in line for line in errors)


@pytest.fixture
def photo(data):
    return next((data / 'val' / 'rose').iterdir())


@pytest.fixture
def ask(photo, call, tmp_path):
    """Has a model of these bytes predict a photo, which must give one row, with scores, or else one line."""

    def ask(name, content):
        (tmp_path / name).write_bytes(content)
        result = call('predict', photo, '--checkpoint', name)
        if result.code == 0:
            assert len(result.out.splitlines()) == 1, result
            assert 'nan' not in result.out
        else:
            assert result.error, result
            assert 'Traceback' not in result.err
        return result

    return ask


def resealed(content, change):
    """A checkpoint's zip with one member changed, or taken out, and new checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, 'w') as new:
        for name, member in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, member)
    return out.getvalue()


def test_damaged_checkpoints(best, photo, call, ask):
    whole, draw = best.read_bytes(), random.Random(0)
    good = call('predict', photo, '--checkpoint', best).out

    for _ in range(40):  # what is not resealed is refused, or was no weight
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
        assert 'holds no class names' in said(meta(classes=value)), value
    for value in (['daisy', 'rose'], list('abcdef')):
        assert f'has 5 scores, but the model names {len(value)} classes' in said(meta(classes=value))
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


def test_tampered_onnx_models(exported, photo, call, ask):
    whole, draw = exported.read_bytes(), random.Random(0)
    good = call('predict', photo, '--checkpoint', exported).out

    def changed(change):
        case = onnx.load_from_string(whole)
        change(case)
        for prop in case.metadata_props:
            if prop.key == 'checksum':
                prop.value = UNSEALED
        return seal(case.SerializeToString())

    for _ in range(60):
        result = ask('case.onnx', damaged(whole, draw))
        assert result.code == 2 or result.out == good

    props = [prop.key for prop in onnx.load_from_string(whole).metadata_props]
    for key in ('classes', 'preprocessing', 'about'):
        for value in ('', '[', 'null', '3', '[]', '{}', '[1]', '{"crop": [16000, 16000]}', '{"crop": null}', '"a"'):
            place = props.index(key)
            ask(
                'case.onnx',
                changed(lambda case, place=place, value=value: setattr(case.metadata_props[place], 'value', value)),
            )
    for place in range(4):
        for size in (0, 1, 16000, 2**31, 2**62):

            def resize(case, place=place, size=size):
                case.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size

            ask('case.onnx', changed(resize))
    convolutions = [i for i, node in enumerate(onnx.load_from_string(whole).graph.node) if node.op_type == 'Conv']
    for i in draw.sample(convolutions, 4):
        for name, value in (('group', 10**6), ('group', 0), ('strides', 0)):

            def change(case, i=i, name=name, value=value):
                for attribute in case.graph.node[i].attribute:
                    if attribute.name == name and name == 'group':
                        attribute.i = value
                    elif attribute.name == name:
                        attribute.ints[0] = value

            ask('case.onnx', changed(change))
    for i in (0, -1):
        ask('case.onnx', changed(lambda case, i=i: case.graph.initializer[i].dims.__setitem__(0, 2**62)))
        ask('case.onnx', changed(lambda case, i=i: case.graph.initializer[i].ClearField('raw_data')))
    ask('case.onnx', changed(lambda case: case.graph.node.pop()))
