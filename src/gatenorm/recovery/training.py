"""The training itself: AdamW on adapters and maps, everything else frozen, the held-out loss watched, the best kept.

Everything that a step does follows from the settings, its number and the state before it. So a training that was
stopped and goes on ends, on one machine, bit for bit where it would have ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError
from gatenorm.families import Layout
from gatenorm.models.forward import token_losses
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery import state as states
from gatenorm.recovery.corpus import Corpus
from gatenorm.recovery.generators import seeded
from gatenorm.recovery.look import Look
from gatenorm.recovery.processes import Processes
from gatenorm.recovery.shared_forward import SharedForward
from gatenorm.recovery.state import State
from gatenorm.results import Fingerprint

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """How far a training is: its last step's loss in nats, the last and the best held-out loss, and the pace."""

    step: int
    steps: int
    loss: float
    held_out: float
    best: float
    tokens_per_second: float
    seconds_left: float


Report = Callable[[Step], None]


def train(
    model: Any,
    layout: Layout,
    corpus: Corpus,
    settings: Settings,
    *,
    parent: Any = None,
    processes: Processes | None = None,
    path: Path | None = None,
    key: Fingerprint | None = None,
    report: Report | None = None,
) -> State:
    """Train the parameters of ``model`` that want a gradient; it then holds the best values that were seen.

    Args:
        model: a causal language model with adapters or trained maps; its other weights are frozen.
        layout: of the model.
        parent: the unpruned model, from which it learns; without one it learns the text.
        path: where the state is kept after every look at the held-out text, and gone on from if it is there.
        key: what the state belongs to.
        report: called after every step, in the main process.

    Raises:
        RecoveryError: ``path`` holds the state of another recovery.
        OutputError: the state cannot be written.
    """
    import torch

    together = processes or Processes()
    training = _Training(model, layout, corpus, settings, parent, together)
    saved = states.load(path, key) if path and key else None
    began = time.perf_counter()
    if saved:
        training.restore(saved)
    else:
        training.look(began, [])
        _save(training.state, path, key, together)
    state = training.state
    began -= state.seconds
    losses: list[float] = []
    first, entered = state.step, time.perf_counter()
    while state.step < settings.steps and not state.diverged:
        try:
            loss = training.step()
        except Exception:
            # Too little memory, say. Nothing was learned yet, and other settings would find the state in their way.
            if state.step == 0 and path is not None and together.main:
                path.unlink(missing_ok=True)
            raise
        losses.append(loss)
        state.diverged = training.diverged(loss)
        if not state.diverged and (state.step % settings.watch_every == 0 or state.step == settings.steps):
            training.look(began, losses)
            losses = []
            _save(state, path, key, together)
        if report and together.main:
            pace = (time.perf_counter() - entered) / max(1, state.step - first)
            report(
                Step(
                    step=state.step,
                    steps=settings.steps,
                    loss=loss,
                    held_out=state.history[-1].held_out,
                    best=state.best.held_out,
                    tokens_per_second=settings.sequences * together.count * corpus.train.shape[1] / pace,
                    seconds_left=pace * (settings.steps - state.step),
                )
            )
    if state.diverged:
        _save(state, path, key, together)
    with torch.no_grad():
        for name, parameter in training.parameters.items():
            parameter.copy_(state.tensors["best"][name])
    model.eval()
    return state


def held_out_loss(model: Any, windows: Sequence[Sequence[int]], batch: int) -> float:
    """The mean loss over all predicted tokens of ``windows``, in nats; infinite where the logits are not finite."""
    total = count = 0.0
    for begin in range(0, len(windows), batch):
        try:
            for losses in token_losses(model, windows[begin : begin + batch]):
                total += float(losses.sum())
                count += len(losses)
        except EvaluationError:
            return math.inf
    return total / count


