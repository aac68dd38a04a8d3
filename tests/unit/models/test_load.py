"""A checkpoint becomes a model: float32, with the right names, and with a word on what is new."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from bertkit.data.windows import WindowMaker
from bertkit.errors import BertkitError
from bertkit.models.load import load_config, load_model, load_tokenizer, longest_input
from bertkit.recipe import ModelConfig, WindowsConfig
from bertkit.run import finetune, load

ASSETS = Path(__file__).parents[3] / "bertkit" / "assets"
LABELS = ("negative", "positive")


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A copy of the tiny BERT to change."""
    shutil.copytree(tiny("bert"), tmp_path / "bert")
    return tmp_path / "bert"


def config_of(folder: Path, **settings: object) -> ModelConfig:
    return ModelConfig(checkpoint=str(folder), **settings)


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def error_of(call, *arguments) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        call(*arguments)
    return caught.value


# weights


def test_the_summary_names_what_is_new(folder):
    loaded = load_model(config_of(folder), "class", LABELS, seed=0)
    assert loaded.summary == f"bert: 0.1 M weights from {folder}; new: classifier.bias, classifier.weight (66)"
    loaded.model.save_pretrained(folder / "fine")
    (folder / "tokenizer.json").rename(folder / "fine" / "tokenizer.json")
    loaded = load_model(config_of(folder / "fine"), "class", LABELS, seed=0)
    assert loaded.summary.endswith("; nothing new")
    loaded = load_model(config_of(folder, init="scratch"), "class", LABELS, seed=0)
    assert loaded.summary == "bert: all 0.1 M weights are new (init=scratch)"


def test_weights_come_from_the_checkpoint_and_the_head_from_the_seed(folder):
    base = transformers.AutoModel.from_pretrained(folder)
    first, again, other = (load_model(config_of(folder), "class", LABELS, seed).model for seed in (1, 1, 2))
    for name, weight in base.named_parameters():
        assert torch.equal(weight, first.base_model.get_parameter(name)), name
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_from_scratch_nothing_of_the_checkpoint_is_taken(folder):
    (folder / "model.safetensors").unlink()
    first, again, other = (load_model(config_of(folder, init="scratch"), "span", (), seed).model for seed in (1, 1, 2))
    for name, weight in first.named_parameters():
        assert torch.equal(weight, again.get_parameter(name))
    assert not torch.equal(first.qa_outputs.weight, other.qa_outputs.weight)


