"""Typed configuration: YAML 1.2 and `a.b=c` overrides into frozen pydantic models, with one-line errors."""

import io
import json
import re
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from bertkit.disk import read_whole
from bertkit.errors import BertkitError, did_you_mean, one_line

Tree = dict[str, object]
AnyModel = TypeVar("AnyModel", bound=BaseModel)
MOST_VALUES = 100_000  # in a recipe, with its aliases unfolded
LARGEST_YAML = 1 << 20  # bytes; a recipe has thousands, and each MiB takes half a minute to parse

# our name -> what transformers' TrainingArguments and other scripts call it; a key of another section needs no entry
FOREIGN_NAMES = {
    "--out": "output_dir run_name",
    "--out with a new name, or --resume": "overwrite_output_dir",
    "--resume": "resume_from_checkpoint",
    "data.config": "dataset_config_name",
    "data.source": "dataset_name",
    "data.test": "test_file",
    "data.train": "train_file",
    "data.train_rows": "max_train_samples",
    "data.validation": "validation_file",
    "data.validation_rows": "max_eval_samples",
    "hardware.device=cpu": "no_cuda use_cpu",
    "hardware.evaluation_tokens": "per_device_eval_batch_size",
    "hardware.micro_batch_tokens": "gradient_accumulation_steps",
    "hardware.precision=bf16": "bf16",
    "hardware.precision=fp16": "fp16",
    "log.every": "logging_steps",
    "log.trackers": "report_to logging_dir",
    "model.attention_dropout": "attention_probs_dropout_prob",
    "model.checkpoint": "model_name_or_path",
    "model.dropout": "hidden_dropout_prob",
    "model.lowercase": "do_lower_case",
    "model.replace_head": "ignore_mismatched_sizes",
    "task.labels (their names)": "num_labels",
    "task.n_best": "n_best_size",
    "task.no_answer_threshold": "null_score_diff_threshold",
    "task.unanswerable": "version_2_with_negative",
    "train.batch_size": "per_device_train_batch_size per_gpu_train_batch_size",
    "train.best_by": "metric_for_best_model",
    "train.best_by (the best weights are always kept)": "load_best_model_at_end",
    "train.checkpoint_every": "save_strategy save_steps",
    "train.early_stopping": "early_stopping_patience",
    "train.epochs": "num_train_epochs",
    "train.evaluate_every": "evaluation_strategy eval_strategy eval_steps",
    "train.gradient_clip": "max_grad_norm",
    "train.keep": "save_total_limit",
    "train.label_smoothing": "label_smoothing_factor",
    "train.learning_rate": "lr",
    "train.order": "group_by_length train_sampling_strategy",
    "train.schedule": "lr_scheduler_type",
    "train.steps": "max_steps",
    "train.warmup": "warmup_ratio warmup_steps",
    "windows.max_length": "max_seq_length",
    "windows.stride (the overlap, in tokens)": "doc_stride",
}


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    # YAML reads `1` as a number, while labels and column names are text
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_a_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would read `epochs: true` as 1
        if isinstance(value, bool) and _is_number(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("Input should be a number")
        return value


def knob(default: Any, what: str) -> Any:
    """A field of a section: its default, and what it is."""
    return Field(default, description=what)


def read_yaml(path: Path) -> Tree:
    """One YAML 1.2 file, which must be a mapping, as a tree of plain values."""
    try:
        text = read_whole(path, LARGEST_YAML)
    except FileNotFoundError:
        siblings = [entry.name for entry in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise BertkitError(f"{path}: there is no such recipe", hint=did_you_mean(path.name, siblings)) from None
    except (OSError, ValueError) as error:
        raise BertkitError(f"{path}: cannot be read ({error})") from None
    tree = parse_yaml(text, where=str(path))
    if not isinstance(tree, dict):
        raise BertkitError(f"{path}: not a mapping of sections", hint="see `bertkit recipe list`")
    return tree


def parse_yaml(text: str, where: str) -> object:
    """Plain values from YAML 1.2, in which `2e-5` is a number and `no` is a word (stock PyYAML disagrees)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="safe", pure=True).load(text)
        check_size(tree)
        json.dumps(tree, default=str)  # an anchor within itself or a list as a key is YAML, but not plain values
        return tree
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BertkitError(f"{where}{line}: not YAML ({problem})", hint="a setting reads `key: value`") from None


def check_size(tree: object) -> None:
    """Raise ValueError for a tree that contains itself, or whose aliases unfold without end: nine levels make 10^9."""
    left = [tree]
    for _ in range(MOST_VALUES):
        if not left:
            return
        node = left.pop()
        left += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    raise ValueError(f"it has more than {MOST_VALUES:,} values, or an anchor within itself")


def dump_yaml(tree: Mapping[str, object]) -> str:
    """The tree as YAML, with its keys in the given order."""
    from ruamel.yaml import YAML, SafeRepresenter

    class Escaped(SafeRepresenter):
        """Double quotes where others would fold line breaks such as U+0085 into spaces."""

        def represent_str(self, text: str) -> object:
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')

    Escaped.add_representer(str, Escaped.represent_str)
    writer = YAML(typ="safe", pure=True)
    writer.Representer = Escaped
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.width = 110
    buffer = io.StringIO()
    writer.dump(dict(tree), buffer)
    return buffer.getvalue()


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """A copy of `tree` with each `a.b=value` set; the value is read as YAML."""
    result = dict(tree)
    for assignment in assignments:
        dotted, separator, value = assignment.partition("=")
        if not separator or not dotted:
            raise BertkitError(f"{assignment!r} is not a setting", hint="write key=value, such as train.epochs=2")
        result = put(result, dotted, value_of(value.strip(), where=dotted))
    return result


def put(tree: Mapping[str, object], dotted: str, value: object) -> Tree:
    """A copy of `tree` with one value set; its key must not lie below a value that is no section."""
    *sections, key = dotted.split(".")
    result = node = dict(tree)
    for section in sections:
        below = {} if node.get(section) is None else node[section]
        if not isinstance(below, Mapping):
            raise BertkitError(f"{dotted}: {section!r} is a value, not a section with keys")
        node[section] = dict(below)
        node = node[section]
    node[key] = value
    return result


def value_of(text: str, where: str) -> object:
    """A value as YAML reads it, except what only looks like YAML: `#1 String` is not a comment, `-` not a list."""
    if text.startswith(("{", "[", "'", '"')):
        return parse_yaml(text, where)
    value = parse_yaml(text, where) if re.fullmatch(r"~|[\w.+-]*\w[\w.+-]*", text) else text
    return value if value is None or isinstance(value, bool | int | float | str) else text


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def validate(model: type[AnyModel], tree: Mapping[str, object], where: str = "") -> AnyModel:
    """Build `model` from plain values, or say the first mistake, `where` being the path of the tree in the recipe."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explain(model, tree, error.errors(), where) from None


def _explain(model: type[BaseModel], tree: object, details: list[ErrorDetails], where: str) -> BertkitError:
    found = [(_location(tree, detail), detail) for detail in details]
    first = found[0][0]
    # each branch of a union says what is wrong: the one that got furthest was meant
    location, detail = max((each for each in found if each[0][: len(first)] == first), key=lambda each: len(each[0]))
    *sections, key = location or [""]
    path = ".".join(filter(None, [where, *sections]))
    full = ".".join(filter(None, [path, key]))
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return BertkitError(f"{path or 'recipe'}: unknown key {key!r}", _suggest(model, sections, path, key))
    section, description = _look_up(model, location)
    if kind == "missing":
        return BertkitError(f"{full} is required", description)
    if kind == "literal_error":
        choices = [part.strip(" '") for part in str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")]
        return BertkitError(f"{full}: unknown value {value!r}", did_you_mean(str(value), choices))
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    if kind == "model_type":
        keys = ", ".join(section.model_fields) if section else ""
        return BertkitError(f"{full} is a section with keys, not {shown}", f"its keys: {keys}")
    message = one_line(detail.get("ctx", {}).get("error", detail["msg"]))
    # a rule about several keys names them itself
    about = "" if kind == "value_error" and isinstance(value, Mapping) else f", not {shown}"
    return BertkitError(f"{full or where or 'recipe'}: {message}{about}", description)


def _location(tree: object, detail: ErrorDetails) -> list[str]:
    """The keys that lead to a mistake, without pydantic's names of validators and union branches."""
    location = []
    for part in detail["loc"]:
        with suppress(KeyError, IndexError, TypeError):
            tree = tree[part]
            location.append(str(part))
    return [*location, str(detail["loc"][-1])] if detail["type"] == "missing" else location


def _suggest(model: type[BaseModel], sections: Sequence[str], path: str, key: str) -> str:
    """What an unknown key may mean: our name for a foreign one, a key of another section, or the nearest name."""
    homes = {name: _look_up(model, [name])[0] for name in model.model_fields}
    meant = [ours for ours, foreign in FOREIGN_NAMES.items() if key in foreign.split()]
    meant += [f"{name}.{key}" for name, home in homes.items() if home and key in home.model_fields]
    if meant and meant[0] not in (f"{path}.{key}", key):
        return f"in bertkit it is {meant[0]}"
    section, _ = _look_up(model, sections)
    return did_you_mean(key, section.model_fields if section else ())


def _look_up(model: type[BaseModel], location: Sequence[str]) -> tuple[type[BaseModel] | None, str]:
    """The section at a location, if it is one, and the description of the innermost setting on the way there."""
    section, description = model, ""
    for name in location:
        field = section.model_fields.get(name) if section else None
        if field is None:
            return None, description
        if field.description:
            description = f"{name}: {field.description}"
        options = (field.annotation, *typing.get_args(field.annotation))
        section = next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return section, description


def _is_number(annotation: object) -> bool:
    return annotation in (int, float) or any(map(_is_number, typing.get_args(annotation)))
