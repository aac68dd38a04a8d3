"""Dropout on a CPU: another generator, the same mathematics as torch's."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from bertkit.models.dropout import LEVELS, CpuDropout, Drop, DropAttention, kept, speed_up
from bertkit.models.load import load_model
from bertkit.recipe import ModelConfig
from tests.tiny import ARCHITECTURES


@pytest.fixture
def make(tiny):
    """A model of an architecture, with a head for two classes."""

    def make(architecture: str, **settings) -> nn.Module:
        config = ModelConfig(checkpoint=str(tiny(architecture)), **settings)
        return load_model(config, "class", ("no", "yes"), 0).model

    return make


RATES = (0.0, 1e-6, 0.1, 0.25, 0.5, 0.9)


@pytest.mark.parametrize("rate", RATES)
def test_the_rate_is_met_and_the_scale_is_its_exact_inverse(rate):
    torch.manual_seed(0)
    count = 400_000
    mask, scale = kept(torch.Size((400, 1000)), rate)
    share = 1 / scale
    assert abs(share - (1 - rate)) <= 0.5 / LEVELS
    deviation = math.sqrt(max(share * (1 - share), 1e-12) / count)
    assert abs(mask.float().mean().item() - share) < 5 * deviation


def test_elements_are_dropped_independently_of_their_neighbours():
    torch.manual_seed(1)
    mask, _ = kept(torch.Size((1000, 400)), 0.5)
    values = mask.float() - 0.5
    for other in (values.roll(1, 1), values.roll(2, 1), values.roll(4, 1), values.roll(1, 0)):
        assert abs((values * other).mean().item() * 4) < 5 / math.sqrt(values.numel())


def test_what_torch_was_seeded_with_decides():
    def draw(seed: int) -> list:
        torch.manual_seed(seed)
        return [kept(torch.Size((7, 9)), 0.3)[0].tolist() for _ in range(2)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(5)[0] != draw(5)[1]


@pytest.mark.parametrize("shape", [(1,), (3,), (4, 5), (2, 3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_and_gradients_pass_where_they_are_kept(shape, dtype):
    values = torch.randn(shape, dtype=dtype, requires_grad=True)
    torch.manual_seed(2)
    out = Drop.apply(values, 0.4)
    torch.manual_seed(2)
    mask, scale = kept(values.shape, 0.4)
    assert torch.equal(out, (values * mask).mul(scale).to(dtype))
    out.backward(torch.ones_like(out))
    assert torch.equal(values.grad, mask.to(dtype).mul(scale))


def test_values_that_are_not_contiguous_are_no_exception():
    values = torch.randn(4, 6).t()
    torch.manual_seed(2)
    out = Drop.apply(values, 0.4)
    torch.manual_seed(2)
    mask, scale = kept(values.shape, 0.4)
    assert torch.equal(out, values * mask * scale)


def plain(query, key, value, bias, scaling, rate):
    """The same attention in plain steps, for autograd to differentiate."""
    scores = (query * scaling) @ key.transpose(2, 3)
    probabilities = torch.softmax(scores if bias is None else scores + bias, -1)
    mask, scale = kept(probabilities.shape, rate)
    return (probabilities * mask * scale) @ value


@pytest.mark.parametrize("with_bias", [False, True])
def test_attention_and_its_gradients_equal_the_plain_twin(with_bias):
    torch.manual_seed(3)
    bias = None
    if with_bias:
        bias = torch.zeros(2, 1, 6, 6)
        bias[0, :, :, 4:] = torch.finfo(torch.float32).min
    weights = torch.randn(2, 3, 6, 8)
    found = []
    for function in (DropAttention.apply, plain):
        generator = torch.Generator().manual_seed(4)
        inputs = [torch.randn(2, 3, 6, 8, generator=generator).requires_grad_() for _ in range(3)]
        torch.manual_seed(5)
        out = function(*inputs, bias, 0.35, 0.2)
        (out * weights).sum().backward()
        found.append([out.detach(), *(entry.grad for entry in inputs)])
    for fast, twin in zip(*found, strict=True):
        assert torch.allclose(fast, twin, atol=1e-6)


def test_gradients_are_right_by_finite_differences():
    inputs = [torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def function(*given):
        torch.manual_seed(6)
        return DropAttention.apply(*given, None, 0.5, 0.3)

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_dropout_a_model_says_exactly_what_it_said(make, architecture):
    model = make(architecture)
    ids = torch.randint(5, 40, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    model.eval()
    before = model(input_ids=ids, attention_mask=mask).logits
    speed_up(model)
    assert not model.training
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_the_same_from_the_same_seed(make, architecture):
    model = make(architecture)
    names = list(model.state_dict())
    speed_up(model)
    assert list(model.state_dict()) == names
    assert not [module for module in model.modules() if type(module) is nn.Dropout]
    model.train()
    ids = torch.randint(5, 40, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        model.zero_grad()
        model(input_ids=ids, attention_mask=mask).logits.sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert all(gradient.isfinite().all() for gradient in found[0])


@pytest.mark.parametrize("heads", [None, 1])
def test_a_decoder_does_not_look_ahead(heads):
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, pad_token_id=0,
                         num_attention_heads=2, num_key_value_heads=heads, attention_dropout=1e-6)  # fmt: skip
    model = LlamaModel(config).train()
    speed_up(model)
    ids = torch.full((2, 8), 5)
    ids[1, 5] = 7
    first, second = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(first[:5], second[:5])


def test_padding_gets_nothing(make):
    model = make("bert")
    speed_up(model)
    model.train()
    ids = torch.randint(5, 40, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    changed = ids.clone()
    changed[1, 5:] = 7
    found = []
    for given in (ids, changed):
        torch.manual_seed(8)
        found.append(model(input_ids=given, attention_mask=mask).logits)
    assert torch.equal(*found)


def test_gradient_checkpointing_draws_the_same_masks_again(make):
    model = make("bert")
    speed_up(model)
    model.train()
    ids = torch.randint(5, 40, (3, 9))
    found = []
    for _ in range(2):
        torch.manual_seed(9)
        model.zero_grad()
        model(input_ids=ids).logits.sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert all(torch.allclose(*pair, atol=1e-7) for pair in zip(*found, strict=True))


def test_the_saved_model_names_no_function_of_ours(make, tmp_path):
    model = make("bert")
    speed_up(model)
    model.save_pretrained(tmp_path)
    assert "bertkit" not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["attention_probs_dropout_prob"] >= 0


def test_the_default_device_decides():
    layer = CpuDropout(0.5)
    assert torch.equal(layer.eval()(torch.ones(4)), torch.ones(4))
    assert layer.train()(torch.ones(4, device="meta")).device.type == "meta"
