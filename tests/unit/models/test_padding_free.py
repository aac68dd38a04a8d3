"""A padding-free encoder says what the padded one says, to rounding, and everything around it stays as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from bertkit.errors import BertkitError
from bertkit.heads import HEADS
from bertkit.models import dropout, padding_free, ready
from bertkit.models.load import load_model
from bertkit.models.padding_free import STACKS, make_padding_free, ragged_of
from bertkit.models.ready import choose_padding
from bertkit.recipe import HardwareConfig, ModelConfig
from bertkit.run import evaluate, finetune
from bertkit.rundir import RunDir
from bertkit.train import keep
from tests.families import dense_attention
from tests.rows import BUNDLED
from tests.tiny import ARCHITECTURES

LABELS = {"class": ("a", "b", "c"), "multilabel": ("a", "b", "c"), "number": (), "token": ("a", "b", "c"), "span": ()}
BATCHES = {
    "mixed": (7, 30, 12, 12, 3, 1),
    "one token beside many": (1, 60, 1),
    "many lengths": tuple(range(2, 21)),
    "all equal": (9, 9, 9),
    "a single row": (17,),
}
DEVICES = {name: torch.device(name) for name in ("cpu", "cuda")}


def model_of(folder: Path, head: str = "class", **settings: object) -> PreTrainedModel:
    """With noise on the weights: fresh ones are so small that attention is all but uniform."""
    config = ModelConfig(checkpoint=str(folder), **{"dropout": 0.0, **settings})
    model = load_model(config, head, LABELS[head], seed=0).model
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) * 0.1
    return model.train()


def twin_of(model: PreTrainedModel) -> PreTrainedModel:
    twin = copy.deepcopy(model)
    make_padding_free(twin)
    return twin


def batch_of(model: PreTrainedModel, lengths: tuple[int, ...], more: int = 0) -> dict[str, Tensor]:
    """Random ids; `more` columns of nothing but padding."""
    width = max(lengths) + more
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, model.config.vocab_size, mask.shape, generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": torch.where(mask.bool(), ids, model.config.pad_token_id), "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 1) > 1 and model.config.model_type != "distilbert":
        inputs["token_type_ids"] = (torch.arange(width) > width // 2).long() * mask
    return inputs


def logits_of(model: PreTrainedModel, head: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits of rows, or of tokens alone: those of padding are nobody's business."""
    outputs = model(**inputs)
    logits = torch.stack([getattr(outputs, name) for name in HEADS[head].outputs], -1)
    return logits[inputs["attention_mask"].bool()] if HEADS[head].per_token else logits


def gradients_of(model: PreTrainedModel, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits.double().square().sum().backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


# the same numbers


@pytest.mark.parametrize("head", LABELS)
@pytest.mark.parametrize("architecture", STACKS)
def test_logits_and_gradients_are_those_of_the_padded_model(tiny, architecture, head):
    model = model_of(tiny(architecture), head)
    twin = twin_of(model)
    for what, lengths in BATCHES.items():
        inputs = batch_of(model, lengths)
        logits, same = logits_of(model, head, inputs), logits_of(twin, head, inputs)
        torch.testing.assert_close(same, logits, atol=1e-6, rtol=1e-6, msg=f"logits, {what}")
        gradients = gradients_of(model, logits / logits.numel())
        for name, gradient in gradients_of(twin, same / same.numel()).items():
            close = torch.isclose(gradient, gradients[name], atol=2e-7, rtol=1e-5)
            assert close.all(), f"{what}: gradient of {name}"
        assert gradients.keys() == dict(twin.named_parameters()).keys() - _unused(twin)


def _unused(model: PreTrainedModel) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.grad is None}


@pytest.mark.parametrize("few", [0, 99], ids=["padded", "grouped"])
def test_every_way_of_attention_says_the_same(tiny, monkeypatch, few):
    model = model_of(tiny("bert"), "token")
    monkeypatch.setattr(padding_free, "FEW_LENGTHS", few)
    for lengths in BATCHES.values():
        inputs = batch_of(model, lengths, more=2)
        torch.testing.assert_close(
            logits_of(twin_of(model), "token", inputs), logits_of(model, "token", inputs), atol=1e-6, rtol=1e-6
        )


