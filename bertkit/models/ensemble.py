"""Several trained models in the place of one: each reads the same batch, and their outputs are averaged."""

from collections.abc import Sequence
from inspect import signature
from types import SimpleNamespace

from torch import Tensor, nn

from bertkit.errors import BertkitError
from bertkit.heads import Head


class Ensemble(nn.Module):
    """Takes what its models take, and gives what one of them does."""

    def __init__(self, models: Sequence[nn.Module], head: Head) -> None:
        """Hold models of one head that read the same ids."""
        super().__init__()
        self.models, self.head = nn.ModuleList(models), head
        self.config = models[0].config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """(B, S) int64 each, of which a model may take fewer; gives the outputs of the head by name, float32."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        found = []
        for model in self.models:
            takes = signature(model.forward).parameters
            outputs = model(**{name: given[name] for name in given if name in takes and given[name] is not None})
            found.append([getattr(outputs, name).float() for name in self.head.outputs])
        averaged = map(self.head.averaged, zip(*found, strict=True))
        return SimpleNamespace(**dict(zip(self.head.outputs, averaged, strict=True)))

    def get_input_embeddings(self) -> nn.Module:
        raise BertkitError("attributions explain one model", hint="give one run")