class _Training:
    """The model in training, its optimiser, and the state of both."""

    def __init__(
        self, model: Any, layout: Layout, corpus: Corpus, settings: Settings, parent: Any, processes: Processes
    ):
        import torch

        self.model, self.corpus, self.settings = model, corpus, settings
        self.processes = processes
        self.parameters: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.wrapped = processes.wrap(model)
        total, length = corpus.train.shape
        passes = settings.steps * settings.sequences * processes.count / total
        self.shared = SharedForward(model, parent, layout, sequences=total, length=length, passes=passes)
        self.state = State()

    def step(self) -> float:
        """One step of the optimiser; returns the objective's mean over the step's sequences."""
        import torch

        settings, together, step = self.settings, self.processes, self.state.step
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        self.model.train()
        total = torch.zeros((), device=self.model.device)
        for turn in range(settings.accumulation):
            last = turn == settings.accumulation - 1
            batch = (step * settings.accumulation + turn) * together.count + together.index
            drawn = settings.seed, batch * settings.batch, settings.batch
            ids = torch.from_numpy(self.corpus.rows(*drawn)).long().to(self.model.device)
            # Dropout draws anew for every batch, from its number: not from what was drawn before.
            drawing = seeded((settings.seed * 1_000_003 + batch) % (1 << 63))
            with drawing, together.without_averaging(self.wrapped, last):
                loss = self._loss(self.corpus.numbers(*drawn), ids) / settings.accumulation
                loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.state.step += 1
        return together.mean(total)

    def _loss(self, numbers: list[int], ids: Tensor) -> Tensor:
        logits, expected = self.shared(self.wrapped, numbers, ids)
        if expected is None:
            return language_modelling(logits, ids)
        return distillation(logits, expected.to(logits.device), self.settings.temperature)

    def look(self, began: float, losses: Sequence[float]) -> None:
        """Take the held-out loss, note it, and keep what is trained if it was never better; the state is then whole."""
        self.model.eval()
        seen = held_out_loss(self.model, self.corpus.held_out, self.settings.batch) if self.processes.main else 0.0
        seen = self.processes.agree(seen)
        loss = math.fsum(losses) / len(losses) if losses else None
        state = self.state
        first = not state.history
        better = first or seen < state.best.held_out
        look = Look(step=state.step, held_out=seen, loss=loss, seconds=time.perf_counter() - began)
        state.history.append(look)
        state.tensors["adapters"] = {n: p.detach() for n, p in self.parameters.items()}
        if better:
            state.tensors["best"] = {n: p.detach().clone() for n, p in self.parameters.items()}
        for kind, moment in (("first", "exp_avg"), ("second", "exp_avg_sq")):
            known = self.optimiser.state
            state.tensors[kind] = {n: known[p][moment] for n, p in self.parameters.items() if p in known}
        if not first and not math.isfinite(seen):
            state.diverged = f"the held-out loss of step {state.step} is not finite"
        elif not first and seen > self.settings.diverged * state.start:
            state.diverged = f"held-out loss {seen:.4g} is {seen / state.start:.3g} times the first"

    def diverged(self, loss: float) -> str | None:
        """Why a training whose last step had this loss must end, or ``None``."""
        step, start = self.state.step, self.state.start
        if self.state.diverged:
            return self.state.diverged
        if not math.isfinite(loss):
            return f"the loss of step {step} is not finite"
        if self.settings.objective == "lm" and loss > self.settings.diverged * start:
            return f"the loss of step {step}, {loss:.4g}, is {loss / start:.3g} times the first"
        return None

    def restore(self, saved: State) -> None:
        """Go on from there."""
        import torch

        self.state = saved
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved.tensors["adapters"][name])
                if saved.step and "first" in saved.tensors:
                    self.optimiser.state[parameter] = {
                        "step": torch.tensor(float(saved.step)),
                        "exp_avg": saved.tensors["first"][name].to(parameter.device),
                        "exp_avg_sq": saved.tensors["second"][name].to(parameter.device),
                    }


def _save(state: State, path: Path | None, key: Fingerprint | None, processes: Processes) -> None:
    if path is not None and key is not None and processes.main:
        states.save(state, path, key)
    processes.wait()


def language_modelling(logits: Tensor, ids: Tensor) -> Tensor:
    """``-mean log q(token | tokens before)`` in nats, over the ``tokens - 1`` predicted ones of each sequence.

    Args:
        logits: ``[batch, tokens, vocabulary]``.
        ids: ``[batch, tokens]``.
    """
    import torch

    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def distillation(logits: Tensor, parent: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 mean sum_v p(v) log(p(v) / q(v))``, the forward divergence KL(p || q), over all positions.

    ``p`` is the parent's distribution and ``q`` the pruned model's, both at temperature ``T``; ``T^2`` keeps gradients
    of one size whatever ``T`` is. Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (1503.02531).

    The gradient, ``T (q - p)`` over the number of positions, is taken directly: a third faster than going back through
    the logarithms, which over a large vocabulary is a good part of a step.

    Args:
        logits, parent: ``[batch, tokens, vocabulary]``.
    """
    import torch

    with torch.no_grad():
        q = (logits.float() / temperature).log_softmax(-1)
        p = (parent.float() / temperature).log_softmax(-1)
        expected = p.exp()
        positions = q.shape[:-1].numel()
        divergence = torch.einsum("...v,...v->...", expected, p - q).sum() * temperature**2 / positions
        gradient = q.exp_().sub_(expected).mul_(temperature / positions)
    # Zero, with that gradient.
    pull = torch.dot(logits.float().flatten(), gradient.flatten())
    return divergence + pull - pull.detach()
