"""A language-model head that computes only the tokens that are asked for."""

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput


def only_places(model: PreTrainedModel) -> None:
    """Let a model's head see, in place, the hidden states of some tokens alone: those that `ask` has named.

    The head works on each token for itself, and its product with the vocabulary costs more than the encoder of a small
    model. Logits are then (1, M, V), of the M tokens in the order of their places.
    """
    asked: list[Tensor | None] = []

    def look(module: PreTrainedModel, given: tuple, named: dict) -> None:
        asked[:] = [getattr(named.get("attention_mask"), "places", None)]

    def gather(module: PreTrainedModel, given: tuple, outputs: ModelOutput) -> None:
        (places,) = asked
        if places is not None:
            outputs.last_hidden_state = outputs.last_hidden_state.flatten(0, 1).index_select(0, places)[None]

    # before whatever takes the mask away, such as `padding_free`
    model.base_model.register_forward_pre_hook(look, with_kwargs=True, prepend=True)
    model.base_model.register_forward_hook(gather)


def ask(mask: Tensor, places: Tensor) -> None:
    """Name the tokens whose logits are wanted: (M,) int64 positions in the flattened (B * S) grid."""
    mask.places = places
