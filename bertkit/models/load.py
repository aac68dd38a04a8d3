"""A checkpoint becomes a tokenizer and a model with the head that the task needs."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bertkit.errors import BertkitError
from bertkit.heads import HEADS
from bertkit.models.adapters import add_adapter, base_of, merge_adapter
from bertkit.models.source import check_folder, reading
from bertkit.recipe import ModelConfig

UNLIMITED = 10**9  # tokenizers without a declared length say 1e30
POSITIONS_BEHIND_PADDING = frozenset({
    "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer", "xmod",
    "data2vec-text", "ibert", "luke",
})  # fmt: skip
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBLEMS = {  # how other programs read the logits: Hugging Face's pipelines follow it
    "class": "single_label_classification",
    "multilabel": "multi_label_classification",
    "number": "regression",
}


class Loaded(NamedTuple):
    """A model and where its weights came from."""

    model: PreTrainedModel  # float32 weights, with the head
    summary: str  # one line: what came from the checkpoint and what is new


def load_config(config: ModelConfig) -> PretrainedConfig:
    """The architecture of a checkpoint, a folder or a Hub id."""
    check_folder(config, with_model=True)
    with reading(config) as options:
        return AutoConfig.from_pretrained(config.checkpoint, **options)


def load_tokenizer(config: ModelConfig, words: bool = False) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a checkpoint, which can give offsets.

    Args:
        words: the texts come as words; byte-level tokenizers then count the space before a word to it.
    """
    check_folder(config, with_model=False)
    path = Path(config.checkpoint)
    settings: dict[str, object] = {}
    if path.is_dir():
        known = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model")
        files = [name for name in known if (path / name).exists()]
        if not files:
            raise BertkitError(
                f"model.checkpoint: {path} has no tokenizer (none of {', '.join(known)})",
                hint="copy the tokenizer's files beside the weights",
            )
        if files == ["vocab.txt"] and config.lowercase is None and not (path / "tokenizer_config.json").exists():
            # transformers would lowercase whatever the checkpoint was
            with reading(config):
                pieces = (path / "vocab.txt").read_text(encoding="utf-8").split("\n")
            is_lower = all(piece == piece.lower() for piece in pieces if not piece.startswith("["))
            settings["do_lower_case"] = is_lower
            warnings.warn(
                f"{path} does not say whether its text is lowercased; by its vocabulary it is "
                f"{'' if is_lower else 'not '}(set model.lowercase to be sure)",
                stacklevel=2,
            )
    if config.lowercase is not None:
        settings["do_lower_case"] = config.lowercase
    with reading(config) as options:
        settings |= options
        tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, **settings)
        if words and (changed := _spaced_words(tokenizer)):
            # some classes build their pre-tokenizer from this option, others from tokenizer.json alone
            tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, add_prefix_space=True, **settings)
            tokenizer.backend_tokenizer.pre_tokenizer = changed
    if not tokenizer.is_fast:
        raise BertkitError(
            f"model.checkpoint: {config.checkpoint} has no fast tokenizer, which windows and offsets need",
            hint="save one as tokenizer.json, or use a checkpoint that has it",
        )
    if tokenizer.pad_token_id is None:
        raise BertkitError(f"model.checkpoint: the tokenizer of {config.checkpoint} has no padding token")
    normalizer = tokenizer.backend_tokenizer.normalizer
    lowercases = normalizer is not None and normalizer.normalize_str("A") == "a"
    if config.lowercase not in (None, lowercases):
        raise BertkitError(
            f"model.lowercase: the tokenizer of {config.checkpoint} "
            f"{'keeps capitals' if config.lowercase else 'lowercases'}, whatever is set",
            hint="leave it out",
        )
    return tokenizer


