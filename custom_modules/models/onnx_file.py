"""An exported model as a file: what its metadata says, and whether it is still what was exported. No torch, no onnx.

Everything stands in the model's ``metadata_props``, where any ONNX tool shows it: ``classes``, ``preprocessing``,
``input`` and ``about`` are JSON, ``checksum`` is a SHA-256 of the file in which it reads 64 zeros itself.
"""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from custom_modules.errors import InputError
from custom_modules.models.preprocessing import Preprocessing
from custom_modules.photos.parallel import cores
from custom_modules.upstream import quieten

UNSEALED = f'sha256:{"0" * 64}'
_SEAL = re.compile(rb'sha256:[0-9a-f]{64}')
INSTALL = 'pip install onnxruntime Pillow numpy'


@dataclass(frozen=True)
class Metadata:
    """What an exported model says of itself.

    Args:
        classes: Class names in label order.
        preprocessing: What is done to a photo before the model.
        about: Where it comes from: ``run``, ``epoch``, ``metric``, ``value``, ``dataset_digest``, ``pretrained``,
            ``quantized``, ``temperature`` where one is known, ``versions``.
    """

    classes: list[str]
    preprocessing: Preprocessing
    about: dict[str, Any] = field(default_factory=dict)

    def props(self) -> dict[str, str]:
        """For ``metadata_props``, not sealed yet."""
        height, width = self.preprocessing.crop
        return {
            'classes': json.dumps(self.classes, ensure_ascii=False),
            'input': json.dumps({'shape': ['N', 3, height, width], 'type': 'uint8', 'channels': 'RGB'}),
            'preprocessing': json.dumps(self.preprocessing.as_dict()),
            'about': json.dumps(self.about, ensure_ascii=False),
            'checksum': UNSEALED,
        }

    @classmethod
    def of_props(cls, props: dict[str, str], name: str) -> Self:
        """Reads ``metadata_props``.

        Raises:
            InputError: They are not those of an export.
        """
        foreign, anew = f'{name}: not exported by tools/export_onnx.py', 'export the checkpoint anew'
        if lacking := [key for key in ('classes', 'preprocessing', 'checksum') if key not in props]:
            raise InputError(f'{foreign}: its metadata lacks {", ".join(lacking)}; {anew}')
        try:
            classes = json.loads(props['classes'])
            if not (isinstance(classes, list) and classes and all(isinstance(item, str) for item in classes)):
                raise ValueError('classes is no list of names')
            if len(set(classes)) < len(classes):
                raise ValueError('a class stands there twice')
            preprocessing = Preprocessing.from_dict(json.loads(props['preprocessing']))
            about = json.loads(props.get('about', '{}'))
            if not isinstance(about, dict):
                raise ValueError('about is no object')
            return cls(classes, preprocessing, about)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f'{foreign}: its metadata cannot be read ({error}); {anew}') from error


def seal(content: bytes) -> bytes:
    """Writes the checksum of a model's bytes into them.

    Raises:
        ValueError: They hold no place for it, or several.
    """
    if content.count(UNSEALED.encode()) != 1:
        raise ValueError('no model with unsealed metadata')
    return content.replace(UNSEALED.encode(), f'sha256:{hashlib.sha256(content).hexdigest()}'.encode())


def is_intact(content: bytes) -> bool:
    """Whether one checksum in a model's bytes, if any is in them, is theirs."""
    found = set(_SEAL.findall(content))
    return not found or any(
        seal == f'sha256:{hashlib.sha256(content.replace(seal, UNSEALED.encode())).hexdigest()}'.encode()
        for seal in found
    )


