"""A model as an ONNX file: written by torch's exporter, made smaller by onnxruntime, and run in the model's place."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from bertkit.errors import BertkitError
from bertkit.named import library

WHOLE = 1 << 30  # bytes of weights that lie in the file itself, which holds 2 GiB at most; more lie beside it


class Session(nn.Module):
    """An ONNX file in the place of the model that it was made from: takes and gives the same tensors, on the CPU."""

    def __init__(self, path: Path, config: PretrainedConfig) -> None:
        """Open a file, for as many threads as torch has; `config` is the model's."""
        super().__init__()
        runtime = library("onnxruntime", "onnx", "engine onnx")
        if not path.exists():
            raise BertkitError(f"{path} is not there", hint="write it with `bertkit export RUN`")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with _asking(f"{path} cannot be loaded", hint="remove the folder, and export again"):
            self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.config = config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """(B, S) int64 each, of which the file may take fewer; gives the outputs of the head by name."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        fed = {entry.name: given[entry.name].numpy() for entry in self.session.get_inputs()}
        try:
            found = self.session.run(None, fed)
        except Exception as error:  # onnxruntime's own kinds
            if "alloc" in str(error):  # the predictor then goes on with less at a time
                raise MemoryError(str(error)) from error
            raise
        names = [entry.name for entry in self.session.get_outputs()]
        return SimpleNamespace(**dict(zip(names, map(torch.from_numpy, found), strict=True)))

    def get_input_embeddings(self) -> nn.Module:
        raise BertkitError("an ONNX file gives no gradients, which attributions need", hint="leave out engine onnx")


def write_onnx(model: PreTrainedModel, inputs: Iterable[str], outputs: Sequence[str], path: Path) -> None:
    """Write a float32 model for any batch and any length.

    Args:
        inputs: names of what it is given, (B, S) int64 each.
        outputs: names of what its head puts out.
    """
    library("onnxscript", "onnx", "export")
    example = {name: torch.ones(2, 8, dtype=torch.long) for name in inputs}  # 0 and 1 would be taken for constants
    is_large = sum(weight.numel() * weight.element_size() for weight in model.parameters()) > WHOLE
    what = f"torch {torch.__version__} cannot write {model.config.model_type} as ONNX"
    with _asking(what, hint="another version of torch or transformers may; the run itself answers as before"):
        torch.onnx.export(
            model, (), path, kwargs=example, input_names=[*example], output_names=[*outputs], dynamo=True,
            dynamic_shapes={name: {0: "batch", 1: "length"} for name in example}, external_data=is_large, verbose=False,
        )  # fmt: skip


def write_int8(path: Path, out: Path) -> None:
    """Write an ONNX file again with weights of 8 bits; activations get theirs as they come, so no data are needed.

    Each output of a product has a scale of its own. Of the 8 bits 7 are used: without VNNI a processor adds up products
    of 8 bits in 16, where they overflow.
    """
    quantization = library("onnxruntime.quantization", "onnx", "export --int8")
    with _asking("onnxruntime cannot make weights of 8 bits", hint="leave out --int8"):
        quantization.quantize_dynamic(
            path, out, per_channel=True, reduce_range=True, weight_type=quantization.QuantType.QInt8,
            use_external_data_format=path.with_name(f"{path.name}.data").exists(),
        )  # fmt: skip


@contextmanager
def _asking(what: str, hint: str) -> Iterator[None]:
    """Keep these libraries' advice to themselves, and turn whatever they raise into one error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
        raise BertkitError(f"{what} ({reason})", hint) from error
    finally:
        logging.disable(before)
