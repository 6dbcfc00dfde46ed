"""A trained classifier made into an ONNX model, and the two compared photo by photo. Nothing is written here."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from torch import nn

from custom_modules.errors import InputError, said_by
from custom_modules.inference.predictor import Predictor
from custom_modules.models.onnx_file import Metadata, open_session, seal
from custom_modules.models.preprocessing import Pixels, Preprocessing
from custom_modules.photos.opening import Unreadable

TOLERANCE = 1e-4  # of a score; rounding makes some 1e-6
NEEDED = 'pip install onnx onnxscript onnxruntime'
ABOUT = 'run', 'epoch', 'metric', 'value', 'dataset_digest', 'pretrained', 'temperature', 'versions'

Score = Callable[[Pixels], NDArray[np.float32]]


class Classifier(nn.Module):
    """A model with its normalisation: (N, 3, H, W) uint8 RGB in, (N, K) float32 softmax scores out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        preprocessor = model.data_preprocessor
        self.flip = not preprocessor.to_rgb  # photos are loaded as BGR: such a model was trained on that
        normalises = getattr(preprocessor, '_enable_normalize', False)
        self.register_buffer('mean', preprocessor.mean.view(1, -1, 1, 1) if normalises else torch.zeros(1))
        self.register_buffer('std', preprocessor.std.view(1, -1, 1, 1) if normalises else torch.ones(1))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Scores of photos."""
        inputs = photos.flip(1) if self.flip else photos
        inputs = (inputs.float() - self.mean) / self.std
        return torch.softmax(self.model.head(self.model.extract_feat(inputs)), dim=1)


def require_packages() -> None:
    """Makes sure that what an export needs is installed.

    Raises:
        InputError: It is not; with the command that installs it.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f'an export needs more packages ({error}): {NEEDED}') from None


def make_metadata(
    predictor: Predictor, cfg: Config, meta: Mapping[str, Any], temperature: float | None, name: str
) -> Metadata:
    """What the exported model will say of itself.

    Args:
        predictor: The model.
        cfg: Its config, for the test pipeline.
        meta: Of the checkpoint.
        temperature: Fitted to its scores, if that is known.
        name: The checkpoint's file, for messages.

    Raises:
        InputError: The test pipeline is one that cannot be done without the config's transforms.
    """
    preprocessing = Preprocessing.of_pipeline(cfg.test_dataloader.dataset.pipeline, name)
    known = {**meta, 'temperature': temperature}
    about = {key: known[key] for key in ABOUT if known.get(key) is not None}
    return Metadata(predictor.classes, preprocessing, about)


def export(predictor: Predictor, metadata: Metadata, name: str) -> bytes:
    """The model as ONNX, through torch's own exporter, in the opset that this takes for the current one.

    Raises:
        InputError: The exporter cannot do it, or the model has not one score for each class.
    """
    model = Classifier(deepcopy(predictor.model)).eval()  # a copy, for the model itself is what it is compared with
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = False  # the exporter takes half as long; the graph is the same
    example = torch.zeros(2, 3, *metadata.preprocessing.crop, dtype=torch.uint8)
    try:
        with quiet(), torch.no_grad():
            shape = tuple(model(example).shape)
        if shape != (2, len(metadata.classes)):
            raise InputError(f'{name}: gives {shape[-1]} scores for {len(metadata.classes)} classes; take another one')
        with quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=['photos'],
                output_names=['scores'],
                dynamic_shapes={'photos': {0: torch.export.Dim('N')}},
            )
    except InputError:
        raise
    except Exception as error:  # the exporter's own kinds, and whatever the model's code raises while it is traced
        raise InputError(f'{name}: its model cannot be exported ({said_by(error)})') from error
    if program is None:
        raise InputError(f'{name}: its model cannot be exported')
    return with_metadata(program.model_proto, metadata)


def with_metadata(model: Any, metadata: Metadata) -> bytes:
    """The bytes of an ``onnx.ModelProto`` with its metadata, sealed."""
    del model.metadata_props[:]
    for key, value in metadata.props().items():
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of exporter and quantiser, which are about their own workings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)


@dataclass
class Comparison:
    """How far the scores of an engine are from torch's.

    Attributes:
        photos: How many were compared.
        difference: The largest one of any score.
        same: On how many photos the class with the highest score is the same.
        right: How many of them each has right, torch and the engine, where the truth is known.
    """

    photos: int = 0
    difference: float = 0.0
    same: int = 0
    right: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, expected: NDArray, found: NDArray, truths: Sequence[int] | None = None) -> None:
        """Compares the scores, (N, K), of N photos."""
        self.photos += len(expected)
        self.difference = max(self.difference, float(np.abs(expected - found).max(initial=0)))
        if not np.isfinite(found).all():
            self.difference = float('inf')
        labels = expected.argmax(1), found.argmax(1)
        self.same += int((labels[0] == labels[1]).sum())
        if truths is not None:
            for engine in (0, 1):
                self.right[engine] += int((labels[engine] == np.asarray(truths)).sum())

    @property
    def close(self) -> bool:
        """Whether the engine may stand in for torch."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        same = 'identical' if self.same == self.photos else f'identical on {self.same} only'
        return f'{self.photos} photos, largest difference of a score {self.difference:.2g}, top-1 {same}'


def compare(
    predictor: Predictor,
    engines: Sequence[Score],
    photos: Sequence[tuple[str, int | None]],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Comparison]:
    """Compares engines with torch on the same pixels, those of the test pipeline.

    Args:
        predictor: Torch's scores.
        engines: Functions from (N, 3, H, W) uint8 RGB to (N, K) scores.
        photos: Paths, and labels where they are known.
        progress: Told of the photos done.

    Raises:
        InputError: A photo cannot be read.
    """
    comparisons = [Comparison() for _ in engines]
    truths = iter([label for _, label in photos])
    for paths, batch in predictor.batches([path for path, _ in photos]):
        for item in paths:
            if isinstance(item, Unreadable):
                raise InputError(f'{item.path}: {item.problem}; mend the dataset first')
        assert batch is not None
        known = [label for label in (next(truths) for _ in paths) if label is not None]
        expected = np.array(predictor.score(batch), np.float32)
        pixels = rgb(batch['inputs'])
        for comparison, score in zip(comparisons, engines, strict=True):
            comparison.add(expected, score(pixels), known or None)
        if progress:
            progress('comparing', comparisons[0].photos, len(photos))
    return comparisons


def rgb(inputs: torch.Tensor | list[torch.Tensor]) -> Pixels:
    """(N, 3, H, W) RGB of a batch as the test pipeline collates it, BGR."""
    stacked = torch.stack(inputs) if isinstance(inputs, list) else inputs
    return np.ascontiguousarray(stacked.numpy()[:, ::-1])


def scorer(content: bytes, name: str) -> Score:
    """The function that an ONNX model's bytes compute."""
    session = open_session(content, name)
    return lambda photos: session.run(None, {session.get_inputs()[0].name: photos})[0]
