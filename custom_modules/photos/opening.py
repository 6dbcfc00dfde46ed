"""What is wrong with a photo's file before anything is decoded. No torch, no OpenCV."""

import logging
import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from custom_modules.photos.fingerprint import MAX_PIXELS

BROKEN = 'broken picture, or none that can be read'  # what decoding alone finds
TOO_LARGE = f'too large, more than {MAX_PIXELS // 10**6} million pixels'
# Its short edge made 256 pixels long, as pipelines do, a picture of 1 x 60000 would fill 12 GB.
MAX_RATIO = 1000  # long edge / short edge

# What is wrong with a photo is told in one line, here or by what decodes it; Pillow would add some of its own.
warnings.filterwarnings('ignore', module=r'PIL\.')
logging.getLogger('PIL').setLevel(logging.CRITICAL)


def file_problem(path: str) -> str | None:
    """What makes it useless or dangerous to decode a file: none, empty, too large, too narrow; None for nothing."""
    if not os.path.isfile(path):  # a named pipe would block
        return 'no such file' if not os.path.lexists(path) else 'no file'
    try:
        if not Path(path).stat().st_size:
            return 'empty file'
        with Image.open(path) as image:
            width, height = image.size
    except UnidentifiedImageError:
        return None  # the decoder may know it
    except Image.DecompressionBombError:
        return TOO_LARGE
    except OSError as error:
        return f'cannot be read: {error.strerror}' if error.strerror else 'broken picture'
    except Exception:  # fed with garbage, decoders raise almost anything; decoding says whether it can be read
        return None
    if width * height > MAX_PIXELS:
        return TOO_LARGE
    if max(width, height) > MAX_RATIO * min(width, height):
        return f'too narrow, {width} x {height} pixels'
    return None
