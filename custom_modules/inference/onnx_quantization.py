"""8-bit ONNX models: static quantization with bias correction by NNCF."""

import os
from dataclasses import replace

from custom_modules.errors import InputError
from custom_modules.inference.onnx_export import quiet, with_metadata
from custom_modules.models.onnx_file import Metadata
from custom_modules.models.preprocessing import Pixels


def require_nncf() -> None:
    """Checks that NNCF is installed.

    Raises:
        InputError: It is not; with the command that installs it.
    """
    os.environ.setdefault('NNCF_CI', '1')  # before the import: it reports to Google Analytics otherwise
    try:
        with quiet():
            import nncf  # noqa: F401
    except ImportError as error:
        raise InputError(f"--int8 needs NNCF ({error}): pip install 'nncf>=3.4'") from None


def quantize(content: bytes, images: Pixels, metadata: Metadata) -> bytes:
    """The model with 8-bit weights and activations, and with its metadata.

    Weights have a scale per channel: the ranges of a depthwise layer's channels differ so much that one scale for all
    would leave some channels a few levels (R. Krishnamoorthi, 2018, section 3.1). The biases of convolutions correct
    the mean error of their channels (M. Nagel et al., 2019, section 4.2). The layer that gives the logits stays in
    float32, because similar logits would get the same of 256 levels.

    Args:
        content: An exported model.
        images: (N, 3, H, W) uint8 RGB, on which the ranges of the activations are measured.
        metadata: Metadata of the float32 model. What it says of the scores is left out.
    """
    import nncf
    import onnx

    model = onnx.load_from_string(content)
    name = model.graph.input[0].name
    head = [node.name for node in model.graph.node if node.op_type in ('Conv', 'Gemm', 'MatMul')][-1]
    with quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(list(images), lambda image: {name: image[None]}),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=[head]),
        )
    # Its scores are not those that the temperature was fitted to and the metric was measured on.
    about = {key: value for key, value in metadata.about.items() if key not in ('metric', 'value', 'temperature')}
    return with_metadata(quantized, replace(metadata, about={**about, 'quantized': 'int8'}))
