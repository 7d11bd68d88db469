"""A model under evaluation: who it is, and the model itself once somebody asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError
from gatenorm.families import Layout
from gatenorm.records import ModelIdentity

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRANSFORMERS = "transformers"
# Of float32 logits at a time: what a batch may hold where no batch size is given.
LOGITS_BYTES = 512 << 20
MOST_ROWS = {"cpu": 16}
_MOST_ROWS_ELSEWHERE = 64


class Subject:
    """A checkpoint or a live model, loaded once for all tasks, and only when something is not in the cache.

    ``context`` is the longest input in tokens (``None``: no limit is known), ``layout`` what is known of a checkpoint
    (``None`` for a live model), ``batch_size`` the number of sequences at a time (``None``: as memory allows),
    ``engine`` what answers the requests of lm-eval.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        removed: tuple[int, ...],
        context: int | None,
        load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        *,
        layout: Layout | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        batch_size: int | None = None,
        removed_mlp: tuple[int, ...] = (),
        engine: str = TRANSFORMERS,
    ):
        self.identity = identity
        self.removed = removed
        self.removed_mlp = removed_mlp
        self.context = context
        self.layout = layout
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.engine = engine
        self._load = load
        self._held: tuple[Any, Callable[[], None]] | None = None
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    @classmethod
    def of_layout(
        cls,
        layout: Layout,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        batch_size: int | None = None,
        engine: str = TRANSFORMERS,
    ) -> Subject:
        """A checkpoint on disk; on the device ``auto`` accelerate spreads it over what there is.

        Raises:
            EvaluationError: no such device or dtype.
            MissingExtraError: torch or transformers is not installed.
        """
        from gatenorm.models.loading import check_device, dtype_for, load, load_tokenizer

        if engine != TRANSFORMERS:
            # It chooses the device, and would choose the type too: what the weights are stored in is what is meant.
            stored = layout.checkpoint.config.get("dtype") or layout.checkpoint.config.get("torch_dtype")
            device, dtype = engine, str(stored or "float32") if dtype == "auto" else dtype
        check_device("cpu" if device in ("auto", engine) else device)
        torch_dtype = dtype_for(dtype, device)
        where: Any = device if device == "auto" else {"": device}

        def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
            directory = layout.checkpoint.directory
            # The tokenizer first: where there is none, nobody should have to wait for the weights to hear of it.
            tokenizer = load_tokenizer(directory)
            return load(directory, dtype=torch_dtype, device_map=where), tokenizer

        return cls(
            layout.identity(),
            layout.drop,
            layout.context,
            loaded,
            layout=layout,
            device=device,
            dtype=str(torch_dtype).removeprefix("torch."),
            batch_size=batch_size,
            removed_mlp=layout.drop_mlp,
            engine=engine,
        )

    @classmethod
    def of_module(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "live model",
        *,
        batch_size: int | None = None,
    ) -> Subject:
        """A transformers model in memory, put into evaluation mode; its results are not cached."""
        config = model.config
        pruned = getattr(config, "gatenorm", None) or {}
        described = json.dumps(config.to_dict(), sort_keys=True, default=str)
        identity = ModelIdentity(
            name=name,
            model_type=str(pruned.get("base_model_type", config.model_type)),
            layers=int(pruned.get("layers", config.num_hidden_layers)),
            config_sha256=hashlib.sha256(described.encode()).hexdigest(),
            files={},
            recovered=bool(pruned.get("recovery")),
        )
        model.eval()
        return cls(
            identity,
            tuple(pruned.get("drop", ())),
            getattr(config, "max_position_embeddings", None),
            lambda: (model, tokenizer),
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            batch_size=batch_size,
            removed_mlp=tuple(pruned.get("drop_mlp", ())),
        )

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def model(self) -> Any:
        """The model; loads it when first asked.

        Raises:
            CheckpointError, EvaluationError: it, or its tokenizer, cannot be loaded.
        """
        return self._both()[0]

    @property
    def tokenizer(self) -> Any:
        return self._both()[1]

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.vocab_size)

    def held(self, make: Callable[[], tuple[Any, Callable[[], None]]]) -> Any:
        """What another engine opened of this model, until it is released: ``make`` gives it, and how to close it."""
        if self._held is None:
            self._held = make()
        return self._held[0]

    def release(self) -> None:
        """Give the memory back; the model is loaded again if somebody asks once more."""
        self._loaded = None
        held, self._held = self._held, None
        if held is not None:
            held[1]()

    def hardware(self) -> dict[str, str]:
        """The part of a protocol that says on what it was computed."""
        return {"dtype": str(self.model.dtype).removeprefix("torch."), "device": self.model.device.type}

    def rows(self, tokens: int) -> int:
        """How many sequences of that length go through the model at a time."""
        return Room(self.model.device.type, self.vocabulary, self.batch_size).rows(tokens)

    def encode(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        """Token ids, with the tokenizer's own special tokens unless they are not wanted.

        Raises:
            EvaluationError: a token outside the model's vocabulary.
        """
        found = self.tokenizer(texts, verbose=False, add_special_tokens=special)["input_ids"]
        check_vocabulary(found, self.vocabulary)
        return [list(ids) for ids in found]

    def _both(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


@dataclass(frozen=True)
class Room:
    """How many sequences go through a model at a time where no subject says so: ``batch_size``, or as many as fit."""

    device: str
    vocabulary: int
    batch_size: int | None = None

    def rows(self, tokens: int) -> int:
        """How many sequences of that length."""
        return self.batch_size or rows_that_fit(tokens, self.vocabulary, self.device)


def check_same_tokenizer(model: Subject, baseline: Subject) -> None:
    """Refuse two models whose tokens are not the same; of checkpoints only the tokenizers are read for it.

    Raises:
        EvaluationError: they are not, or a tokenizer cannot be read.
    """
    from gatenorm.models.loading import load_tokenizer

    layouts = [subject.layout for subject in (model, baseline)]
    files = [layout.checkpoint.directory / "tokenizer.json" for layout in layouts if layout is not None]
    if len(files) == 2 and all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes():
        return
    tokenizers = [
        subject.tokenizer if subject.layout is None else load_tokenizer(subject.layout.checkpoint.directory)
        for subject in (model, baseline)
    ]
    if tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
        raise EvaluationError(
            f"{model.name} and {baseline.name} have different tokenizers: their distributions cannot be compared"
        )


def rows_that_fit(tokens: int, vocabulary: int, device: str) -> int:
    """How many sequences have logits that fit into the memory set aside for them: at least one."""
    fit = LOGITS_BYTES // (max(tokens, 1) * vocabulary * 4)
    return max(1, min(fit, MOST_ROWS.get(device, _MOST_ROWS_ELSEWHERE)))


def check_vocabulary(sequences: list[list[int]], vocabulary: int) -> None:
    """Refuse tokens that the model has no embedding for.

    Raises:
        EvaluationError: a token outside the vocabulary.
    """
    highest = max((max(ids) for ids in sequences if ids), default=0)
    if highest >= vocabulary:
        raise EvaluationError(f"token {highest} is outside the model's vocabulary of {vocabulary}: wrong tokenizer?")
