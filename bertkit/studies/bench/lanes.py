"""One process, many variants of one recipe: each is a lane that trains and answers with the toolkit's own parts."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from bertkit.data.plan import Plan
from bertkit.encode import Part
from bertkit.errors import BertkitError
from bertkit.inference import Predictor
from bertkit.launch import Say
from bertkit.models.load import load_model
from bertkit.models.ready import make_answering
from bertkit.models.vocabulary import follow_decay
from bertkit.prepare import Built, Material, Prepared, assemble, build, local, read_material
from bertkit.recipe import Recipe, load_recipe
from bertkit.splits import read_splits
from bertkit.studies.bench.counting import Sample, Shape, forward_operations, shape_of, timed
from bertkit.tasks.base import Row, make_task
from bertkit.train import loop
from bertkit.train.device_setup import DeviceSetup, set_up_device, way_back, with_shapes
from bertkit.train.loop import Step, StepObserver, TrainState
from bertkit.train.memory import find_token_budget
from bertkit.train.optim import make_optimizer


@dataclass(frozen=True, eq=False)
class Quantiles(Plan):
    """A plan that goes round a few steps of its first epoch, spread over their tokens: they stand for all."""

    shown: int = 4

    @cached_property
    def chosen(self) -> list[np.ndarray]:
        """The windows of the chosen steps."""
        # the last step may be a short one
        batches = [Plan.batch(self, step) for step in range(max(1, len(self.lengths) // self.batch_size))]
        batches.sort(key=lambda windows: int(self.lengths[windows].sum()))
        count = min(self.shown, len(batches))
        return [batches[int((position + 0.5) / count * len(batches))] for position in range(count)]

    def batch(self, step: int) -> np.ndarray:
        return self.chosen[step % len(self.chosen)]


@dataclass
class Bench:
    """What all lanes share: rows, windows, weights and the optimiser's state."""

    material: Material
    recipe: Recipe  # of the lane as given; `material.recipe` with precision and threads decided
    built: dict[tuple, Built] = field(default_factory=dict)
    answering: dict[tuple, nn.Module] = field(default_factory=dict)
    # compact vocabulary or not -> the first such model, whose weights the others hold, and the optimiser of them all
    trained: dict[bool, tuple[nn.Module, torch.optim.Optimizer]] = field(default_factory=dict)

    @cached_property
    def shape(self) -> Shape:
        """Of the first lane's model."""
        return shape_of(next(iter(self.built.values())).model)


@dataclass
class Turn(StepObserver):
    """Stops after a number of steps; nothing is evaluated or saved."""

    until: int
    steps: list[Step] = field(default_factory=list)

    def __call__(self, steps: list[Step]) -> bool:
        self.steps += steps
        return steps[-1].step >= self.until

    def is_due(self, step: int) -> bool:
        return step == self.until


@dataclass(kw_only=True)
class Lane:
    """One variant, ready to train and to answer."""

    bench: Bench
    prepared: Prepared  # its predictor has the model that is trained, as evaluation during training has it
    state: TrainState
    threads: int
    answerer: Predictor  # with weights as `bertkit predict` loads them
    enter: Callable[[], None]  # makes this lane's threads and precision the process's; so does `enter_answering`
    enter_answering: Callable[[], None]
    done: int = 0

    def train(self, count: int) -> Sample:
        """`count` steps further in the plan."""
        self.enter()
        turn = Turn(self.done + count)
        took = timed(lambda: loop.train(self.state, turn, self.done))
        self.done, plan = turn.steps[-1].step, self.state.plan
        lengths = np.concatenate([plan.lengths[plan.batch(step.step - 1)] for step in turn.steps])
        return Sample(
            *took, sum(step.windows for step in turn.steps), sum(step.tokens for step in turn.steps),
            sum(step.padded for step in turn.steps), 3 * forward_operations(lengths, self.bench.shape),
        )  # fmt: skip

    def evaluate(self, parts: Sequence[Part]) -> Sample:
        """Answers and scores for rows that are windows already, as during training."""
        self.enter()
        return self._answer(self.prepared.predictor, parts, lambda: self.prepared.predictor.evaluate(parts))

    def predict(self, rows: Sequence[Row], parts: Sequence[Part]) -> Sample:
        """Answers for rows as they come, windows included; `parts` are the same rows, for the count."""
        self.enter_answering()
        return self._answer(self.answerer, parts, lambda: list(self.answerer.predict(rows)))

    def _answer(self, predictor: Predictor, parts: Sequence[Part], work: Callable[[], object]) -> Sample:
        padded: list[int] = []
        hook = predictor.model.register_forward_pre_hook(
            lambda model, args, inputs: padded.append(inputs["input_ids"].numel()), with_kwargs=True
        )
        took = timed(work)
        hook.remove()
        lengths = np.concatenate([part.store.lengths for part in parts])
        rows, operations = sum(len(part.rows) for part in parts), forward_operations(lengths, self.bench.shape)
        return Sample(*took, rows, int(lengths.sum()), sum(padded), operations)


