"""Does an exported model compute what the pruned checkpoint computes? The engine itself is asked.

The engine continues some prompts greedily and tells the log-probabilities that it chose from. The reference, the pruned
directory in transformers and float32, then reads the same prompts with the engine's tokens after them, so that both
speak of the same contexts even where their choices part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import open_store
from gatenorm.engines import Continuation, Engine, GreedySession, engine_for
from gatenorm.errors import EvaluationError, GatenormError, first_line
from gatenorm.exports.nemotron.tensors import zero_attention
from gatenorm.exports.registry import form_at
from gatenorm.exports.verify.gguf_comparison import Compared
from gatenorm.exports.verify.tolerances import EXACT, Limit, limit_for, tolerated
from gatenorm.families import Layout
from gatenorm.models import loading as reference
from gatenorm.progress import Progress
from gatenorm.records.evidence import Verification, VerificationProtocol
from gatenorm.results import versions

TEXTS = (
    "The quick brown fox, 12 of them, jumped over 3.5 lazy dogs; didn't they?",
    "Two  spaces, a\ttab,\nand a new line. Ünïcödé — “quotes”, 东京, 🙂!",
    "def f(x):\n    return {'a': x ** 2, \"b\": [1, 2, 3]}  # code",
)
# Below what the sum of a float32 softmax is known to.
_TINY = 1e-7
_LENGTHS = (1, 7, 16, 33)


def form_of(path: Path) -> str:
    """The form of what lies at ``path``: an export form, or ``transformers``.

    Raises:
        EvaluationError: nothing that an engine here reads.
    """
    form = form_at(path)
    if form is not None:
        return form.name
    if path.is_dir():
        open_store(path)  # which says what is missing of a model
        return "transformers"
    code, what = ("export-unknown", "is no export") if path.exists() else ("export-missing", "does not exist")
    raise EvaluationError(code, f"{path} {what}", expected="a .gguf file or a directory with config.json")


def verify(
    exported: Path,
    against: Layout,
    engine: str | None = None,
    *,
    tokens: int = 64,
    tolerance: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Run the same prompts through an engine on ``exported`` and through the reference on ``against``.

    Args:
        exported: a GGUF file, a nemotron-nas directory, or a transformers directory.
        against: the pruned (or dense) checkpoint that it was written from.
        engine: its name; by default the first one installed that reads this form.
        tokens: how many to continue each prompt by.
        tolerance: the largest difference of two log-probabilities that passes; by default what the stored type
            explains (``limits``).
        seed: of the prompts, which are random tokens.
        progress: called with (prompts done, prompts).

    Raises:
        EvaluationError: nothing to verify, an engine that refuses it, or another vocabulary.
        MissingExtraError: the engine, torch or transformers is not installed.
        CheckpointError: ``against`` cannot be read or lacks weights.
    """
    form = form_of(exported)
    kind = engine_for(form, engine)
    began = time.perf_counter()
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise EvaluationError(
            "tolerance-out-of-range", "is out of range", field="tolerance", given=tolerance, expected="a number above 0"
        )
    limit = _limit(exported, kind) if tolerance is None else tolerated(tolerance, _limit(exported, kind))
    model = reference.load(against.checkpoint.directory, dtype=_float32())
    opened = kind.open(exported)
    try:
        size = int(model.config.get_text_config().vocab_size)
        if opened.vocabulary != size:
            raise EvaluationError(
                "vocabularies-differ",
                f"{exported} has a vocabulary of {opened.vocabulary:,}, the reference one of {size:,}",
            )
        held = _hold(exported, against, model) if form == "gguf" else None
        token_prompts = prompts(size, against.context, tokens, seed)
        continued = []
        for done, prompt in enumerate(token_prompts):
            continued += opened.continue_greedily([prompt], tokens)
            if progress:
                progress(done + 1, len(token_prompts))
        pairs = zip(token_prompts, continued, strict=True)
        compared = [_compare(model, prompt, found, limit.near_tie) for prompt, found in pairs]
        figures = _figures(compared) | _of_tensors(held) | _cut_differently(opened, against.checkpoint.directory)
        cached = opened.cached_layers
        used = versions() | opened.versions
    finally:
        opened.close()
    found = Verification(
        model=against.identity(),
        edits=against.edits,
        **figures,
        cached_layers=cached,
        protocol=VerificationProtocol(
            engine=kind.name,
            exported=exported.name,
            form=form,
            reference=f"transformers, float32, {limit.reference}, one pass over the prompt and the engine's tokens",
            prompts=f"{len(token_prompts)} of {', '.join(str(len(p)) for p in token_prompts)} "
            f"random tokens, seed {seed}",
            new_tokens=tokens,
            judged_by=limit.of,
            tolerance=limit.most,
            near_tie=limit.near_tie,
        ),
        seconds=time.perf_counter() - began,
        versions=used,
    )
    return msgspec.structs.replace(found, faults=(*_faults(found, limit, against), *(held.faults if held else ())))


def prompts(vocabulary: int, context: int | None, tokens: int, seed: int = 0) -> list[list[int]]:
    """Prompts of random tokens, short enough that ``tokens`` more fit into the context.

    Raises:
        EvaluationError: they do not fit, however short the prompt.
    """
    longest = (context or 2**31) - tokens
    if longest < 1:
        raise EvaluationError(
            "tokens-too-many",
            f"does not fit into a context of {context}",
            field="tokens",
            given=tokens,
            hint="give fewer",
        )
    if seed < 0:
        raise EvaluationError("seed-out-of-range", "is out of range", field="seed", given=seed, expected="0 or more")
    random = np.random.Generator(np.random.PCG64(seed))
    return [random.integers(0, vocabulary, min(length, longest)).tolist() for length in _LENGTHS]


