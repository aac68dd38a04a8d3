"""A compact vocabulary learns what the full one learns, and nobody outside of training can tell them apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from bertkit.models.load import load_model
from bertkit.models.vocabulary import UsedEmbedding, follow_decay, train_used_rows
from bertkit.recipe import ModelConfig, TrainConfig
from bertkit.train.optim import learning_rate_at, make_optimizer

FAMILIES = ("bert", "albert", "roberta", "distilbert", "electra")
USED = np.array([0, 1, 2, 3, 7, 9, 11])  # the special tokens and a few others
STEPS = 12


def load(folder, dropout: float = 0.0):
    config = ModelConfig(checkpoint=str(folder), dropout=dropout)
    return load_model(config, "class", ("a", "b"), 0).model


def train(model, decay: float, pause: int = 10**9) -> nn.Module:
    """A few steps on the rows in use; every `pause` steps it is asked for an answer in between."""
    config = TrainConfig(learning_rate=1e-2, weight_decay=decay)
    optimizer = make_optimizer(model, config)
    follow_decay(model, optimizer)
    draws = np.random.default_rng(0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, STEPS, config)
        ids = torch.from_numpy(draws.choice(USED, (4, 6)))
        labels = torch.from_numpy(draws.integers(0, 2, 4))
        model.train()(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % pause == 0:
            with torch.inference_mode():
                model.eval()(input_ids=ids)
    return model


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_compact_vocabulary_learns_what_the_full_one_learns(tiny, family, decay):
    full, compact = load(tiny(family)), load(tiny(family))
    before = full.get_input_embeddings().weight.detach().clone()
    assert train_used_rows(compact, USED)
    full, compact = train(full, decay).state_dict(), train(compact, decay).state_dict()
    assert list(full) == list(compact)
    for name, value in full.items():
        torch.testing.assert_close(compact[name], value, rtol=0, atol=1e-6)
    unused = np.setdiff1d(np.arange(len(before)), USED)
    embeddings = next(value for value in full.values() if value.shape == before.shape)
    moved = float((embeddings[unused] - before[unused]).abs().max())
    assert moved == 0 if decay == 0 else moved > 1e-4


def test_asking_in_between_changes_no_bit(tiny):
    weights = []
    for pause in (1, 5, STEPS + 1):
        model = load(tiny("bert"))
        train_used_rows(model, USED)
        weights.append(train(model, 0.1, pause).state_dict())
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


def test_it_saves_and_loads_under_the_names_of_the_full_one(tiny, tmp_path):
    compact = load(tiny("bert"))
    train_used_rows(compact, USED)
    train(compact, 0.1).save_pretrained(tmp_path)
    plain = load(tmp_path)
    assert type(plain.get_input_embeddings()) is nn.Embedding
    again = load(tiny("bert"))
    train_used_rows(again, USED)
    again.load_state_dict(compact.state_dict())
    ids = torch.tensor([[2, 5, 9, 40, 3]])  # with rows that training never read
    with torch.inference_mode():
        expected = compact.eval()(input_ids=ids).logits
        for model in (plain, again):
            assert torch.equal(model.eval()(input_ids=ids).logits, expected)
        # what was loaded is what training goes on from
        assert torch.equal(again.get_input_embeddings().rows, compact.get_input_embeddings().rows)


def test_the_row_of_padding_stays_as_it_is(tiny):
    model = load(tiny("bert"))
    pad = model.config.pad_token_id
    before = model.get_input_embeddings().weight[pad].detach().clone()
    train_used_rows(model, USED)
    assert pad in USED
    train(model, 0.0)
    assert torch.equal(model.get_input_embeddings().weight[pad], before)


def test_every_row_in_use_learns_where_training_reads_no_padding():
    embedding = UsedEmbedding(nn.Embedding(12, 4, padding_idx=0), USED[1:])
    embedding(torch.from_numpy(USED[1:])).sum().backward()
    assert (embedding.rows.grad == 1).all()


def test_a_row_that_was_not_announced_is_refused_in_training(tiny):
    model = load(tiny("bert"))
    train_used_rows(model, USED)
    with pytest.raises(IndexError):
        model.train()(input_ids=torch.tensor([[2, 5, 3]]))


def test_embeddings_that_are_the_output_layer_or_mostly_in_use_stay_whole(tiny):
    tied = AutoModelForMaskedLM.from_pretrained(tiny("bert"))
    assert not train_used_rows(tied, USED)
    model = load(tiny("bert"))
    assert not train_used_rows(model, np.arange(model.config.vocab_size))
    assert not any(isinstance(module, UsedEmbedding) for module in (*tied.modules(), *model.modules()))