@pytest.mark.parametrize("init", ["pretrained", "scratch"])
def test_a_bf16_checkpoint_is_trained_in_float32(folder, init):
    transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    model = load_model(config_of(folder, init=init), "class", LABELS, seed=0).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_checkpoint_without_a_pooler_gets_a_new_one(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "pooler" not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(config_of(folder), "class", LABELS, seed=0)
    assert "new: bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias" in loaded.summary


def test_a_layer_that_the_weights_lack_is_refused(folder):
    change(folder, num_hidden_layers=3)
    error = error_of(load_model, config_of(folder), "class", LABELS, 0)
    assert error.message == (
        f"model.checkpoint: the weights in {folder} are not those of its config (bert): 16 of 55 tensors are missing, "
        "such as bert.encoder.layer.2.attention.output.LayerNorm.bias"
    )
    assert error.hint == "check that config.json and model.safetensors belong together"


@pytest.mark.parametrize("replace_head", [False, True])
def test_only_the_head_may_be_of_another_size(folder, replace_head):
    change(folder, max_position_embeddings=32)
    error = error_of(load_model, config_of(folder, replace_head=replace_head), "class", LABELS, 0)
    assert error.message == (
        f"model.checkpoint: the weights in {folder} are not those of its config (bert): 1 of 39 tensors is of "
        "another shape, such as bert.embeddings.position_embeddings.weight"
    )


def test_a_head_of_another_size_is_replaced_on_demand_only(folder):
    load_model(config_of(folder), "class", ("a", "b", "c"), seed=0).model.save_pretrained(folder)
    error = error_of(load_model, config_of(folder), "class", LABELS, 0)
    assert error.message == f"model.checkpoint: {folder} has classifier.bias for another number of labels than 2"
    assert error.hint == (
        "set task.labels as the checkpoint has them, or allow a new head with model.replace_head=true"
    )
    loaded = load_model(config_of(folder, replace_head=True), "class", LABELS, seed=0)
    assert loaded.summary.endswith("; new: classifier.bias, classifier.weight (66)")
    assert loaded.model.classifier.weight.shape[0] == 2


# what the configuration says


@pytest.mark.parametrize(
    ("head", "labels", "problem"),
    [
        ("class", LABELS, "single_label_classification"),
        ("multilabel", ("joy", "anger", "fear"), "multi_label_classification"),
        ("number", (), "regression"),
    ],
)
def test_the_saved_model_says_what_its_logits_mean(folder, head, labels, problem):
    change(folder, problem_type="regression" if head == "class" else "single_label_classification")
    model = load_model(config_of(folder), head, labels, seed=0).model
    model.save_pretrained(folder)
    pipeline = transformers.pipeline("text-classification", model=str(folder), tokenizer=str(folder))
    scores = {entry["label"]: entry["score"] for entry in pipeline("a fine day", top_k=None)}
    logits = model.eval()(**pipeline.tokenizer("a fine day", return_tensors="pt")).logits[0]
    means = {"class": torch.softmax(logits, -1), "multilabel": torch.sigmoid(logits), "number": logits}[head]
    assert set(scores) == set(labels or ["LABEL_0"])
    assert sorted(scores.values()) == pytest.approx(sorted(means.tolist()))
    assert model.config.problem_type == problem


@pytest.mark.parametrize(("head", "labels"), [("class", ("a", "b", "c")), ("number", ())])
def test_a_span_has_a_start_and_an_end_whatever_the_checkpoint_was_trained_on(folder, head, labels):
    load_model(config_of(folder), head, labels, seed=0).model.save_pretrained(folder)
    model = load_model(config_of(folder), "span", (), seed=0).model
    assert model(torch.full((1, 7), 5)).end_logits.shape == (1, 7)


def test_label_names_are_those_of_the_task(folder):
    model = load_model(config_of(folder), "token", ("NOUN", "VERB", "X"), seed=0).model
    assert model.config.id2label == {0: "NOUN", 1: "VERB", 2: "X"}
    assert model.config.label2id == {"NOUN": 0, "VERB": 1, "X": 2}
    assert model.config.num_labels == 3


@pytest.mark.parametrize(
    "architecture", ["bert", "albert", "distilbert", "electra", "modernbert", "roberta", "deberta-v2"]
)
def test_one_dropout_rate_reaches_every_dropout(tiny, architecture):
    model = load_model(config_of(tiny(architecture), dropout=0.25), "class", LABELS, seed=0).model
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}


def test_attention_is_as_asked(folder):
    assert (
        load_model(config_of(folder, attention="eager"), "class", LABELS, 0).model.config._attn_implementation
        == "eager"
    )
    assert load_model(config_of(folder), "class", LABELS, 0).model.config._attn_implementation == "sdpa"


def test_the_order_of_labels_in_a_checkpoint_is_honoured(tiny, tmp_path):
    """Pitfall 18: data that lists the classes in another order must not turn the head around."""
    rows = [
        {
            "id": str(number),
            "text": "good fine happy" if number % 2 else "bad poor sad",
            "label": "yes" if number % 2 else "no",
        }
        for number in range(24)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": str(tmp_path / "rows.jsonl"), "validation": str(tmp_path / "rows.jsonl")}
    hardware = {"precision": "fp32"}
    first = finetune(
        {
            "task": {"name": "sentiment", "labels": ["yes", "no"]},
            "model": {"checkpoint": str(tiny("bert")), "dropout": 0},
            "data": data,
            "train": {"epochs": 8, "batch_size": 8, "learning_rate": 5e-3},
            "hardware": hardware,
        },
        tmp_path / "first",
        quiet=True,
    )
    assert first["accuracy"] == 1.0
    second = finetune(
        {
            "task": "sentiment",
            "model": {"checkpoint": str(tmp_path / "first" / "model")},
            "data": data,
            "train": {"steps": 1, "batch_size": 8, "learning_rate": 1e-12},
            "hardware": hardware,
        },
        tmp_path / "second",
        quiet=True,
    )
    assert second["accuracy"] == 1.0
    assert load(tmp_path / "second").task.labels == ("yes", "no")  # sorted, it would be no, yes


# the tokenizer


def vocabulary_only(folder: Path, *pieces: str) -> Path:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]) + "\n")
    return folder