def _float32() -> Any:
    reference.check_hardware("cpu", "auto")  # says what is missing where torch is
    import torch

    return torch.float32


def _limit(exported: Path, kind: Engine) -> Limit:
    if kind.exact:
        return EXACT
    from gatenorm.exports.gguf.writer import stored_types

    return limit_for(stored_types(exported))


def _hold(exported: Path, against: Layout, model: Any) -> Compared | None:
    from gatenorm.exports.gguf.dequantized_model import hold

    return hold(exported, against, model)


def _of_tensors(held: Compared | None) -> dict[str, Any]:
    if held is None:
        return {}
    errors = {kind.lower(): max(found.values()) for kind, found in held.errors.items()}
    return {"tensors": held.count, "wrong_tensors": held.wrong, "row_errors": errors}


@dataclass(frozen=True)
class _Compared:
    """One prompt's comparison, a row for every new token."""

    differences: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    near_tie: npt.NDArray[np.bool_]
    other: npt.NDArray[np.bool_]


def _compare(model: Any, prompt: Sequence[int], found: Continuation, tie: float) -> _Compared:
    import torch

    count = len(found.tokens)
    ids = torch.tensor([[*prompt, *found.tokens]])
    try:
        with torch.inference_mode():
            logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : len(prompt) - 1 + count].double()
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        problem = f"transformers cannot run the reference: {first_line(error)}"
        raise EvaluationError("reference-cannot-run", problem) from error
    expected = logits.log_softmax(-1).numpy()
    if not np.isfinite(expected).all():
        raise EvaluationError("weights-damaged", "the reference computes NaN or infinity: its weights are damaged")
    given = found.logprobs.astype(np.float64)
    known = np.isfinite(given)
    if not known.any(axis=1).all():
        raise EvaluationError(
            "not-finite", "the engine gave no log-probability for some token, or NaN: nothing can be compared"
        )
    differences = np.where(known, np.abs(np.where(known, given, 0) - expected), 0).max(axis=1)
    kl = _divergence(expected, given, known)
    best = np.sort(expected, axis=1)[:, -2:]
    near_tie = best[:, 1] - best[:, 0] <= tie
    chosen = expected[np.arange(count), list(found.tokens)]
    return _Compared(differences, kl, near_tie, best[:, 1] - chosen > tie)


def _divergence(
    expected: npt.NDArray[np.float64], given: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """``KL(reference || engine)`` of each row; all tokens of which the engine is silent count as one.

    Lumping outcomes together can only lessen a divergence, so this is a lower bound, exact where the engine tells all.
    An engine's probabilities miss a sum of 1 by their rounding, and that of equals misses 0 by as much, either way.
    """
    p, q = np.exp(expected), np.where(known, np.exp(np.where(known, given, 0)), 0)
    among_known = np.where(known, p * (expected - np.where(known, given, 0)), 0).sum(axis=1)
    p_rest, q_rest = np.where(known, 0, p).sum(axis=1), np.clip(1 - q.sum(axis=1), _TINY, None)
    rest = np.where(p_rest > 0, p_rest * np.log(np.maximum(p_rest, _TINY) / q_rest), 0)
    divergence: npt.NDArray[np.float64] = among_known + np.where(known.all(axis=1), 0, rest)
    return divergence


def _figures(compared: Sequence[_Compared]) -> dict[str, Any]:
    return {
        "largest_difference": float(max(c.differences.max() for c in compared)),
        # A divergence is never negative; what rounding makes of that of equals is.
        "mean_kl": max(0.0, float(np.concatenate([c.kl for c in compared]).mean())),
        "tokens": sum(len(c.kl) for c in compared),
        "other_choices": int(sum(c.other.sum() for c in compared)),
        "near_ties": int(sum(c.near_tie.sum() for c in compared)),
    }


def _cut_differently(engine: GreedySession, directory: Path) -> dict[str, int]:
    try:
        tokenizer = reference.load_tokenizer(directory)
    except GatenormError:
        return {}  # a model without a tokenizer can be served by token numbers alone
    differing = 0
    for text in TEXTS:
        for special in (False, True):
            cut = engine.tokenize(text, special)
            if cut is None:
                return {}
            if cut != list(tokenizer(text, add_special_tokens=special)["input_ids"]):
                differing += 1
                break
    return {"texts_cut_differently": differing, "texts": len(TEXTS)}


def _faults(found: Verification, limit: Limit, layout: Layout) -> list[str]:
    faults = []
    judged: float = getattr(found, limit.of)
    if not judged <= limit.most:
        what = {"largest_difference": "log-probabilities differ by up to", "mean_kl": "the mean KL divergence is"}
        faults.append(f"{what[limit.of]} {judged:.3g} nats, tolerance {limit.most:g}")
    if found.other_choices:
        faults.append(f"{found.other_choices} of {found.tokens} greedy tokens are not the reference's")
    if found.texts_cut_differently:
        faults.append(f"{found.texts_cut_differently} of {found.texts} texts are cut into other tokens")
    # An exported layer 0 may keep an attention that computes zero; no other pruned layer has a cache.
    spare = len(zero_attention(layout)) if found.protocol.form == "nemotron-nas" else 0
    kept = len(layout.attention_layers)
    if found.cached_layers is not None and not kept <= found.cached_layers <= kept + spare:
        faults.append(f"the engine keeps a cache for {found.cached_layers} layers, {kept} kept their attention")
    return faults
