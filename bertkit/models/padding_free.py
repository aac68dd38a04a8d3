"""Encoders that compute tokens and no padding: unpadded before the layer stack, padded again after it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bertkit.errors import BertkitError
from bertkit.models.load import replace_attention

PREFIX = "padding_free_"  # of attention names; in memory only, for transformers writes none into config.json
STACKS = dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra", "albert"), "encoder")  # in the base model
STACKS["distilbert"] = "transformer"
FEW_LENGTHS = 8  # up to here, one dense product a length was faster than padding to the longest; at 18 it was not

# query, key, value (B, A, S, D), a mask that broadcasts to (B, A, S, S) or None -> (B, S, A, D)
Dense = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def make_padding_free(model: PreTrainedModel, only_in_training: bool = False) -> None:
    """Let the layer stack of a model see (1, T, H) ragged tokens; everything around it still sees (B, S, H).

    Hidden states of padding are zero. Where nothing is padded, no 2-D mask is given, or hidden states or attentions by
    layer are wanted, the padded path is taken.

    Args:
        only_in_training: answers are computed with padding, to the last digit as by the model that is loaded later.
    """
    if reason := obstacle(model):
        raise BertkitError(f"hardware.padding_free: {reason}", hint="leave it out, or set hardware.padding_free=false")
    base = model.base_model
    stack = getattr(base, STACKS[model.config.model_type])
    before = model.config._attn_implementation
    attend = partial(_attention, ALL_ATTENTION_FUNCTIONS[before])
    replace_attention(model, before, PREFIX + before, attend, ALL_MASK_ATTENTION_FUNCTIONS[before])
    base.register_forward_pre_hook(partial(_catch_mask, only_in_training), with_kwargs=True)
    stack.forward = partial(_without_padding, stack.forward)


def is_padding_free(model: PreTrainedModel) -> bool:
    """Whether a model was made padding-free."""
    return model.config._attn_implementation.startswith(PREFIX)


def attention_dropout(config: PreTrainedConfig) -> float:
    """The dropout rate of attention probabilities, by whatever name the family has it."""
    return max([0, *(rate or 0 for name, rate in vars(config).items() if "attention" in name and "dropout" in name)])


def obstacle(model: PreTrainedModel) -> str | None:
    """Why a model cannot run without padding, in words."""
    config = model.config
    if config.model_type not in STACKS or getattr(config, "is_decoder", False):
        return f"{config.model_type} cannot run without padding; {', '.join(STACKS)} can"
    if config._attn_implementation == "eager":
        return "eager attention needs padding; model.attention=sdpa does not"
    return None


def _catch_mask(only_in_training: bool, base: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Before the base model: the 2-D mask becomes the layout of the batch; inside, it would be 4-D."""
    mask, by_layer = kwargs.get("attention_mask"), ("output_hidden_states", "output_attentions")
    wants_layers = any(kwargs.get(name, getattr(base.config, name, False)) for name in by_layer)
    is_answering = only_in_training and not base.training
    if is_answering or wants_layers or not isinstance(mask, Tensor) or mask.ndim != 2:
        return None
    ragged = ragged_of(mask)
    unmasked = {**kwargs, "attention_mask": None}
    return args, unmasked if ragged is None else {**unmasked, "ragged": ragged}


def _without_padding(forward: Callable, hidden_states: Tensor, *args: object, **kwargs: object) -> object:
    """The layer stack's forward pass, (B, S, H) -> (1, T, H) before it and back after it."""
    ragged = kwargs.get("ragged")
    if ragged is None:
        return forward(hidden_states, *args, **kwargs)
    outputs = forward(ragged.unpad(hidden_states)[None], *args, **kwargs)
    # else every token would have attended to the whole batch, silently
    assert ragged.readers, f"{type(forward.__self__).__name__} does not hand the layout of the batch to its attention"
    outputs.last_hidden_state = ragged.repad(outputs.last_hidden_state[0])
    return outputs