@pytest.mark.parametrize(("pieces", "found"), [(("the", "chair"), ["the"]), (("the", "The", "chair"), ["The"])])
def test_the_casing_of_a_bare_vocabulary_is_guessed_with_a_warning(folder, pieces, found):
    vocabulary_only(folder, *pieces)
    with pytest.warns(
        UserWarning, match=r"does not say whether its text is lowercased; .* \(set model.lowercase to be sure"
    ):
        tokenizer = load_tokenizer(config_of(folder))
    assert tokenizer.tokenize("The") == found


@pytest.mark.parametrize(("lowercase", "found"), [(True, ["the"]), (False, ["The"])])
@pytest.mark.filterwarnings("error")
def test_lowercase_is_as_the_recipe_says(folder, lowercase, found):
    vocabulary_only(folder, "the", "The", "chair")
    tokenizer = load_tokenizer(config_of(folder, lowercase=lowercase))
    assert tokenizer.tokenize("The") == found
    tokenizer.save_pretrained(folder / "saved")
    assert load_tokenizer(config_of(folder / "saved")).tokenize("The") == found  # and the saved one keeps it


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_lowercase_is_refused_where_the_tokenizer_would_ignore_it(tiny, architecture):
    error = error_of(load_tokenizer, config_of(tiny(architecture), lowercase=True))
    assert error.message == f"model.lowercase: the tokenizer of {tiny(architecture)} keeps capitals, whatever is set"
    assert error.hint == "leave it out"
    load_tokenizer(config_of(tiny(architecture), lowercase=False))  # as it is


def test_a_truncation_in_the_tokenizer_cuts_nothing(folder):
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.enable_truncation(128)
    raw.enable_padding(length=128)
    raw.save(str(folder / "tokenizer.json"))
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    tokenizer = load_tokenizer(config_of(folder))
    store = WindowMaker(tokenizer.backend_tokenizer, WindowsConfig(max_length=512, stride=0))(["good " * 300])
    assert store.lengths.tolist() == [302]


@pytest.mark.parametrize("architecture", ["roberta", "modernbert"])
def test_words_of_byte_level_tokenizers_have_their_space(tiny, architecture):
    tokenizer = load_tokenizer(config_of(tiny(architecture)), words=True)
    pieces = tokenizer.backend_tokenizer.encode(["good", "food"], is_pretokenized=True, add_special_tokens=False).tokens
    assert [piece for piece in pieces if piece.startswith("Ġ")] == [
        pieces[0],
        next(p for p in pieces[1:] if p[0] == "Ġ"),
    ]
    assert load_tokenizer(config_of(tiny(architecture))).tokenize("good")[0][0] != "Ġ"


def test_a_tokenizer_without_padding_is_refused(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content.pop("pad_token", None)
        if name == "tokenizer_config.json":
            content["tokenizer_class"] = "PreTrainedTokenizerFast"
        (folder / name).write_text(json.dumps(content))
    error = error_of(load_tokenizer, config_of(folder))
    assert error.message == f"model.checkpoint: the tokenizer of {folder} has no padding token"


# how much is read at once


class Declared:
    def __init__(self, length: int) -> None:
        self.model_max_length = length

    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize(
    ("kind", "settings", "declared", "expected"),
    [
        ("bert", {"max_position_embeddings": 512}, int(1e30), 512),
        ("bert", {"max_position_embeddings": 512}, 128, 128),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, int(1e30), 512),
        ("xlm-roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512, 512),
        ("camembert", {"max_position_embeddings": 514, "pad_token_id": 1}, 512, 512),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 0}, int(1e30), 513),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": None}, int(1e30), 512),
        ("modernbert", {"max_position_embeddings": 8192}, int(1e30), 8192),
    ],
)
def test_the_longest_input_is_what_positions_and_tokenizer_allow(kind, settings, declared, expected):
    config = transformers.AutoConfig.for_model(kind, **settings)
    assert longest_input(config, Declared(declared)) == expected


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_the_longest_input_is_read_and_one_token_more_is_not(tiny, architecture):
    config = config_of(tiny(architecture))
    model, tokenizer = load_model(config, "class", LABELS, 0).model, load_tokenizer(config)
    limit = longest_input(load_config(config), tokenizer)
    assert limit == 64
    assert model(torch.full((1, limit), 5)).logits.shape == (1, 2)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))


def test_more_tokens_than_the_model_knows_are_refused(folder):
    config = config_of(folder)
    change(folder, vocab_size=100)
    error = error_of(longest_input, load_config(config), load_tokenizer(config))
    assert error.message == "model.checkpoint: the tokenizer has 2854 tokens and the model knows 100"
    assert error.hint == "check that the tokenizer's files and config.json belong together"
