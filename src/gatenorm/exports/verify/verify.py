"""Does an exported model compute what the pruned checkpoint computes? The engine itself is asked.

The engine continues some prompts greedily and tells the log-probabilities that it chose from. The reference, the pruned
directory in transformers and float32, then reads the same prompts with the engine's tokens after them, so that both
speak of the same contexts even where their choices part.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import GGUF, TRANSFORMERS, open_store
from gatenorm.engines import Continuation, Engine, GreedySession, check_opened, engine_for
from gatenorm.errors import EvaluationError
from gatenorm.exports.nemotron import tensors as nemotron
from gatenorm.exports.pruned import pruned_layout
from gatenorm.exports.registry import form_at
from gatenorm.exports.verify.gguf_comparison import Compared
from gatenorm.exports.verify.references import InTransformers, Reference, silenced
from gatenorm.exports.verify.tolerances import EXACT, SAME_ENGINE, Limit, limit_for, tolerated
from gatenorm.families import Layout, detect_layout
from gatenorm.progress import Bars, no_bars
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
        return TRANSFORMERS
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
    bars: Bars | None = None,
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
        bars: opens a progress bar for the comparison of tensors, and one for the prompts.

    Raises:
        EvaluationError: nothing to verify, an engine that refuses it, or another vocabulary.
        MissingExtraError: the engine, torch or transformers is not installed.
        CheckpointError: ``against`` cannot be read or lacks weights.
    """
    form = form_of(exported)
    kind = engine_for(form, engine)
    began, bars = time.perf_counter(), bars or no_bars
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise EvaluationError.out_of_range("tolerance", tolerance, "a number above 0")
    with ExitStack() as opened:
        reference, expected, usual = _reference(exported, against, kind, opened)
        limit = usual if tolerance is None else tolerated(tolerance, usual)
        session = kind.open(exported)
        check_opened(kind, session, "continue_greedily")
        opened.callback(session.close)
        if session.vocabulary != reference.vocabulary:
            raise EvaluationError(
                "vocabularies-differ",
                f"{exported} has a vocabulary of {session.vocabulary:,}, the reference one of {reference.vocabulary:,}",
                expected="the model that it was made from",
            )
        held = None
        if form == GGUF:
            with bars("comparing tensors", "bytes") as progress:
                held = reference.hold(exported, progress)
        token_prompts, compared = prompts(session.vocabulary, against.context, tokens, seed), []
        with bars("comparing what prompts give", "prompts") as progress:
            progress(0, len(token_prompts))
            for done, prompt in enumerate(token_prompts, start=1):
                [continued] = session.continue_greedily([prompt], tokens)
                expects = reference.logprobs(prompt, continued.tokens)
                compared.append(_compare(expects, continued, limit.near_tie))
                progress(done, len(token_prompts))
        figures = _figures(compared) | _of_tensors(held) | _cut_differently(session, reference)
        cached = session.cached_layers
        used = versions() | session.versions
    found = Verification(
        model=against.identity(),
        edits=expected.edits,
        **figures,
        cached_layers=cached,
        protocol=VerificationProtocol(
            engine=kind.name,
            exported=exported.name,
            form=form,
            reference=f"{reference.what}, {limit.reference}",
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
    return msgspec.structs.replace(found, faults=(*_faults(found, limit, expected), *(held.faults if held else ())))


def prompts(vocabulary: int, context: int | None, tokens: int, seed: int = 0) -> list[list[int]]:
    """Prompts of random tokens, short enough that ``tokens`` more fit into the context.

    Raises:
        EvaluationError: they do not fit, however short the prompt.
    """
    longest = (context or 2**31) - tokens
    if longest < 1:
        problem = f"does not fit into a context of {context}"
        raise EvaluationError("tokens-too-many", problem, field="tokens", given=tokens, hint="give fewer")
    if seed < 0:
        raise EvaluationError.out_of_range("seed", seed, "0 or more")
    random = np.random.Generator(np.random.PCG64(seed))
    return [random.integers(0, vocabulary, min(length, longest)).tolist() for length in _LENGTHS]


def _reference(exported: Path, against: Layout, kind: Engine, opened: ExitStack) -> tuple[Reference, Layout, Limit]:
    """What the export is held against, the model that it should be, and how far the two may differ."""
    if against.checkpoint.form == TRANSFORMERS:
        return InTransformers(against), against, _limit(exported, kind)
    own = detect_layout(open_store(exported))
    if own.layers != against.layers:
        problem = (
            f"{exported} was made from a model of {own.layers} layers, {against.checkpoint.path} has {against.layers}"
        )
        raise EvaluationError("layers-differ", problem, field="against")
    expected = pruned_layout(against, own.pruned.plan) if own.pruned else against
    return opened.enter_context(silenced(against, expected, kind, exported.resolve().parent)), expected, SAME_ENGINE


def _limit(exported: Path, kind: Engine) -> Limit:
    if kind.exact:
        return EXACT
    from gatenorm.exports.gguf.writer import stored_types

    return limit_for(stored_types(exported))


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


def _compare(expected: npt.NDArray[np.float64], found: Continuation, tie: float) -> _Compared:
    count = len(expected)
    given = found.logprobs[:count].astype(np.float64)
    if not np.isfinite(given).any(axis=1).all():
        raise EvaluationError(
            "not-finite", "the engine gave no log-probability for some token, or NaN: nothing can be compared"
        )
    known = np.isfinite(given) & np.isfinite(expected)
    differences = np.abs(np.where(known, given, 0) - np.where(known, expected, 0)).max(axis=1)
    kl = _divergence(expected, given, known)
    likely = np.where(np.isfinite(expected), expected, -np.inf)
    best = np.sort(likely, axis=1)[:, -2:]
    near_tie = best[:, 1] - best[:, 0] <= tie
    chosen = likely[np.arange(count), list(found.tokens[:count])]
    return _Compared(differences, kl, near_tie, best[:, 1] - chosen > tie)


def _divergence(
    expected: npt.NDArray[np.float64], given: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """``KL(reference || engine)`` of each row; all tokens of which one of them is silent count as one.

    Lumping outcomes together can only lessen a divergence, so this is a lower bound, exact where the engine tells all.
    An engine's probabilities miss a sum of 1 by their rounding, and that of equals misses 0 by as much, either way.
    """
    p, q = (np.exp(np.where(known, one, -np.inf)) for one in (expected, given))
    among_known = (p * (np.where(known, expected, 0) - np.where(known, given, 0))).sum(axis=1)
    p_rest, q_rest = (np.clip(1 - one.sum(axis=1), 0, None) for one in (p, q))
    rest = np.where(p_rest > 0, p_rest * np.log(np.maximum(p_rest, _TINY) / np.maximum(q_rest, _TINY)), 0)
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


def _cut_differently(engine: GreedySession, reference: Reference) -> dict[str, int]:
    differing = 0
    for text in TEXTS:
        for special in (False, True):
            wanted = reference.tokenize(text, special)
            cut = None if wanted is None else engine.tokenize(text, special)
            if cut is None:
                return {}
            if cut != wanted:
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
    spare = len(nemotron.zero_attention(layout)) if found.protocol.form == nemotron.FORM else 0
    kept = len(layout.attention_layers)
    if found.cached_layers is not None and not kept <= found.cached_layers <= kept + spare:
        faults.append(f"the engine keeps a cache for {found.cached_layers} layers, {kept} kept their attention")
    return faults