def _attention(
    plain: Callable, module: nn.Module, *given: Tensor | None, **kwargs: object
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls in every layer, with (1, A, T, D) query, key and value, or (B, A, S, D) when padded."""
    ragged = kwargs.get("ragged")
    if ragged is None:
        return plain(module, *given, **kwargs)
    ragged.readers += 1
    scaling, dropout = kwargs["scaling"], kwargs["dropout"]

    def dense(*heads: Tensor | None) -> Tensor:
        return plain(module, *heads, scaling=scaling, dropout=dropout)[0]

    states = (states[0].transpose(0, 1) for states in given[:3])
    return varlen_attention(*states, ragged, scaling, dropout, dense)[None], None


@dataclass(eq=False)
class Ragged:
    """The layout of B sequences of T tokens in all, made once a batch and read by every layer."""

    mask: Tensor  # (B, S) bool, true on tokens
    lengths: Sequence[int]  # tokens of each sequence, on the host
    index: Tensor  # (T,) int64, position of each token in the flattened (B * S) grid
    readers: int = 0  # calls of the attention that have read this layout

    @cached_property
    def cu_seq_lens(self) -> Tensor:
        """(B + 1,) int32: where each sequence begins, and where the last one ends."""
        return functional.pad(self.mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def groups(self) -> tuple[list[tuple[int, int]], Tensor | None, Tensor | None]:
        """The sequences by length: how many have how many tokens, the longest first; and (T,) int64, the tokens group
        by group, with the inverse of that, or None where a batch was dealt from long to short.
        """
        filled = [length for length in self.lengths if length]
        shapes = [(count, length) for length, count in sorted(Counter(filled).items(), reverse=True)]
        if filled == sorted(filled, reverse=True):
            return shapes, None, None
        lengths = torch.tensor(filled)
        order = torch.repeat_interleave(lengths, lengths).argsort(descending=True, stable=True)
        return shapes, order.to(self.index.device), order.argsort().to(self.index.device)

    def unpad(self, grid: Tensor) -> Tensor:
        """(B, S, ...), padding included -> (T, ...) tokens in row order."""
        return grid.flatten(0, 1).index_select(0, self.index)

    def repad(self, tokens: Tensor) -> Tensor:
        """(T, ...) tokens in row order -> (B, S, ...); padding becomes zero."""
        grid = tokens.new_zeros(self.mask.numel(), *tokens.shape[1:])
        return grid.index_copy(0, self.index, tokens).unflatten(0, self.mask.shape)


def ragged_of(mask: Tensor) -> Ragged | None:
    """The layout of a batch by its mask, (B, S), 1 on tokens and 0 on padding; None when nothing is padded.

    Nothing waits for the device when the mask has its `lengths` with it (`Collator` sees to that);
    without them they are read from the device, once a batch.
    """
    is_token = mask != 0
    lengths = getattr(mask, "lengths", None)
    if lengths is None:
        lengths = is_token.sum(1).tolist()
    count = sum(lengths)
    if count == mask.numel():
        return None
    # int64 index of a size that is known, not a bool mask: a mask would sync the device
    return Ragged(is_token, lengths, torch.nonzero_static(is_token.view(-1), size=count).view(-1))


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float, dense: Dense
) -> Tensor:
    """Every token attends to the tokens of its own sequence, by the way that is cheapest for this batch.

    Args:
        query: (T, A, D), as `key`, `value` and the result are.
        dense: attention over a dense batch, with this factor of the scores and this rate, for the ways that need one.
    """
    size = query.shape[-1]
    # FlashAttention over sequences of any length; torch's has no dropout, and wants multiples of 8 up to 256
    if dropout == 0 and size % 8 == 0 and size <= 256 and has_kernel(query.device, query.dtype):
        from torch.nn.attention import varlen

        ends, longest = ragged.cu_seq_lens, max(ragged.lengths)
        return varlen.varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling)
    attend = grouped_attention if len(ragged.groups[0]) <= FEW_LENGTHS else padded_attention
    return attend(query, key, value, ragged, dense)


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's variable-length kernel runs on this device in this arithmetic: NVIDIA from sm80, 16 bits."""
    is_16_bit = dtype in (torch.float16, torch.bfloat16)
    return device.type == "cuda" and is_16_bit and torch.cuda.get_device_capability(device) >= (8, 0)


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, dense: Dense) -> Tensor:
    """One dense product for the sequences of each length. Arguments as of `varlen_attention`."""
    shapes, order, back = ragged.groups
    if order is not None:
        query, key, value = (states.index_select(0, order) for states in (query, key, value))
    sizes = [count * length for count, length in shapes]
    found = []
    for shape, *states in zip(shapes, *(states.split(sizes) for states in (query, key, value)), strict=True):
        heads = (part.unflatten(0, shape).transpose(1, 2) for part in states)
        found.append(dense(*heads, None).flatten(0, 1))
    tokens = torch.cat(found)
    return tokens if back is None else tokens.index_select(0, back)


def padded_attention(query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, dense: Dense) -> Tensor:
    """The reference: on the padded grid, with padding masked as a key. Arguments as of `varlen_attention`."""
    heads = (ragged.repad(states).transpose(1, 2) for states in (query, key, value))
    return ragged.unpad(dense(*heads, ragged.mask[:, None, None, :]))