def longest_input(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model can read at once; refuses a tokenizer that has others than the model knows."""
    known = getattr(config, "vocab_size", None) or UNLIMITED
    if len(tokenizer) > known:
        raise BertkitError(
            f"model.checkpoint: the tokenizer has {len(tokenizer)} tokens and the model knows {known}",
            hint="check that the tokenizer's files and config.json belong together",
        )
    limit = getattr(config, "max_position_embeddings", None) or UNLIMITED
    if config.model_type in POSITIONS_BEHIND_PADDING:
        limit -= (1 if config.pad_token_id is None else config.pad_token_id) + 1
    return int(min(limit, tokenizer.model_max_length, UNLIMITED))


def load_model(config: ModelConfig, head: str, labels: Sequence[str], seed: int) -> Loaded:
    """The model with a head for these labels.

    Args:
        labels: class names in the order of their ids; empty for heads without classes.
    Raises:
        BertkitError: no safetensors weights, or a head of another size without `model.replace_head`.
    """
    architecture = load_config(config)
    before = tuple(architecture.id2label.values())
    vars(architecture).pop("frozen_weights", None)  # of an adapter
    _fit(architecture, config, head, labels)
    auto_class = getattr(transformers, HEADS[head].auto_class)
    settings: dict[str, object] = {"dtype": torch.float32}  # bf16 weights would otherwise be trained as such
    if config.attention != "auto":
        settings["attn_implementation"] = config.attention
    torch.manual_seed(seed)  # the head is drawn from here
    if config.init == "scratch":
        with reading(config):
            model = auto_class.from_config(architecture, trust_remote_code=config.trust_remote_code, **settings)
        millions = model.num_parameters() / 1e6
        return Loaded(model, f"{architecture.model_type}: all {millions:.1f} M weights are new (init=scratch)")
    model, missing, mismatched = _read(auto_class, config, architecture, settings)
    # only the head may be new; a pooler as well, for many checkpoints were saved without one
    _refuse_inner(model, config, "missing", (name for name in missing if ".pooler." not in name))
    _refuse_inner(model, config, "of another shape", mismatched)
    if mismatched and not config.replace_head:
        raise BertkitError(
            f"model.checkpoint: {config.checkpoint} has {min(mismatched)} for another number of labels than "
            f"{model.config.num_labels}",
            hint="set task.labels as the checkpoint has them, or allow a new head with model.replace_head=true",
        )
    new = sorted(missing | mismatched)
    fresh = sum(weight.numel() for name, weight in model.named_parameters() if name in new)
    news = f"new: {', '.join(new)} ({fresh:,})" if new else "nothing new"
    if labels and not new and before != tuple(labels):
        news += f", the head of {', '.join(before)} now says {', '.join(labels)}"
    millions = (model.num_parameters() - fresh) / 1e6
    add_adapter(model, config)
    return Loaded(model, f"{architecture.model_type}: {millions:.1f} M weights from {config.checkpoint}; {news}")


def _read(
    auto_class: type,
    config: ModelConfig,
    architecture: PretrainedConfig,
    settings: Mapping[str, object],
    above: tuple[str, ...] = (),
) -> tuple[PreTrainedModel, set[str], set[str]]:
    """A model with a checkpoint's weights; names of those that it lacks, and of those that have another shape there.

    An adapter's are put into those of its base, so that what follows is a model like any other.
    """
    if base := base_of(config):
        if base.checkpoint in above:
            raise BertkitError(f"model.checkpoint: {config.checkpoint} is an adapter for itself")
        check_folder(base, with_model=True)
        model, missing, mismatched = _read(auto_class, base, architecture, settings, (*above, base.checkpoint))
        beside, weights = merge_adapter(model, config, base), model.state_dict()
        for name, weight in beside.items():
            if name in weights and weights[name].shape == weight.shape:
                weights[name].copy_(weight)
                missing, mismatched = missing - {name}, mismatched - {name}
            elif name in weights:
                mismatched = mismatched | {name}
        return model, missing, mismatched
    with reading(config) as options:
        model, info = auto_class.from_pretrained(
            config.checkpoint,
            config=architecture,
            use_safetensors=True,  # never unpickle
            ignore_mismatched_sizes=True,  # the caller says what is wrong
            output_loading_info=True,
            **options,
            **settings,
        )
    return model, set(info["missing_keys"]), {name for name, *_ in info["mismatched_keys"]}


def _fit(architecture: PretrainedConfig, config: ModelConfig, head: str, labels: Sequence[str]) -> None:
    """Let an architecture have a head for these labels, in place, and the dropout that is asked for."""
    if head in ("number", "span"):
        architecture.num_labels = 1 if head == "number" else 2  # a start and an end
    elif labels:
        architecture.id2label = dict(enumerate(labels))
        architecture.label2id = {label: index for index, label in enumerate(labels)}
    architecture.problem_type = PROBLEMS.get(head)  # whatever the checkpoint was trained on before
    for rate, of in ((config.dropout, ""), (config.attention_dropout, "attention")):
        for name, value in list(vars(architecture).items()):
            # by whatever name its family has it
            is_asked = rate is not None and "dropout" in name and of in name
            if is_asked and isinstance(value, int | float | None):
                setattr(architecture, name, rate)


def _refuse_inner(model: PreTrainedModel, config: ModelConfig, what: str, names: Iterable[str]) -> None:
    """Refuse a checkpoint that has not all weights of the model below the head."""
    inner = sorted(name for name in names if name.startswith(f"{model.base_model_prefix}."))
    if inner:
        raise BertkitError(
            f"model.checkpoint: the weights in {config.checkpoint} are not those of its config "
            f"({model.config.model_type}): {len(inner)} of {len(list(model.base_model.parameters()))} tensors "
            f"{'is' if len(inner) == 1 else 'are'} {what}, such as {inner[0]}",
            hint="check that config.json and model.safetensors belong together",
        )


def replace_attention(model: PreTrainedModel, before: str, name: str, attend: Callable, mask: Callable) -> None:
    """Let a model that calls the attention `before`, by transformers' registry, call another and its mask by a name."""
    if model._supports_attention_backend and model.config._attn_implementation == before:
        ALL_ATTENTION_FUNCTIONS.register(name, attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, mask)
        model.set_attn_implementation(name)


def _spaced_words(tokenizer: PreTrainedTokenizerBase) -> PreTokenizer | None:
    """A pre-tokenizer that counts the space before a word to every word of a list, where this one would not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    changed = False
    for part in state.get("pretokenizers", [state]):
        if part.get("type") == "ByteLevel" and not part["add_prefix_space"]:
            part["add_prefix_space"] = changed = True
        elif part.get("type") == "Metaspace" and part["prepend_scheme"] == "first":
            part["prepend_scheme"], changed = "always", True
    if not changed:
        return None
    spaced = tokenizer.backend_tokenizer.pre_tokenizer
    spaced.__setstate__(json.dumps(state).encode())
    return spaced