def open_bench(recipe: Recipe, say: Say) -> Bench:
    """Read the rows, once for all lanes."""
    task = make_task(recipe.task)
    return settle(read_material(recipe, task, read_splits(recipe, task, say), say), say)


def settle(material: Material, say: Say) -> Bench:
    """A bench on rows that are read; it decides what `auto` stands for here."""
    setup = set_up_device(material.recipe.hardware)
    say(f"device: {setup.summary}")
    decided = [f"hardware.precision={setup.precision}", f"hardware.threads={torch.get_num_threads()}"]
    return Bench(material, load_recipe(material.recipe.tree(), decided))


def open_lane(bench: Bench, settings: Sequence[str], steps: int) -> Lane:
    """A lane with some settings of its own, in whose plan so many steps stand for all."""
    recipe = load_recipe(bench.recipe.tree(), settings)
    setup = with_shapes(set_up_device(recipe.hardware), recipe)
    accelerator = setup.accelerator
    if accelerator.num_processes > 1:
        raise BertkitError("bench measures one process", hint="start it without accelerate launch or torchrun")
    built = _built(bench, recipe, setup)
    prepared = assemble(bench.material, recipe, setup, built)
    is_compact = recipe.hardware.compact_vocabulary
    if is_compact not in bench.trained:
        bench.trained[is_compact] = built.model, make_optimizer(built.model, recipe.train)
        follow_decay(*bench.trained[is_compact])
    model, optimizer = accelerator.prepare(built.model), accelerator.prepare(bench.trained[is_compact][1])
    state = prepared.train_state(model, optimizer)
    state.plan = Quantiles(**vars(endless(prepared)), shown=steps)
    if setup.finds_tokens:
        state.resize(find_token_budget(state))
    enter = way_back()
    answering = set_up_device(recipe.hardware, autocast=False)
    answerer = replace(
        prepared.predictor, model=_answering_model(bench, recipe, answering), accelerator=answering.accelerator
    )
    return Lane(
        bench=bench, prepared=prepared, state=state, threads=torch.get_num_threads(), answerer=answerer,
        enter=enter, enter_answering=way_back(),
    )  # fmt: skip


def endless(prepared: Prepared) -> Plan:
    """The plan of a training without an end; the learning rate stays in its warm-up, so that lanes share weights."""
    return replace(prepared.plan, epochs=10**6, steps=None)


def _built(bench: Bench, recipe: Recipe, setup: DeviceSetup) -> Built:
    """The model of a lane; lanes whose models would be alike share one, and all of a kind weights."""
    hardware = recipe.hardware
    ways = hardware.padding_free, hardware.compile, hardware.compact_vocabulary, hardware.gradient_checkpointing
    key = (recipe.model, recipe.train.order, setup.precision, *ways)
    if key not in bench.built:
        bench.built[key] = build(bench.material, recipe, setup)
        if like := bench.trained.get(hardware.compact_vocabulary):
            share_weights(bench.built[key].model, like[0])
    return bench.built[key]


def _answering_model(bench: Bench, recipe: Recipe, setup: DeviceSetup) -> nn.Module:
    """The model that answers, its weights in the precision itself; only float32 ones are those of training."""
    key = (recipe.model, setup.precision, recipe.hardware.padding_free, recipe.hardware.compile)
    if key not in bench.answering:
        task = bench.material.task
        model = load_model(local(recipe.model), task.head, task.labels, recipe.seed).model
        if setup.precision == "fp32":
            share_weights(model, next(iter(bench.built.values())).model)
        make_answering(model, recipe.hardware, setup.accelerator.device, setup.precision)
        bench.answering[key] = model
    return bench.answering[key]


def share_weights(model: nn.Module, other: nn.Module) -> None:
    """Let a model hold the parameters of another of the same architecture: many variants in the memory of one."""
    shared = dict(other.named_parameters(remove_duplicate=False))
    for name, _ in list(model.named_parameters(remove_duplicate=False)):
        path, _, key = name.rpartition(".")
        setattr(model.get_submodule(path), key, shared[name])


def facts(bench: Bench, lane: Lane) -> dict[str, str]:
    """What was measured where, for people."""
    lengths = bench.material.train.store.lengths
    return {
        "weights": f"{sum(p.numel() for p in lane.prepared.built.model.parameters()) / 1e6:.1f} M",
        "device": lane.prepared.setup.summary,
        "machine": platform.platform(),
        "rows": f"{len(bench.material.train.rows):,}",
        "windows": f"{len(lengths):,} of {lengths.mean():.1f} tokens ({int(lengths.max())} at most)",
        "batch": f"{bench.recipe.train.batch_size}",
        "torch": torch.__version__,
    }
