"""Dropout on a CPU, several times faster than torch's, which draws its numbers one by one."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import PreTrainedModel

from bertkit.models.load import replace_attention

CACHED = 1 << 17  # scores of a block, for each thread: half a MB, and as much again for what is made of them
LEVELS = 1 << 16  # a rate is rounded to a multiple of 1 / LEVELS, and rescaled by what it was rounded to


def kept(shape: torch.Size, rate: float) -> tuple[Tensor, float]:
    """Which elements stay, (shape) bool, and what to multiply them by: 1 / the share that is kept.

    The numbers come from SFC64, seeded from torch's generator: a step that is seeded again draws the same.
    """
    count, threshold = shape.numel(), round(rate * LEVELS)
    seed = int(torch.randint(1 << 62, ()))
    # raw words, four elements each: `Generator.bytes` takes six times as long
    words = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.uint16)[:count]
    return torch.from_numpy(words >= threshold).view(shape), LEVELS / (LEVELS - threshold)


def times(values: Tensor, mask: Tensor) -> Tensor:
    """`values * mask`; torch multiplies float32 by bool at half the speed of numpy."""
    if values.dtype != torch.float32 or not values.is_contiguous():
        return values * mask
    return torch.from_numpy(np.multiply(values.detach().numpy(), mask.numpy()))


class Drop(torch.autograd.Function):
    """Dropout with a mask of one byte an element."""

    @staticmethod
    def forward(ctx, values: Tensor, rate: float) -> Tensor:
        mask, ctx.scale = kept(values.shape, rate)
        ctx.save_for_backward(mask)
        return times(values, mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return times(gradient, mask).mul_(ctx.scale), None


class CpuDropout(nn.Dropout):
    """`nn.Dropout`, which it is on any device but a CPU."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0 or values.device.type != "cpu":
            return super().forward(values)
        return Drop.apply(values, self.p)


class DropAttention(torch.autograd.Function):
    """Softmax attention whose probabilities are dropped; torch's own falls to its slowest path for that.

    It works on a few heads at a time, so that their scores stay in a processor's cache from the first product to the
    last. The heads of one text are multiplied where they lie, those of several are copied once; (B, S, A, D) is how the
    linear layers before and after want them. The scale of dropout is applied to the values, which are fewer than the
    probabilities.
    """

    @staticmethod
    def forward(
        ctx, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, rate: float
    ) -> Tensor:
        """(B, A, S, D) each, and a (B, 1, S, S) bias -> (B, A, S, D), which lies in memory as (B, S, A, D)."""
        batch, heads, length, _ = query.shape
        mask, ctx.scale = kept(torch.Size((batch, heads, length, length)), rate)
        mixed, saved = empty_like(query), []
        for block in blocks(query):
            some = [part[block].flatten(0, 1) for part in (query, key, value)]
            scores = torch.bmm(some[0] * scaling, some[1].mT)
            if bias is not None:
                scores.view(-1, *mask[block].shape[1:]).add_(bias[block[0]])
            probabilities = torch.softmax(scores, -1)
            dropped = times(probabilities, mask[block].flatten(0, 1))
            put(mixed, block, torch.bmm(dropped, some[2] * ctx.scale))
            saved += [*some, probabilities]
        ctx.save_for_backward(mask, *saved)
        ctx.scaling = scaling
        return mixed

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mask, *saved = ctx.saved_tensors
        for_query, for_key, for_value = (empty_like(gradient) for _ in range(3))
        for number, block in enumerate(blocks(gradient)):
            query, key, value, probabilities = saved[4 * number : 4 * number + 4]
            kept_here = mask[block].flatten(0, 1)
            scaled = (gradient[block] * ctx.scale).flatten(0, 1)
            put(for_value, block, torch.bmm(times(probabilities, kept_here).mT, scaled))
            for_scores = torch._softmax_backward_data(
                times(torch.bmm(scaled, value.mT), kept_here), probabilities, -1, probabilities.dtype
            ).mul_(ctx.scaling)
            put(for_query, block, torch.bmm(for_scores, key))
            put(for_key, block, torch.bmm(for_scores.mT, query))
        return for_query, for_key, for_value, None, None, None


def blocks(query: Tensor) -> list[tuple[slice, slice]]:
    """Texts and heads of (B, A, S, D) whose scores fit into the caches: several texts, or some heads of one."""
    batch, heads, length, _ = query.shape
    room = max(1, CACHED * torch.get_num_threads() // length**2)  # heads of a block
    texts, some = (max(1, room // heads), heads) if room >= heads else (1, room)
    return [
        (slice(text, text + texts), slice(head, head + some))
        for text in range(0, batch, texts)
        for head in range(0, heads, some)
    ]


def put(heads: Tensor, block: tuple[slice, slice], some: Tensor) -> None:
    """Write (B * A, S, D) to a block of (B, A, S, D)."""
    place = heads[block]
    place.copy_(some.view(place.shape))


def empty_like(heads: Tensor) -> Tensor:
    """Memory for (B, A, S, D) that lies as (B, S, A, D)."""
    batch, count, length, width = heads.shape
    return heads.new_empty(batch, length, count, width).transpose(1, 2)


def attention(
    module: nn.Module, *given: Tensor | None, dropout: float = 0.0, scaling: float | None = None, **others: object
) -> tuple[Tensor, None]:
    """transformers' `sdpa`, but for dropout on a CPU. Given: query, key and value (B, A, S, D), and a mask or bias."""
    query, key, value, bias = given
    # a decoder without a mask looks at no later token, and may share keys between heads
    is_other = getattr(module, "is_causal", True) or key.shape != query.shape or others.get("position_bias") is not None
    if dropout == 0 or query.device.type != "cpu" or is_other:
        return sdpa_attention_forward(module, *given, dropout=dropout, scaling=scaling, **others)
    if bias is not None and bias.dtype == torch.bool:
        bias = torch.zeros(bias.shape, dtype=query.dtype).masked_fill_(~bias, torch.finfo(query.dtype).min)
    mixed = DropAttention.apply(query, key, value, bias, scaling or query.shape[-1] ** -0.5, dropout)
    return mixed.transpose(1, 2), None


def speed_up(model: PreTrainedModel) -> str:
    """Give a model these forms of dropout; names and weights stay as they are. Returns the name of the generator."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CpuDropout  # which has no state of its own
    replace_attention(model, "sdpa", "bertkit_dropout", attention, sdpa_mask)
    return "sfc64"