def open_model(path: str | Path) -> tuple[Any, Metadata, str]:
    """Opens an exported model for ONNX Runtime.

    Returns:
        The ``InferenceSession``, its metadata, and a digest of the file.

    Raises:
        InputError: No such file, torn or changed, no ONNX model, of another origin, or no ONNX Runtime.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from None
    if not is_intact(content):
        raise InputError(f'{path}: not what was exported: changed or torn since; export the checkpoint anew')
    session = open_session(content, str(path))
    metadata = Metadata.of_props(session.get_modelmeta().custom_metadata_map, str(path))
    _check_shapes(session, metadata, str(path))
    return session, metadata, hashlib.sha256(content).hexdigest()


def open_session(content: bytes, name: str, spin: bool = False) -> Any:
    """An ``InferenceSession`` of a model's bytes, on a GPU where onnxruntime-gpu finds one.

    On the CPU ``OMP_NUM_THREADS`` threads compute, or else one for each core of this process.

    Args:
        content: The model.
        name: For messages.
        spin: Whether threads wait for each other without sleeping, as ONNX Runtime has them by default: faster for a
            photo at a time, but the cores are taken from what reads photos.

    Raises:
        InputError: They are no ONNX model, or there is no ONNX Runtime.
    """
    quieten()  # before ONNX Runtime is imported
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f'{name}: needs ONNX Runtime ({error}): {INSTALL}') from None
    options = onnxruntime.SessionOptions()
    onnxruntime.set_default_logger_severity(4)  # what is wrong is raised, and need not be on stderr too
    options.log_severity_level = 4
    options.add_session_config_entry('session.intra_op.allow_spinning', str(int(spin)))
    given = os.environ.get('OMP_NUM_THREADS', '')
    options.intra_op_num_threads = int(given) if given.isdecimal() else cores()
    if not multiplies_8_bits_exactly():
        options.add_session_config_entry('session.x64quantprecision', '1')
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers(onnxruntime))
    except Exception as error:  # ONNX Runtime's own kinds share no base but Exception
        said = ' '.join(str(error).split())
        raise InputError(f'{name}: torn, or no ONNX model ({said[:120]}); export the checkpoint anew') from error
    if session.get_providers()[0] != providers(onnxruntime)[0]:
        print(f'{name}: on the CPU, for ONNX Runtime found no usable GPU (CUDA or cuDNN missing?)', file=sys.stderr)
    return session


def multiplies_8_bits_exactly(cpuinfo: Path = Path('/proc/cpuinfo')) -> bool:
    """Whether the processor is known to have instructions (VNNI) that add products of 8-bit numbers without overflow.

    Other x86 processors add pairs of them in 16 bits, where they saturate: a MobileNetV2 of these flowers in 8 bits
    then has 399 of 457 right, not 442. ONNX Runtime has exact kernels for them, but takes these only when told to
    (``onnxruntime_session_options_config_keys.h``); they are slower. Processors that are no x86 have but one kind.

    Args:
        cpuinfo: What Linux says of the processor; where it cannot be read, nothing is known.
    """
    try:
        return '_vnni' in cpuinfo.read_text()
    except OSError:
        return False


def providers(onnxruntime: Any) -> list[str]:
    """Where an installed ONNX Runtime is to compute, what comes first is preferred."""
    there = onnxruntime.get_available_providers()
    return [name for name in ('CUDAExecutionProvider', 'CPUExecutionProvider') if name in there]


def _check_shapes(session: Any, metadata: Metadata, name: str) -> None:
    height, width = metadata.preprocessing.crop
    wanted = f'uint8 (N, 3, {height}, {width}) to float (N, {len(metadata.classes)})'
    inputs, outputs = session.get_inputs(), session.get_outputs()
    fits = (
        len(inputs) == len(outputs) == 1
        and (inputs[0].type, outputs[0].type) == ('tensor(uint8)', 'tensor(float)')
        and inputs[0].shape[1:] == [3, height, width]
        and outputs[0].shape[1:] == [len(metadata.classes)]
        and not isinstance(inputs[0].shape[0], int)
    )
    if not fits:
        found = ' to '.join(
            ', '.join(f'{value.type[7:-1]} ({", ".join(map(str, value.shape))})' for value in values)
            for values in (inputs, outputs)
        )
        raise InputError(f'{name}: computes {found}, but its metadata is of {wanted}; export the checkpoint anew')
