"""A model: who it is, what was removed from it, and its weights and tokenizer once they are asked for."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import TRANSFORMERS as TRANSFORMERS
from gatenorm.errors import CheckpointError, EvaluationError
from gatenorm.families import Layout
from gatenorm.models import loading
from gatenorm.models.batches import BatchBudget, check_vocabulary
from gatenorm.models.live_edits import BlockSwap, edited_copy
from gatenorm.models.processor import is_cpu
from gatenorm.records import ATTENTION, Edit, Edits, ModelIdentity
from gatenorm.surgery.operation import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(eq=False, kw_only=True)
class Model:
    """A checkpoint or a model in memory. It is loaded when first run, and kept until it is released.

    Attributes:
        identity: of the checkpoint.
        edits: what was changed in it, by original layer numbers.
        context: the longest input in tokens; ``None`` where no limit is known.
        load, load_tokenizer, load_config: give the transformers model, its tokenizer and its configuration.
        layout: of the checkpoint; ``None`` for a model in memory.
        device: a torch device, or ``auto`` to let accelerate spread the model over what there is.
        dtype: one of :data:`gatenorm.models.loading.DTYPES`; :attr:`computes_in` is what it comes to.
        batch_size: sequences at a time; ``None`` for as many as memory allows.
        engine: what answers the requests of lm-eval.
        cacheable: whether it may be run with a key/value cache.
        load_seconds: what loading the weights took.
    """

    identity: ModelIdentity
    edits: Edits
    context: int | None
    load: Callable[[], Any]
    load_tokenizer: Callable[[], Any]
    load_config: Callable[[], Any]
    layout: Layout | None = None
    device: str = "cpu"
    dtype: str = "auto"
    batch_size: int | None = None
    engine: str = TRANSFORMERS
    cacheable: bool = True
    load_seconds: float = field(default=0.0, init=False)
    _module: Any = field(default=None, init=False, repr=False)
    _swap: BlockSwap | None = field(default=None, init=False, repr=False)
    _in_engine: tuple[Any, Callable[[], None]] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of_layout(cls, layout: Layout, *, device: str = "cpu", dtype: str = "auto", **options: Any) -> Model:
        """A checkpoint on disk. Nothing is read before it is asked for.

        Args:
            options: ``batch_size`` and ``engine``.

        Raises:
            CheckpointError: it is no directory that transformers loads.
        """
        directory = layout.checkpoint.directory
        if layout.checkpoint.form != TRANSFORMERS:
            raise is_file(layout)

        def load() -> Any:
            loading.check_hardware(device, dtype)
            where: Any = device if device == "auto" else {"": device}
            return loading.load(directory, dtype=loading.dtype_for(dtype, device), device_map=where)

        return cls(
            identity=layout.identity(),
            edits=layout.edits,
            context=layout.context,
            load=load,
            load_tokenizer=lambda: loading.load_tokenizer(directory),
            load_config=lambda: loading.configuration(layout),
            layout=layout,
            device=device,
            dtype=dtype,
            **options,
        )

    @classmethod
    def of_module(
        cls, module: PreTrainedModel, tokenizer: Any, name: str = "live model", *, batch_size: int | None = None
    ) -> Model:
        """A transformers model in memory, put into evaluation mode; its results are not cached."""
        config = module.config
        pruned = getattr(config, "gatenorm", None) or {}
        described = json.dumps(config.to_dict(), sort_keys=True, default=str)
        identity = ModelIdentity(
            name=name,
            model_type=str(pruned.get("base_model_type", config.model_type)),
            layers=int(pruned.get("layers", config.get_text_config().num_hidden_layers)),
            config_sha256=hashlib.sha256(described.encode()).hexdigest(),
            files={},
            recovered=bool(pruned.get("recovery")),
        )
        module.eval()
        return cls(
            identity=identity,
            edits=Edits.from_json(pruned.get("edits", [])),
            context=getattr(config.get_text_config(), "max_position_embeddings", None),
            load=lambda: module,
            load_tokenizer=lambda: tokenizer,
            load_config=lambda: config,
            device=str(module.device),
            dtype=str(module.dtype).removeprefix("torch."),
            batch_size=batch_size,
        )

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def known_layout(self) -> Layout:
        """The checkpoint's layout.

        Raises:
            EvaluationError: this is a model in memory, which has none.
        """
        if self.layout is None:
            problem = f"{self.name} is a model in memory, whose blocks are not known"
            raise EvaluationError("model-in-memory", problem, hint="save it to a directory and name that")
        return self.layout

    @property
    def module(self) -> Any:
        """The transformers model; loaded when first asked for.

        Raises:
            CheckpointError, EvaluationError, MissingExtraError: it cannot be loaded, or not there.
        """
        if self._module is None:
            began = time.perf_counter()
            self._module = self.load()
            self.load_seconds = time.perf_counter() - began
        return self._module

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._module is not None

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, for which no weight is read.

        Raises:
            EvaluationError: it has none that can be read.
        """
        return self.load_tokenizer()

    @property
    def has_tokenizer(self) -> bool:
        """Whether :attr:`tokenizer` can be had; random tokens need none."""
        try:
            return self.tokenizer is not None
        except EvaluationError:
            return False

    @cached_property
    def config(self) -> Any:
        """The transformers configuration of the language model, for which no weight is read.

        Raises:
            CheckpointError, MissingExtraError: as :func:`gatenorm.models.loading.configuration`.
        """
        return self.load_config().get_text_config()

    @cached_property
    def computes_in(self) -> str:
        """The data type that the model is, or would be, run in."""
        if self.dtype != "auto":
            return self.dtype
        if self.engine == TRANSFORMERS and is_cpu(self.device):
            return "float32"
        # Other engines would choose half a type of it themselves: the type that the weights are stored in is meant.
        return str(self.config.dtype or "float32").removeprefix("torch.")

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    def opened_in_engine(self, make: Callable[[], tuple[Any, Callable[[], None]]]) -> Any:
        """What another engine opened of this model, until it is released: ``make`` gives it, and how to close it."""
        if self._in_engine is None:
            self._in_engine = make()
        return self._in_engine[0]

    def release(self) -> None:
        """Give the memory back; the model is loaded again when it is next asked for."""
        self._module = self._swap = None
        opened, self._in_engine = self._in_engine, None
        if opened is not None:
            opened[1]()

    def check_hardware(self) -> None:
        """Refuse a device or data type that cannot be used, before anything is loaded.

        Raises:
            EvaluationError, MissingExtraError: as :func:`gatenorm.models.loading.check_hardware`.
        """
        if self.engine == TRANSFORMERS:
            loading.check_hardware(self.device, self.dtype)
        elif self.dtype != "auto":
            loading.check_hardware("cpu", self.dtype)

    def check_unchanged(self) -> None:
        """Make sure that its files are what they were when it was opened, before a figure is kept as theirs.

        Raises:
            CheckpointError: one was changed.
        """
        if self.layout is not None:
            self.layout.checkpoint.check_unchanged()

    def hardware(self) -> dict[str, str]:
        """The part of a protocol that says on what it was computed."""
        return {"dtype": str(self.module.dtype).removeprefix("torch."), "device": self.module.device.type}

    def rows(self, tokens: int) -> int:
        """How many sequences of that length go through the model at a time."""
        return BatchBudget(self.module.device.type, self.vocabulary, self.batch_size).rows(tokens)

    def encode(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        """Token ids, with the tokenizer's own special tokens unless they are not wanted.

        Raises:
            EvaluationError: a token outside the model's vocabulary.
        """
        token_ids = self.tokenizer(texts, verbose=False, add_special_tokens=special)["input_ids"]
        check_vocabulary(token_ids, self.vocabulary)
        return [list(ids) for ids in token_ids]

    @contextmanager
    def edited(self, edits: Edits, weights: Mapping[Edit, Weights] | None = None) -> Iterator[Model]:
        """The model with these edits (original layer numbers), for a while, at no cost.

        The module is this model's own, whose blocks change places: run it without a key/value cache only, and not
        this model at the same time.

        Args:
            weights: the tensors of edits whose operation stores some.
        """
        if self._swap is None:
            self._swap = BlockSwap(self.module, self.known_layout)
        with self._swap.edited(edits, weights or {}) as module:
            yield replace(self._with(lambda: module, edits), cacheable=False)

    def without(self, layers: Collection[int], kind: str = ATTENTION) -> AbstractContextManager[Model]:
        """:meth:`edited` without the sublayers of that kind of ``layers``."""
        return self.edited(Edits.of(kind, layers))

    def edited_copy(self, edits: Edits, weights: Mapping[Edit, Weights] | None = None) -> Model:
        """The model with these edits (original layer numbers), as a checkpoint would have it.

        It has the same tensors, and works with a key/value cache too; without edits it is this model. One that
        accelerate spread over devices is changed itself, and loaded anew when this model is next asked for.

        Raises (when it is loaded):
            PlanError: as :func:`gatenorm.surgery.live.edit_model`.
        """
        if not edits:
            return self

        def load() -> Any:
            module = self.module
            if self.device == "auto":
                self.release()
            return edited_copy(module, self.known_layout, edits, weights or {}, in_place=self.device == "auto")

        return self._with(load, edits)

    def _with(self, load: Callable[[], Any], edits: Edits) -> Model:
        return replace(self, edits=self.edits | edits, load=load, load_tokenizer=lambda: self.tokenizer)


def is_file(layout: Layout) -> CheckpointError:
    """The error for a model that is one file, where PyTorch is to run it."""
    problem = f"{layout.checkpoint.path} is a file: PyTorch does not run it as it is"
    path = layout.checkpoint.path
    hint = f"convert it to a directory first: gatenorm convert {path} -o {path.with_suffix('').name}"
    return CheckpointError("model-is-file", problem, expected="a directory", hint=hint)
