"""Text that the model writes itself.

Instruct models write both sides of a chat, as in Xu et al., "Magpie: Alignment Data Synthesis from Scratch by Prompting
Aligned LLMs with Nothing" (arXiv 2406.08464): behind the opening of a user's turn they ask something themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.samples import Calibration, CalibrationSamples, Sampling
from gatenorm.calibration.sources.chat_turns import ChatTurns, chat_turns
from gatenorm.calibration.sources.text_figures import generic_figures, text_figures
from gatenorm.errors import CalibrationError, named
from gatenorm.progress import Progress
from gatenorm.records.self_text import Beginning, SelfText

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Samples that are drawn at a time.
BATCH = 16
# Of the likeliest tokens, among which a nucleus is looked for before all are sorted.
_LIKELY = 512


def self_samples(
    calibration: Calibration,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    progress: Progress | None = None,
) -> CalibrationSamples:
    """Text that the model draws token by token.

    Where the tokenizer has a chat template, every sample is a chat of which the model writes all turns, the user's too:
    a special token that it draws ends the turn, and the template's tokens up to the other's turn are put in. Elsewhere
    a sample goes on from the token that texts begin with, or from a random one; an end-of-text token does not end it.

    Samples are drawn a batch at a time, 16 unless the calibration says otherwise, whose rows take turns with one
    generator: tokens are equal for equal seeds and batch sizes, on one device, dtype and version of torch.

    Args:
        progress: called with (tokens drawn, tokens to draw).

    Raises:
        CalibrationError: samples longer than the model takes or no longer than the opening of a chat, or probabilities
            that are not finite.
    """
    import torch

    calibration.check_length(model.config.get_text_config())
    opening = opening_token(tokenizer, model.config.get_text_config())
    turns = chat_turns(tokenizer) if calibration.sampling.chat else None
    if turns is not None and calibration.length <= len(turns.opening):
        problem = "is no more than the opening of a chat"
        expected = f"more than {len(turns.opening)}"
        raise CalibrationError("length-too-short", problem, field="length", given=calibration.length, expected=expected)
    beginning: Beginning = "chat" if turns else "random token" if opening is None else "start token"
    generator = torch.Generator().manual_seed(calibration.seed)
    size, total = calibration.batch_size or BATCH, calibration.samples * calibration.length
    batches: list[_Batch] = []
    for first in range(0, calibration.samples, size):
        rows = min(size, calibration.samples - first)
        if turns is not None:
            begun = torch.tensor([turns.opening] * rows)
        elif opening is not None:
            begun = torch.full((rows, 1), opening)
        else:
            begun = torch.randint(model.config.get_text_config().vocab_size, (rows, 1), generator=generator)
        batch = _Batch(begun, turns, calibration.sampling, generator)
        while batch.tokens.shape[1] < calibration.length:
            batch.write(model)
            if progress:
                progress(first * calibration.length + batch.tokens.numel(), total)
        batches.append(batch)
    sequences = [row for batch in batches for row in batch.tokens.tolist()]
    nll = sum(batch.nll for batch in batches) / max(1, sum(batch.chosen for batch in batches))
    record = SelfText(
        beginning=beginning,
        temperature=calibration.sampling.temperature,
        top_p=calibration.sampling.top_p,
        seen=text_figures(sequences, nll),
        generic=generic_figures(model, tokenizer, calibration.length),
    )
    bos = beginning == "start token"
    return CalibrationSamples.of(sequences, calibration, bos=bos, batch_size=size, self_text=record)


class _Batch:
    """Samples that are written together, a token of each at a time, with the model's cache.

    Attributes:
        tokens: ``[rows, tokens so far]``.
        nll, chosen: the sum of ``-log p`` over the tokens that the model chose, and how many they are.
    """

    def __init__(self, begun: Tensor, turns: ChatTurns | None, sampling: Sampling, generator: Generator):
        self.tokens = self._fresh = begun
        self.nll, self.chosen = 0.0, 0
        self._sampling, self._generator, self._cache = sampling, generator, None
        self._speakers = [_Speaker(turns) for _ in begun] if turns else []
        self._ends = sorted(turns.ends) if turns else []

    def write(self, model: Any) -> None:
        """Add a token to every row.

        Raises:
            CalibrationError: probabilities that are not finite.
        """
        import torch

        with torch.inference_mode():
            out = model(input_ids=self._fresh.to(model.device), past_key_values=self._cache, use_cache=True)
            self._cache, logits = out.past_key_values, out.logits[:, -1].float().cpu()
            if not bool(logits.isfinite().all()):
                problem = "the model's logits are not finite (NaN or infinity)"
                raise CalibrationError("not-finite", problem, hint=f"try {named('dtype')} float32")
            silent = [row for row, speaker in enumerate(self._speakers) if speaker.begins]
            if silent:  # a turn must say something
                logits[torch.tensor(silent)[:, None], torch.tensor(self._ends)] = -torch.inf
            drawn = torch.multinomial(_chances(logits, self._sampling), 1, generator=self._generator)
            surprise = logits.logsumexp(-1) - logits.gather(1, drawn)[:, 0]
        written = drawn
        if self._speakers:
            pairs = zip(self._speakers, drawn[:, 0].tolist(), strict=True)
            written = torch.tensor([[speaker.said(token)] for speaker, token in pairs])
        chosen = (written == drawn)[:, 0]
        self.nll += float(surprise[chosen].double().sum())
        self.chosen += int(chosen.sum())
        self._fresh, self.tokens = written, torch.cat([self.tokens, written], 1)


class _Speaker:
    """Whose turn it is in a chat, and what the template puts in before the next one speaks.

    Attributes:
        begins: whether the next token is the first of a turn.
    """

    def __init__(self, turns: ChatTurns):
        self._turns, self._is_user, self._due, self.begins = turns, True, deque[int](), True

    def said(self, drawn: int) -> int:
        """The next token, where the model drew ``drawn``."""
        if not self._due and drawn not in self._turns.ends:
            self.begins = False
            return drawn
        if not self._due:
            self._due.extend(self._turns.to_assistant if self._is_user else self._turns.to_user)
            self._is_user = not self._is_user
        token = self._due.popleft()
        self.begins = not self._due
        return token


def _chances(logits: Tensor, sampling: Sampling) -> Tensor:
    """``[rows, vocabulary]``: the probabilities at the temperature, zero outside the nucleus."""
    import torch

    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p == 1:
        return chances
    likely, tokens = chances.topk(min(_LIKELY, chances.shape[-1]))
    if bool((likely.sum(-1) < sampling.top_p).any()):
        likely, tokens = chances.sort(descending=True)
    # A token is in while those before it hold less than the share.
    inside = likely.cumsum(-1) - likely < sampling.top_p
    return torch.zeros_like(chances).scatter_(-1, tokens, likely * inside)


def opening_token(tokenizer: PreTrainedTokenizerBase | None, config: Any) -> int | None:
    """The token that this model's texts begin with, where its tokenizer puts one in front or its config names one that
    also ends them; ``None`` without.
    """
    if tokenizer is not None:
        ids = tokenizer("a")["input_ids"]
        if ids and ids[0] == tokenizer.bos_token_id:
            return int(ids[0])
    begin, end = getattr(config, "bos_token_id", None), getattr(config, "eos_token_id", None)
    if begin is None or begin not in (end if isinstance(end, list) else [end]):
        return None
    return int(begin) if begin < config.vocab_size else None
