"""What is kept of a run while it trains: its history, the last checkpoints, the best weights."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bertkit.disk import discard
from bertkit.metrics.shown import describe_scores
from bertkit.rundir import PACE, RunDir, checkpoints_of, latest
from bertkit.train import checkpoint, memory
from bertkit.train.loop import Step, StepObserver, TrainState
from bertkit.train.observe import Progress
from bertkit.train.ranks import of_first


@dataclass(kw_only=True)
class Keeper(StepObserver):
    """The observer of a run: history, progress, evaluations, checkpoints, the best weights and early stopping.

    Best weights are in a folder named by their step, which stays as long as a checkpoint speaks of it: killed between
    the two, a run goes on from a checkpoint whose best weights are there.
    """

    run: RunDir
    state: TrainState
    model: torch.nn.Module  # bare, without what accelerate wraps around it; so is the optimiser
    optimizer: torch.optim.Optimizer
    asked: int | str  # micro-batch tokens as the recipe has them; 0 for none
    fingerprint: Mapping[str, object]
    progress: Progress = field(default_factory=Progress)
    token_budget: int = 0  # what became of them, found or halved; 0 as long as nothing did
    best: dict[str, object] | None = None
    best_predictions: list | None = None  # of the best evaluation, when this process made it
    stale: int = 0  # evaluations since the best one
    stopped: bool = False  # early stopping has ended the run
    step: int = 0
    last_saved: str | None = None
    _began: float = field(default_factory=time.monotonic)  # were it trained without a break

    def seconds(self) -> float:
        """Seconds of training so far, over all resumes."""
        return time.monotonic() - self._began

    def is_due(self, step: int) -> bool:
        """Whether to evaluate after this step: the last one always is, whatever divides what."""
        is_last = step == self.state.plan.step_count
        return self.state.objective.has_scores and (is_last or self._is_turn(step, self.state.config.evaluate_every))

    def is_checkpoint(self, step: int) -> bool:
        return self._is_turn(step, self.state.config.checkpoint_every)

    def _is_turn(self, step: int, every: int | None) -> bool:
        """Whether something that happens every so many steps, or else every epoch, happens after this step."""
        return step % (every or self.state.plan.steps_per_epoch) == 0

    def __call__(self, steps: list[Step]) -> bool:
        if self.state.accelerator.is_main_process:
            self.run.append_history(step.record() for step in steps)
            pace = {"step": steps[-1].step, "seconds": round(self.seconds(), 3), **memory.held()}
            self.run.append_history([pace], PACE)
        self.progress.steps(steps)
        for step in steps:
            numbers = {"loss": step.loss, "learning_rate": step.learning_rate, "gradient_norm": step.gradient_norm}
            self._track("train", numbers, step.step)
        if skipped := [str(step.step) for step in steps if step.skipped]:
            self.progress.say(
                f"step {', '.join(skipped)} skipped: the gradient overflowed in fp16; "
                f"losses are scaled by {self.state.loss_scale.get_scale():g} from here on"
            )
        return self.is_due(steps[-1].step) and self._evaluate(steps[-1].step, steps[-1].epoch)

    def resized(self, step: int, tokens: int, reason: str) -> None:
        self.token_budget = tokens
        if self.state.accelerator.is_main_process:
            self.run.append_history([{"step": step, "micro_batch_tokens": tokens, "reason": reason}], PACE)
        self.progress.say(f"step {step}: micro-batches of {tokens:,} tokens: {reason}")

    def _evaluate(self, step: int, epoch: float) -> bool:
        scores, predictions = self.state.objective.evaluate()
        memory.give_back()
        if self.state.accelerator.is_main_process:
            self.run.append_history([{"step": step, "epoch": epoch, "validation": scores}])
        self.progress.say(f"step {step} (epoch {epoch:.2f})  validation: {describe_scores(scores)}")
        self._track("validation", scores, step)
        best_by, is_lower = self.state.objective.best_by, self.state.objective.lower_is_better
        value = scores[best_by]
        best = None if self.best is None else self.best["value"]
        # an undefined metric is never the best
        if value is not None and (best is None or (value < best if is_lower else value > best)):
            self.stale, self.best_predictions = 0, predictions
            self.save_best(step, best_by, value)
        else:
            self.stale += 1
        patience = self.state.config.early_stopping
        self.stopped = patience is not None and self.stale >= patience
        if self.stopped:
            self.progress.say(f"early stopping: no better {best_by} in {patience} evaluations")
        return self.stopped

    def _track(self, kind: str, values: Mapping[str, float | None], step: int) -> None:
        """Tell the trackers, where the recipe names some; undefined numbers are left out."""
        known = {f"{kind}/{name}": value for name, value in values.items() if value is not None}
        self.state.accelerator.log(known, step=step)

    def save(self, step: int) -> None:
        """Write the checkpoint of this step and remove those beyond `train.keep`."""
        self.step, name = step, f"step-{step:06d}"
        if self.state.accelerator.is_main_process:
            self.run.sync_history()
            checkpoint.save_checkpoint(
                self.run.checkpoints / name, self.model, self.optimizer,
                {"step": step, "best": self.best, "stale": self.stale, "stopped": self.stopped,
                 "seconds": round(self.seconds(), 3), "scaler": self.state.loss_scale.state(),
                 "fingerprint": dict(self.fingerprint),
                 "micro_batch_tokens": {"asked": self.asked, "now": self.token_budget}},
            )  # fmt: skip
            for old in checkpoints_of(self.run.checkpoints)[: -self.state.config.keep]:
                discard(old)
            self._drop_beaten()
        self.last_saved = name

    def save_best(self, step: int, name: str, value: float) -> None:
        """Keep the weights of this step as the best so far, without the optimiser's state."""
        self.best = {"step": step, "metric": name, "value": value}
        if self.state.accelerator.is_main_process:
            checkpoint.save_checkpoint(self._best_of(step), self.model, None, {"step": step})
            self._drop_beaten()

    def _best_of(self, step: int) -> Path:
        return self.run.checkpoints / f"best-{step:06d}"

    def _drop_beaten(self) -> None:
        """Remove best weights of which no checkpoint speaks any more."""
        wanted = {checkpoint.best_of(path) for path in checkpoints_of(self.run.checkpoints)}
        wanted.add(self.best and self.best["step"])
        kept = {self._best_of(step) for step in wanted if step is not None}
        for folder in self.run.checkpoints.glob("best-*"):
            if folder not in kept:
                discard(folder)

    def resume(self, say: Callable[[str], None]) -> int:
        """Go on from the last checkpoint; returns the steps done, 0 when there is none."""
        path = of_first(lambda: latest(self.run.checkpoints))
        if path is None:
            say("resume: there is no checkpoint yet, starting from the first step")
        else:
            kept = checkpoint.resume(path, self.model, self.optimizer, self.fingerprint)
            self.state.loss_scale.load(kept["scaler"])
            self.best, self.stale, self.stopped = kept["best"], kept["stale"], kept["stopped"]
            self.step, self.last_saved = kept["step"], path.name
            self._began -= kept["seconds"]
            tokens = kept["micro_batch_tokens"]
            if tokens["now"] and tokens["asked"] == self.asked:  # asked for anew, they are taken as asked
                self.token_budget = tokens["now"]
                self.state.resize(self.token_budget)
            say(f"resume: going on from {path.name}")
        if self.state.accelerator.is_main_process:
            self.run.rewind_history(self.step)
        return self.step

    def load_best(self) -> None:
        """Put the best weights into the model, where an evaluation found one."""
        if self.best is not None and self.best["step"] != self.step:
            path = self._best_of(self.best["step"])
            checkpoint.read_state(path)
            checkpoint.load_weights(path, self.model)
