"""Exported ONNX models: metadata, checksum, and scoring by ONNX Runtime. Needs neither torch nor onnx.

The metadata is in the model's ``metadata_props``, where any ONNX viewer shows it. ``classes``, ``preprocessing``,
``input`` and ``about`` are JSON; ``checksum`` is the SHA-256 of the file with 64 zeros in the checksum's place.
"""

import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError
from custom_modules.models.model_file import ModelFile
from custom_modules.models.onnx_preprocessing import Pixels, Preprocessing
from custom_modules.photos.parallel import cores
from custom_modules.upstream import quieten

PACKAGES = 'pip install onnxruntime opencv-python-headless Pillow numpy'  # all that an exported model needs
UNSEALED = f'sha256:{"0" * 64}'
_SEAL = re.compile(rb'sha256:[0-9a-f]{64}')
_AGAIN = 'Export the checkpoint again.'


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported model."""

    classes: list[str]  # in label order
    preprocessing: Preprocessing  # from an image file to the model's input
    about: dict[str, Any] = field(default_factory=dict)  # the origin, as far as known: run, epoch, temperature, …

    def props(self) -> dict[str, str]:
        """The values of ``metadata_props``, with the checksum still zero."""
        height, width = self.preprocessing.crop
        return {
            'classes': json.dumps(self.classes, ensure_ascii=False),
            'input': json.dumps({'shape': ['N', 3, height, width], 'type': 'uint8', 'channels': 'RGB'}),
            'preprocessing': json.dumps(asdict(self.preprocessing)),
            'about': json.dumps(self.about, ensure_ascii=False),
            'checksum': UNSEALED,
        }

    @classmethod
    def of_props(cls, props: dict[str, str], name: str) -> Self:
        """Reads ``metadata_props``; raises :class:`InputError` if no export wrote them."""
        foreign = f'{name}: not exported by tools/export_onnx.py: its metadata'
        if lacking := [key for key in ('classes', 'preprocessing', 'checksum') if key not in props]:
            raise InputError(f'{foreign} lacks {", ".join(lacking)}. {_AGAIN}')
        try:
            classes, about = json.loads(props['classes']), json.loads(props.get('about', '{}'))
            if not (isinstance(classes, list) and classes and all(isinstance(item, str) for item in classes)):
                raise ValueError('classes is no list of names')
            if len(set(classes)) < len(classes):
                raise ValueError('two classes have the same name')
            if not isinstance(about, dict):
                raise ValueError('about is no object')
            return cls(classes, Preprocessing.from_dict(json.loads(props['preprocessing'])), about)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f'{foreign} cannot be read ({error}). {_AGAIN}') from error


def seal(content: bytes) -> bytes:
    """A model's bytes with their checksum in place of the zeros; a ValueError if there is not one place for it."""
    if content.count(UNSEALED.encode()) != 1:
        raise ValueError('no model with unsealed metadata')
    return content.replace(UNSEALED.encode(), _checksum(content))


def is_intact(content: bytes) -> bool:
    """Whether a checksum in a model's bytes is correct; True without any."""
    found = set(_SEAL.findall(content))
    return not found or any(_checksum(content.replace(one, UNSEALED.encode())) == one for one in found)


def _checksum(unsealed: bytes) -> bytes:
    return f'sha256:{hashlib.sha256(unsealed).hexdigest()}'.encode()


def open_model(path: str | Path) -> ModelFile:
    """Opens an exported model.

    Raises:
        InputError: The file is missing, corrupt or changed, not exported by this project, or ONNX Runtime is missing.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f'{path}: {(error.strerror or "cannot be read").lower()}') from None
    if not is_intact(content):
        raise InputError(f'{path}: corrupt, or changed since its export. {_AGAIN}')
    session = open_session(content, str(path))
    metadata = Metadata.of_props(session.get_modelmeta().custom_metadata_map, str(path))
    values = (*session.get_inputs(), *session.get_outputs())
    found = [f'{value.type[7:-1]} ({", ".join(map(str, value.shape))})' for value in values]
    height, width = metadata.preprocessing.crop
    wanted = [f'uint8 (N, 3, {height}, {width})', f'float (N, {len(metadata.classes)})']
    if found != wanted:
        raise InputError(
            f'{path}: computes {" to ".join(found)}, but its metadata says {" to ".join(wanted)}. {_AGAIN}'
        )
    return ModelFile(
        Path(path),
        metadata.classes,
        metadata.about,
        hashlib.sha256(content).hexdigest(),
        session=session,
        preprocessing=metadata.preprocessing,
    )


def open_session(content: bytes, name: str) -> Any:
    """An ``InferenceSession``, on a GPU where there is one, else with ``OMP_NUM_THREADS`` threads or one per core.

    Raises:
        InputError: The bytes are no ONNX model, or ONNX Runtime is missing.
    """
    quieten()  # before ONNX Runtime is imported
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f'{name}: needs ONNX Runtime ({error}): {PACKAGES}') from None
    onnxruntime.set_default_logger_severity(4)  # errors are raised; they need not be on stderr too
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that spin while they wait take the cores from those that read images.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    given = os.environ.get('OMP_NUM_THREADS', '')
    options.intra_op_num_threads = int(given) if given.isdecimal() else cores()
    if not multiplies_8_bits_exactly():
        options.add_session_config_entry('session.x64quantprecision', '1')
    there = onnxruntime.get_available_providers()
    providers = [item for item in ('CUDAExecutionProvider', 'CPUExecutionProvider') if item in there]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no other base class
        raise InputError(f'{name}: corrupt, or no ONNX model ({_first_words(error)}). {_AGAIN}') from error
    if session.get_providers()[0] != providers[0]:
        print(f'{name}: on the CPU: ONNX Runtime found no usable GPU (CUDA or cuDNN missing?)', file=sys.stderr)
    return session


def multiplies_8_bits_exactly(cpuinfo: Path = Path('/proc/cpuinfo')) -> bool:
    """Whether the processor has instructions (VNNI) that add products of 8-bit numbers without overflow.

    ONNX Runtime has exact, slower kernels for other x86 processors, but only on request. Without them an 8-bit model
    loses a tenth of its accuracy. On processors other than x86 the request changes nothing.
    """
    return cpuinfo.exists() and '_vnni' in cpuinfo.read_text()


def score(session: Any, images: Pixels, classes: list[str], name: str) -> NDArray[np.float32]:
    """Softmax scores, (N, K), of (N, 3, H, W) RGB images, by a session of :func:`open_model`.

    Raises:
        InputError: The model ``name`` fails, or its output is not a score for each of K classes with a sum of 1.
    """
    try:
        (scores,) = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:  # ONNX Runtime's exceptions share no other base class
        raise InputError(f'{name}: cannot be computed ({_first_words(error)}). {_AGAIN}') from error
    if scores.shape != (len(images), len(classes)):
        raise InputError(f'{name}: gives scores of shape {scores.shape}, not {(len(images), len(classes))}. {_AGAIN}')
    if np.isfinite(scores).all() and not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        raise InputError(f'{name}: gives scores that do not add up to 1. {_AGAIN}')
    return scores


def _first_words(error: Exception) -> str:
    return ' '.join(str(error).split())[:120]