def test_padding_on_the_left_is_left_out_as_well(tiny):
    model = model_of(tiny("bert"), "token")
    inputs = {name: tensor.flip(1) for name, tensor in batch_of(model, BATCHES["mixed"]).items()}
    torch.testing.assert_close(
        logits_of(twin_of(model), "token", inputs), logits_of(model, "token", inputs), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("architecture", STACKS)
def test_the_stack_sees_tokens_and_nothing_else(tiny, architecture):
    model = twin_of(model_of(tiny(architecture), "token"))
    seen = []
    layers = [module for module in model.modules() if type(module).__name__.endswith(("Layer", "Block"))]
    for layer in layers:
        layer.register_forward_pre_hook(
            lambda layer, args, kwargs: seen.append((args[0].shape, [*args[1:], kwargs.get("attention_mask")])),
            with_kwargs=True,
        )
    model(**batch_of(model, (5, 20, 2)))
    assert len(seen) == 2
    for shape, masks in seen:
        assert shape == (1, 27, 32)
        assert set(masks) == {None}


@pytest.mark.parametrize("architecture", STACKS)
def test_gradient_checkpointing_works(tiny, architecture):
    model = model_of(tiny(architecture), "token")
    if not model.supports_gradient_checkpointing:
        pytest.skip("transformers has none for it")
    twin = twin_of(model)
    inputs = batch_of(model, BATCHES["mixed"])
    gradients = gradients_of(model, logits_of(model, "token", inputs))
    getattr(twin, "activation_checkpointing_enable", twin.gradient_checkpointing_enable)()
    for name, gradient in gradients_of(twin, logits_of(twin, "token", inputs)).items():
        torch.testing.assert_close(gradient, gradients[name], atol=2e-5, rtol=1e-5)


# the padded path


@pytest.mark.parametrize("architecture", STACKS)
def test_hidden_states_by_layer_come_from_the_padded_path(tiny, architecture):
    model = model_of(tiny(architecture))
    inputs = {**batch_of(model, BATCHES["mixed"]), "output_hidden_states": True}
    plain, ours = (each(**inputs).hidden_states for each in (model, twin_of(model)))
    assert len(ours) == 3
    for one, other in zip(ours, plain, strict=True):
        assert torch.equal(one, other)


def test_a_configuration_that_wants_layers_gets_them(tiny):
    model = model_of(tiny("bert"))
    model.config.output_hidden_states = True
    inputs = batch_of(model, BATCHES["mixed"])
    assert torch.equal(twin_of(model)(**inputs).hidden_states[1], model(**inputs).hidden_states[1])


@pytest.mark.parametrize("mask", ["none", "full", "of four dimensions"])
def test_without_padding_or_without_a_plain_mask_the_padded_path_is_taken(tiny, monkeypatch, mask):
    model = model_of(tiny("bert"), "token")
    inputs = batch_of(model, (6, 9) if mask == "of four dimensions" else (9, 9))
    tokens = inputs["attention_mask"].bool()
    if mask == "none":
        del inputs["attention_mask"]
    elif mask == "of four dimensions":
        inputs["attention_mask"] = tokens[:, None, None, :].expand(-1, 1, 9, -1)
    monkeypatch.setattr(padding_free, "varlen_attention", None)
    assert torch.equal(twin_of(model)(**inputs).logits, model(**inputs).logits)


# everything around it


@pytest.mark.parametrize("architecture", STACKS)
def test_weights_and_configuration_on_disk_are_unchanged(tiny, tmp_path, architecture):
    model = model_of(tiny(architecture), "class")
    twin = twin_of(model)
    assert list(twin.state_dict()) == list(model.state_dict())
    model.save_pretrained(tmp_path / "plain")
    twin.save_pretrained(tmp_path / "free")
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    assert names == {path.name for path in (tmp_path / "free").iterdir()}
    for name in names:
        assert (tmp_path / "free" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert "padding_free" not in (tmp_path / "free" / "config.json").read_text()
    assert AutoModel.from_pretrained(tmp_path / "free").config._attn_implementation == "sdpa"


@pytest.mark.parametrize("architecture", STACKS)
@pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
def test_nothing_is_read_from_the_device(tiny, architecture, lengths):
    """On the meta device tensors have no values: whoever wants to read one, and would wait for a GPU, fails."""
    meta = torch.device("meta")
    model = twin_of(model_of(tiny(architecture), "token"))
    inputs = batch_of(model, lengths)
    model.to(meta)
    there = {name: tensor.to(meta) for name, tensor in inputs.items()}
    there["attention_mask"].lengths = inputs["attention_mask"].sum(1).tolist()  # as the collator leaves them
    model(**there).logits.sum().backward()
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        model(**{name: tensor.to(meta) for name, tensor in inputs.items()})


def test_layers_that_drop_the_layout_are_noticed(tiny, monkeypatch):
    model = twin_of(model_of(tiny("bert")))
    for layer in model.bert.encoder.layer:
        forward = layer.forward
        monkeypatch.setattr(
            layer, "forward", lambda *args, ragged=None, forward=forward, **rest: forward(*args, **rest)
        )
    with pytest.raises(AssertionError, match="BertEncoder does not hand the layout of the batch to its attention"):
        model(**batch_of(model, BATCHES["mixed"]))


# the CUDA kernel, played by the reference


def test_the_kernel_gets_what_it_wants(monkeypatch):
    """torch's varlen_attn: (T, A, D) states, int32 ends, the longest length; its place is taken by softmax here."""
    from torch.nn.attention import varlen as torch_varlen

    lengths = (4, 0, 9, 1)
    layout = ragged_of((torch.arange(9) < torch.tensor(lengths)[:, None]).long())
    query, key, value = torch.randn(3, 14, 2, 8)
    seen = []

    def played(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale):
        seen.append((query.shape, cu_seq_q.dtype, cu_seq_q.tolist(), max_q, max_k, scale))
        ends = cu_seq_k.tolist()
        spans = [slice(start, end) for start, end in pairwise(ends)]
        scores = [torch.einsum("qad,kad->aqk", query[span], key[span]) * scale for span in spans]
        return torch.cat(
            [
                torch.einsum("aqk,kad->qad", part.softmax(-1), value[span])
                for part, span in zip(scores, spans, strict=True)
            ]
        )

    monkeypatch.setattr(torch_varlen, "varlen_attn", played)
    monkeypatch.setattr(padding_free, "has_kernel", lambda device, dtype: True)
    dense = dense_attention(0.3)
    found = padding_free.varlen_attention(query, key, value, layout, 0.3, 0.0, dense)
    assert seen == [((14, 2, 8), torch.int32, [0, 4, 4, 13, 14], 9, 9, 0.3)]
    for way in (padding_free.grouped_attention, padding_free.padded_attention):
        torch.testing.assert_close(found, way(query, key, value, layout, dense), atol=1e-6, rtol=0)
    # it has no dropout, and takes heads of multiples of 8
    padding_free.varlen_attention(query, key, value, layout, 0.3, 0.1, dense)
    padding_free.varlen_attention(query[..., :6], key[..., :6], value[..., :6], layout, 0.3, 0.0, dense)
    assert len(seen) == 1


def test_the_real_kernel_still_has_that_signature():
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    inspect.signature(varlen_attn).bind("q", "k", "v", "ends", "ends", 9, 9, scale=0.3)


@pytest.mark.parametrize(
    ("lengths", "way"),
    [((5, 5, 9), "grouped_attention"), (tuple(range(1, 10)), "padded_attention")],
)
def test_few_lengths_are_grouped_and_many_are_padded(monkeypatch, lengths, way):
    layout = ragged_of((torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long())
    states = torch.randn(3, sum(lengths), 2, 4)
    taken = []
    for name in ("grouped_attention", "padded_attention"):
        monkeypatch.setattr(padding_free, name, lambda *_, name=name: taken.append(name))
    padding_free.varlen_attention(*states, layout, 0.5, 0.0, dense_attention(0.5))
    assert taken == [way]


@pytest.mark.parametrize("lengths", [BATCHES["mixed"], BATCHES["many lengths"]], ids=["grouped", "padded"])
def test_dense_parts_are_done_by_the_attention_that_the_model_had(tiny, monkeypatch, lengths):
    called = []
    drop = dropout.DropAttention.apply
    monkeypatch.setattr(dropout.DropAttention, "apply", lambda *given: called.append(given[0].shape) or drop(*given))
    model = model_of(tiny("bert"), "token", dropout=0.1)
    dropout.speed_up(model)
    inputs = batch_of(model, lengths)
    logits_of(twin_of(model), "token", inputs).sum().backward()
    assert called
    assert all(shape[1] == 2 and shape[3] == 16 for shape in called)
    called.clear()
    logits_of(twin_of(model).eval(), "token", inputs)
    assert not called


# what is chosen, and what is said


@pytest.mark.parametrize(
    ("device", "precision", "kernel", "settings", "order", "said"),
    [
        *(
            (
                "cpu", "fp32", False, {}, order,
                "padded (unpadding gains nothing on cpu, where batches are of similar length)",
            )
            for order in ("length", None)
        ),
        ("cpu", "fp32", False, {"dropout": 0.2}, "random", "padding-free (batches in random order)"),
        ("cuda", "bf16", True, {}, "random", "padding-free (variable-length kernel)"),
        (
            "cuda", "bf16", True, {"dropout": 0.2}, "length",
            "padded (the kernel for unpadded batches has no attention dropout, and it is 0.2 here; "
            "model.attention_dropout=0 allows it)",
        ),
        ("cuda", "bf16", True, {"dropout": 0.2}, None, "padding-free (variable-length kernel)"),
        (
            "cuda", "bf16", True, {"dropout": 0.2, "attention_dropout": 0.0}, "length",
            "padding-free (variable-length kernel)",
        ),
        (
            "cuda", "fp32", False, {}, "random",
            "padded (the kernel for unpadded batches takes bf16 or fp16, on sm80 or newer, and this is fp32)",
        ),
        ("cuda", "bf16", True, {"attention": "eager"}, "length", "padded (eager attention needs padding; "
         "model.attention=sdpa does not)"),
    ],
)  # fmt: skip
def test_auto_is_padding_free_where_that_is_faster(tiny, monkeypatch, device, precision, kernel, settings, order, said):
    monkeypatch.setattr(ready, "has_kernel", lambda device, dtype: kernel)
    model = model_of(tiny("bert"), **settings)
    before = model.config._attn_implementation
    assert choose_padding(model, HardwareConfig(padding_free="auto"), DEVICES[device], precision, order) == said
    assert (model.config._attn_implementation != before) == said.startswith("padding-free")


def test_true_and_false_are_obeyed_anywhere(tiny):
    model = model_of(tiny("bert"))
    assert (
        choose_padding(model, HardwareConfig(padding_free=False), DEVICES["cpu"], "fp32", "random")
        == "padded (as asked)"
    )
    assert model.config._attn_implementation == "sdpa"
    assert (
        choose_padding(model, HardwareConfig(padding_free=True), DEVICES["cpu"], "fp32", "random")
        == "padding-free (as asked)"
    )
    assert model.config._attn_implementation == "padding_free_sdpa"


def test_the_kernel_needs_16_bits_and_a_device_of_sm80(monkeypatch):
    capability = (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert padding_free.has_kernel(DEVICES["cuda"], torch.bfloat16)
    assert not padding_free.has_kernel(DEVICES["cuda"], torch.float32)
    assert not padding_free.has_kernel(DEVICES["cpu"], torch.bfloat16)
    capability = (7, 5)
    assert not padding_free.has_kernel(DEVICES["cuda"], torch.float16)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - set(STACKS)))
def test_an_unknown_architecture_is_refused_by_name(tiny, architecture):
    model = model_of(tiny(architecture))
    known = "bert, roberta, xlm-roberta, electra, albert, distilbert can"
    with pytest.raises(BertkitError) as caught:
        choose_padding(model, HardwareConfig(padding_free=True), DEVICES["cpu"], "fp32", "random")
    assert caught.value.message == f"hardware.padding_free: {architecture} cannot run without padding; {known}"
    assert caught.value.hint == "leave it out, or set hardware.padding_free=false"
    said = choose_padding(model, HardwareConfig(padding_free="auto"), DEVICES["cuda"], "bf16", "random")
    assert said == f"padded ({architecture} cannot run without padding; {known})"


def test_eager_attention_is_refused(tiny):
    with pytest.raises(BertkitError) as caught:
        make_padding_free(model_of(tiny("bert"), attention="eager"))
    assert caught.value.message == (
        "hardware.padding_free: eager attention needs padding; model.attention=sdpa does not"
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_has_a_dropout_rate_of_its_own(tiny, architecture):
    both = load_model(
        ModelConfig(checkpoint=str(tiny(architecture)), dropout=0.25, attention_dropout=0.0), "class", ("a", "b"), 0
    ).model
    assert padding_free.attention_dropout(both.config) == 0
    assert {module.p for module in both.modules() if isinstance(module, torch.nn.Dropout)} - {0.0} == {0.25}
    alone = ModelConfig(checkpoint=str(tiny(architecture)), attention_dropout=0.5)
    config = load_model(alone, "class", ("a", "b"), 0).model.config
    before = AutoConfig.from_pretrained(tiny(architecture))
    differing = {name for name, value in vars(before).items() if "dropout" in name and vars(config)[name] != value}
    assert padding_free.attention_dropout(config) == 0.5
    assert len(differing) == 1


# whole runs


def plan_of(folder: Path, task: str = "sentiment", dropout: float = 0.0, **hardware: object) -> dict:
    return {
        "task": task,
        "model": {"checkpoint": str(folder), "dropout": dropout},
        "data": {"train": f"bundled:{BUNDLED[task]}", "train_rows": 16, "validation_rows": 4},
        "windows": {"max_length": 64},
        "train": {"batch_size": 8, "steps": 4, "epochs": 4, "learning_rate": 1e-3, "checkpoint_every": 2},
        "hardware": {"precision": "fp32", "threads": 1, "micro_batch_tokens": 1024, **hardware},
    }


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in RunDir(run).read_history() if "loss" in record]


@pytest.mark.parametrize(
    ("architecture", "task"), [("bert", "sentiment"), ("albert", "pos"), ("distilbert", "qa"), ("roberta", "sentiment")]
)
def test_what_is_learned_does_not_depend_on_padding(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch, architecture: str, task: str
) -> None:
    called = []
    attend = padding_free.varlen_attention
    monkeypatch.setattr(padding_free, "varlen_attention", lambda *given: called.append(1) or attend(*given))
    for value in (False, True):
        assert bool(called) is False
        finetune(plan_of(tiny(architecture), task, padding_free=value), tmp_path / str(value), quiet=True)
    assert called
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), abs=1e-6)
    scores = [json.loads((tmp_path / name / "metrics.json").read_text())["splits"] for name in ("True", "False")]
    assert scores[0] == scores[1]
    saved = [json.loads((tmp_path / name / "model/config.json").read_text()) for name in ("True", "False")]
    assert saved[0] == saved[1]
    called.clear()
    found = [
        evaluate(
            tmp_path / "False", f"bundled:{BUNDLED[task]}", assignments=[f"hardware.padding_free={value}"], quiet=True
        )
        for value in ("false", "true")
    ]
    assert called
    assert found[0] == found[1]


def test_with_dropout_a_resumed_run_is_bit_identical(tiny, tmp_path, monkeypatch):
    plan = plan_of(tiny("bert"), dropout=0.1, padding_free=True)
    finetune(plan, tmp_path / "whole", quiet=True)
    save = keep.Keeper.save

    class Killed(BaseException):
        pass

    def save_and_die(self: keep.Keeper, at: int) -> str:
        save(self, at)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(keep.Keeper, "save", save_and_die)
        with pytest.raises(Killed):
            finetune(plan, tmp_path / "cut", quiet=True)
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    for name in ("history.jsonl", "model/model.safetensors", "predictions.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_a_run_says_what_was_chosen(tiny, tmp_path, capsys):
    plan = {**plan_of(tiny("bert"), padding_free=True), "log": {"verbose": True}}
    finetune(plan, tmp_path / "run")
    assert "; padding-free (as asked)\n" in capsys.readouterr().err
    evaluate(tmp_path / "run", "bundled:sentiment.csv", assignments=["hardware.padding_free=auto", "log.verbose=true"])
    assert "model: bert, padded (unpadding gains nothing on cpu" in capsys.readouterr().err
