"""Encoders that compute tokens and no padding: unpadded before the layer stack, padded again after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bertkit.errors import BertkitError
from bertkit.models.load import replace_attention
from bertkit.models.varlen import ragged_of, varlen_attention

PREFIX = "padding_free_"  # of attention names; in memory only, for transformers writes none into config.json
STACKS = {  # model type -> the layer stack of its base model
    "bert": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
    "electra": "encoder",
    "albert": "encoder",
    "distilbert": "transformer",
}


def make_padding_free(model: PreTrainedModel, only_in_training: bool = False) -> None:
    """Let the layer stack of a model see (1, T, H) ragged tokens; everything around it still sees (B, S, H).

    Hidden states of padding are zero. Where nothing is padded, no 2-D mask is given, or hidden states or attentions by
    layer are wanted, the padded path is taken.

    Args:
        only_in_training: answers are computed with padding, to the last digit as by the model that is loaded later.
    Raises:
        BertkitError: an architecture or attention that is not known to work.
    """
    if reason := obstacle(model):
        raise BertkitError(f"hardware.padding_free: {reason}", hint="leave it out, or set hardware.padding_free=false")
    base = model.base_model
    stack = getattr(base, STACKS[model.config.model_type])
    before = model.config._attn_implementation
    attend = partial(_attention, ALL_ATTENTION_FUNCTIONS[before])
    replace_attention(model, before, PREFIX + before, attend, ALL_MASK_ATTENTION_FUNCTIONS[before])
    base.register_forward_pre_hook(partial(_catch_mask, only_in_training), with_kwargs=True)
    stack.register_forward_pre_hook(_unpad_states, with_kwargs=True)
    stack.register_forward_hook(_repad_states, with_kwargs=True)


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


def _unpad_states(stack: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Before the layer stack: (B, S, H) -> (1, T, H)."""
    ragged = kwargs.get("ragged")
    if ragged is None:
        return None
    if args:
        return (ragged.unpad(args[0])[None], *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": ragged.unpad(kwargs["hidden_states"])[None]}


def _repad_states(stack: nn.Module, args: tuple, kwargs: dict, outputs: object) -> object:
    """After the layer stack: (1, T, H) -> (B, S, H)."""
    ragged = kwargs.get("ragged")
    if ragged is not None:
        # else every token would have attended to the whole batch, silently
        assert ragged.readers, f"{type(stack).__name__} does not hand the layout of the batch to its attention"
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
