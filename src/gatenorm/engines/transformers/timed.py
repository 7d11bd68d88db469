"""transformers, timed: one forward pass over the prompt, then a token at a time from the cache it made."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gatenorm.checkpoint import open_store
from gatenorm.engines import Case, Sample, Setting, Shares, SkippedError
from gatenorm.engines.transformers.profiler import PassTimes, recording
from gatenorm.errors import first_line
from gatenorm.families import Layout, detect_layout
from gatenorm.models import loading, memory
from gatenorm.models.architecture import Architecture
from gatenorm.models.batches import out_of_memory
from gatenorm.models.threads import threads
from gatenorm.results import versions

# What a pass needs beside weights and cache: live activations of one sublayer, and copies that kernels make.
_LIVE_ROWS = 6


class TransformersTimed:
    """A model in transformers, with its dynamic key/value cache and greedy choice; random prompts.

    Logits are computed for the last position only, as ``generate`` does, and the loop is written out here because
    ``generate`` spends time of its own on every token.

    Args:
        module: the model.
        layout: of the checkpoint that it came from, or of the one that it was pruned from.
        setting: of which only the cases, the threads and the seed count here.
    """

    def __init__(self, module: Any, layout: Layout, setting: Setting):
        self.setting, self.layout, self.model = setting, layout, module
        self._last_only = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(module.forward).parameters else {}
        )
        self._cuda = torch.cuda if module.device.type == "cuda" else None

    @classmethod
    def of_directory(cls, path: Path, setting: Setting) -> TransformersTimed:
        """The model in a directory, loaded as the setting says.

        Raises:
            CheckpointError, EvaluationError, MissingExtraError: it cannot be loaded so.
        """
        layout = detect_layout(open_store(path))
        dtype = loading.dtype_for(setting.dtype, setting.device)
        chosen = {"attn_implementation": setting.attention} if setting.attention else {}
        return cls(loading.load(path, dtype=dtype, device_map={"": setting.device}, **chosen), layout, setting)

    @property
    def versions(self) -> Mapping[str, str]:
        return versions()

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def itemsize(self) -> int:
        """Bytes of one element in that type."""
        return int(self.model.dtype.itemsize)

    def run(self, case: Case) -> Sample:
        with self._fitting(case), torch.inference_mode():
            self._reset_peak()
            ids = self._prompt(case)
            began = self._now()
            output = self.model(ids, use_cache=True, **self._last_only)
            read = self._now()
            token = output.logits[:, -1:].argmax(-1)
            first = self._now()
            cache = output.past_key_values
            cache_bytes = _cache_bytes(cache)
            started = self._now()
            self._decode(token, cache, case.new)
            ended = self._now()
        return Sample(
            prefill=read - began,
            first_token=first - began,
            decode=ended - started,
            cache_bytes=cache_bytes,
            peak_bytes=self._peak(),
        )

    def profile(self, case: Case) -> Shares:
        prefill, decode = self.profiles(case)
        shares = [profile.shares() for profile in (prefill, decode)]
        return Shares(layers=tuple(shares[0]), prefill=tuple(shares[0].values()), decode=tuple(shares[1].values()))

    def profiles(self, case: Case) -> tuple[PassTimes, PassTimes]:
        """Where the time of one prefill, and of ``case.new`` decoding steps after it, goes.

        Raises:
            SkippedError: the case does not fit.
        """
        block, drop = self.layout.block, self.layout.edits.attention
        with self._fitting(case), torch.inference_mode():
            ids = self._prompt(case)
            with recording(self.model, block, drop) as recorder:
                begin = recorder.watch.read()
                output = self.model(ids, use_cache=True, **self._last_only)
                prefill = recorder.profile(begin, recorder.watch.read())
            token, cache = output.logits[:, -1:].argmax(-1), output.past_key_values
            with recording(self.model, block, drop) as recorder:
                begin = recorder.watch.read()
                self._decode(token, cache, case.new)
                decode = recorder.profile(begin, recorder.watch.read())
        return prefill, decode

    def close(self) -> None:
        self.model = None

    def _decode(self, token: Any, cache: Any, count: int) -> None:
        for _ in range(count):
            output = self.model(token, past_key_values=cache, use_cache=True, **self._last_only)
            token = output.logits[:, -1:].argmax(-1)

    def _prompt(self, case: Case) -> Any:
        draw = torch.Generator().manual_seed(self.setting.seed)
        size = self.model.config.get_text_config().vocab_size
        return torch.randint(0, size, (case.batch, case.tokens), generator=draw).to(self.model.device)

    def _now(self) -> float:
        if self._cuda is not None:
            self._cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def _fitting(self, case: Case) -> Iterator[None]:
        """In the setting's threads; a case that does not fit is skipped."""
        self._check_room(case)
        try:
            with threads(self.setting.threads):
                yield
        except RuntimeError as error:
            if out_of_memory(error):
                raise SkippedError(f"out of memory: {first_line(error)}") from None
            raise

    def _check_room(self, case: Case) -> None:
        """Refuse what would make the system kill this process, or another one."""
        free = memory.available_bytes() if self._cuda is None else self._cuda.mem_get_info()[0]
        if free is None:
            return
        counted = Architecture.of(self.layout)
        size = self.itemsize
        widest = max(s.ends for s in (*counted.mlp, *counted.attention.values(), *counted.replaced.values()))
        rows = case.batch * case.tokens * (_LIVE_ROWS * counted.width + widest) * size
        if self.model.config._attn_implementation == "eager":
            rows += 2 * case.batch * self.layout.heads * case.tokens**2 * 4
        logits = (
            case.batch * self.model.config.get_text_config().vocab_size * 4 * (1 if self._last_only else case.tokens)
        )
        # Twice: the cache is copied to be made longer.
        layer = 2 * counted.cache_bytes(case.tokens, case.batch, size) / max(1, len(counted.attention))
        needed = counted.cache_bytes(case.tokens + case.new, case.batch, size) + layer + rows + logits
        if needed > free:
            raise SkippedError(f"needs about {needed / 1e9:,.1f} GB beside the weights, {free / 1e9:,.1f} GB are free")

    def _reset_peak(self) -> None:
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        else:
            memory.reset_peak()

    def _peak(self) -> int:
        return memory.peak_bytes() if self._cuda is None else int(self._cuda.max_memory_allocated())


def _cache_bytes(cache: Any) -> int:
    """Bytes of the keys and values that a cache object holds, layer by layer."""
    tensors = [t for layer in cache.layers for t in (getattr(layer, "keys", None), getattr(layer, "values", None))]
    return sum(t.nbytes for t in tensors if t is not None)
