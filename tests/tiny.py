"""Tiny randomly initialised checkpoints of every architecture, with a tokenizer trained on the bundled rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ASSETS = Path(__file__).parents[1] / "bertkit" / "assets"
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ARCHITECTURES = ("bert", "albert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert")


def save_tiny(architecture: str, folder: Path, length: int = 64, seed: int = 0) -> Path:
    """Write config, safetensors weights and tokenizer; `length` tokens can be read at once."""
    tokenizer = _tokenizer(architecture)
    tokenizer.model_max_length = length
    torch.manual_seed(seed)
    config = _config(architecture, tokenizer, length)
    model = transformers.AutoModel.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _config(
    architecture: str, tokenizer: transformers.PreTrainedTokenizerFast, length: int
) -> transformers.PretrainedConfig:
    names = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": length,
        **SIZE,
    }
    if architecture == "distilbert":
        names = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": length,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
        }
    elif architecture in ("albert", "electra"):
        names["embedding_size"] = 16
    elif architecture in ("roberta", "xlm-roberta"):
        # their positions start behind the padding id
        names |= {"max_position_embeddings": length + tokenizer.pad_token_id + 1, "type_vocab_size": 1}
    elif architecture == "deberta-v2":
        names |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
    elif architecture == "modernbert":
        ids = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        names |= {
            **ids,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "local_attention": 16,
        }
    return transformers.AutoConfig.for_model(architecture, **names)


def _tokenizer(architecture: str) -> transformers.PreTrainedTokenizerFast:
    if architecture in ("roberta", "modernbert"):
        return _byte_level()
    if architecture in ("xlm-roberta", "albert", "deberta-v2"):
        return _sentence_pieces()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(ASSETS / "tiny")
    if architecture == "distilbert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def _byte_level() -> transformers.PreTrainedTokenizerFast:
    """As RoBERTa's: bytes, with the space before a word counted to it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    raw.post_processor = processors.RobertaProcessing(
        ("</s>", raw.token_to_id("</s>")), ("<s>", raw.token_to_id("<s>")), add_prefix_space=False
    )
    return _wrap(raw, ["input_ids", "attention_mask"])


def _sentence_pieces() -> transformers.PreTrainedTokenizerFast:
    """As ALBERT's and XLM-R's: unigram pieces, with the space before a word as part of the piece."""
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw.train_from_iterator(
        texts(), trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, raw.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return _wrap(raw, ["input_ids", "attention_mask"])


def _wrap(raw: Tokenizer, inputs: list[str]) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=inputs,
    )


def texts() -> list[str]:
    """Running text of the bundled rows, English and Chinese."""
    with (ASSETS / "sentiment.csv").open(encoding="utf-8", newline="") as file:
        found = [row["text"] for row in csv.DictReader(file)]
    for document in json.loads((ASSETS / "qa.json").read_text(encoding="utf-8"))["data"]:
        found += [paragraph["context"] for paragraph in document["paragraphs"]]
    return found
