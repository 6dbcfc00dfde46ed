"""Preprocessing for exported models: a config's test pipeline without torch. Normalization is in the ONNX graph."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError
from custom_modules.photos.decoding import decode_photo

Pixels = NDArray[np.uint8]

# The pipelines that can be exported, and the one setting of each transform.
_SUPPORTED = re.compile(r'(LoadImageFromFile|LoadPhoto) (ResizeEdge CenterCrop|Resize)( PackInputs| PackPhoto)?')
_SETTING = {'LoadPhoto': 'min_short_edge', 'ResizeEdge': 'scale', 'Resize': 'scale', 'CenterCrop': 'crop_size'}
_DEFAULTS = {  # further settings of upstream's transforms, which change nothing with these values
    'edge': 'short',
    'backend': 'cv2',
    'interpolation': 'bilinear',
    'keep_ratio': False,
    'to_float32': False,
    'color_type': 'color',
    'imdecode_backend': 'cv2',
    'ignore_empty': False,
    'auto_pad': False,
    'clip_object_border': True,
}


@dataclass(frozen=True)
class Preprocessing:
    """Decodes an image upright, resizes it, and crops its centre; raises ValueError if the settings are impossible."""

    crop: tuple[int, int]  # height and width of the model's input, in pixels
    short_edge: int | None = None  # its length after the resize, which keeps the aspect; None to resize to the crop
    min_short_edge: int | None = None  # JPEGs are decoded at 1/2, 1/4 or 1/8 of their size if it stays this long
    interpolation: str = 'bilinear'  # the only one supported

    def __post_init__(self) -> None:
        sizes = [*self.crop, *(size for size in (self.short_edge, self.min_short_edge) if size is not None)]
        if len(self.crop) != 2 or not all(type(size) is int and 1 <= size < 1 << 14 for size in sizes):
            raise ValueError(f'sizes {sizes} are not all whole numbers of pixels')
        if self.short_edge is not None and self.short_edge < max(self.crop):
            raise ValueError(f'a short edge of {self.short_edge} pixels is shorter than the crop, {self.crop}')
        if self.interpolation != 'bilinear':
            raise ValueError(f'interpolation {self.interpolation!r} is not supported')

    @classmethod
    def of_pipeline(cls, pipeline: Sequence[Mapping[str, Any]], name: str) -> Self:
        """The preprocessing of a config's test pipeline; raises an :class:`InputError` if it does anything else."""
        kinds, values, problem = [], {}, ''
        for step in pipeline:
            kind = str(step.get('type')).removeprefix('mmpretrain.').removeprefix('mmcv.')
            others = {k: v for k, v in step.items() if k not in ('type', '_scope_') and _DEFAULTS.get(k, ...) != v}
            kinds.append(kind)
            values[kind] = others.pop(_SETTING.get(kind, ''), None)
            if others and not kind.startswith('Pack'):
                problem = f'{kind} has {", ".join(f"{key}={value!r}" for key, value in others.items())}'
        if not problem and not _SUPPORTED.fullmatch(' '.join(kinds)):
            problem = f'it is {", ".join(kinds)}'
        try:
            if problem:
                raise ValueError(problem)
            size: Any = values.get('CenterCrop', values.get('Resize'))  # one number, or two
            width, height = (size, size) if isinstance(size, int) else size
            short_edge = values.get('ResizeEdge')  # up to which JPEGs are decoded reduced: see decode_reduced
            return cls((height, width), short_edge, values.get('LoadPhoto', short_edge))
        except (TypeError, ValueError) as error:
            raise InputError(
                f'{name}: its test pipeline cannot be exported: {error}. Supported are LoadImageFromFile or '
                'LoadPhoto, then ResizeEdge of the short edge and CenterCrop, or Resize, both bilinear.'
            ) from error

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """From settings in JSON; raises ValueError or TypeError if they are impossible."""
        return cls(**{**settings, 'crop': tuple(settings.get('crop', ()))})

    def load(self, path: str | Path) -> Pixels:
        """The pixels of an image file, (3, H, W) uint8, RGB.

        Raises:
            OSError: The file cannot be read.
            ValueError: It cannot be decoded.
        """
        image, _ = decode_photo(Path(path).read_bytes(), self.min_short_edge)
        (height, width), (rows, columns) = image.shape[:2], self.crop
        if self.short_edge is None:
            height, width = rows, columns
        elif width < height:  # as in MMPretrain's ResizeEdge
            height, width = int(self.short_edge * height / width), self.short_edge
        else:
            height, width = self.short_edge, int(self.short_edge * width / height)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = round((height - rows) / 2), round((width - columns) / 2)  # as in MMCV's CenterCrop
        return np.ascontiguousarray(resized[top : top + rows, left : left + columns, ::-1].transpose(2, 0, 1))
