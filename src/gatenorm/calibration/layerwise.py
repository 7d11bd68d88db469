"""One pass over calibration samples of a model larger than memory: one block at a time, straight from the files.

All samples go through a block before the next block is read, so that every weight is read once. Between two blocks the
samples' streams ``[tokens, width]`` wait in memory, or in a file. What stands in front of the blocks (embeddings) stays
in memory, what stands behind them is never read.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.block_stand_in import Reached, stand_in
from gatenorm.calibration.passes import Observer
from gatenorm.calibration.samples import Samples, batches
from gatenorm.errors import CalibrationError, named
from gatenorm.families import Layout
from gatenorm.files import write_errors
from gatenorm.models.forward import blocks_of, hidden_output, inputs, padded
from gatenorm.progress import Progress
from gatenorm.records import spans
from gatenorm.surgery.config import auto_classes

if TYPE_CHECKING:
    import torch

_AS_A_WHOLE = f"score the model as a whole, without {named('layer_by_layer')}"


def observe_layer_by_layer(
    layout: Layout,
    samples: Samples,
    observer: Observer,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    spool: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """What :func:`gatenorm.calibration.passes.observe` does, in the memory of one block and the samples' streams.

    Args:
        spool: a folder for the streams, which then take no memory; the file has no name there once it is mapped.
        progress: called with (layers done, layers).

    Raises:
        CalibrationError: the files name a block's tensors otherwise than transformers does, or layers read the keys of
            others.
        OutputError: the folder cannot be written to, or has too little room.
    """
    import torch

    if layout.key_sources:
        problem = f"layers {spans(layout.key_sources)} read the keys and values of others, so that none runs alone"
        raise CalibrationError("keys-shared", problem, hint=_AS_A_WHOLE)
    model = _hollow(layout, device, dtype)
    places = blocks_of(model, layout)
    blocks = list(places)
    prepared = [padded(batch) for batch in batches(samples)]
    stage = _Stage()
    with torch.inference_mode(), _streams(prepared, layout.width, model.dtype, spool) as streams, observer.on(blocks):
        for layer, block in enumerate(blocks):
            places[layer] = _staged(block, layer, stage)
        for layer, block in enumerate(blocks):
            stage.layer, stage.weights = layer, _block_weights(layout, layer, block, device, model.dtype)
            for (ids, counts), stream in zip(prepared, streams, strict=True):
                (observer.count if layer == 0 else observer.see)(counts)
                stage.stream = stream
                with suppress(Reached):
                    model.base_model(**inputs(ids, counts, device), use_cache=False)
            if progress:
                progress(layer + 1, len(blocks))


class _Stage:
    """Which block is being run, its weights, and the stream of the batch that runs: what the stand-ins share."""

    layer: int
    weights: dict[str, Any]
    stream: Any


def _staged(block: Any, layer: int, stage: _Stage) -> Any:
    """A stand-in that lets the stream through until it is the block's turn, and then runs it.

    The model's forward pass is run anew for every block, which costs an embedding; the block takes the stream as it was
    left by the block before it.
    """
    from torch.func import functional_call

    def stream(hidden_states: Any, *arguments: Any, **keywords: Any) -> Any:
        if layer < stage.layer:
            return hidden_states
        entering = stage.stream.to(hidden_states.device) if layer else hidden_states
        output = functional_call(block, stage.weights, (entering, *arguments), keywords)
        stage.stream.copy_(hidden_output(output))
        raise Reached

    return stand_in(block, stream)


def _hollow(layout: Layout, device: str, dtype: str) -> Any:
    import torch
    import transformers
    from accelerate import init_empty_weights

    from gatenorm.models.loading import configuration, dtype_for

    config = configuration(layout)
    chosen = dtype_for(dtype, device)
    chosen = (config.dtype or torch.float32) if chosen == "auto" else chosen
    # Buffers are computed, not stored: they must be real. Parameters come from the files.
    with init_empty_weights(include_buffers=False):
        model = getattr(transformers, auto_classes(layout.data)[0]).from_config(config, dtype=chosen).eval()
    head = {id(p) for p in model.get_output_embeddings().parameters()}
    head -= {id(p) for p in model.get_input_embeddings().parameters()}
    inside = layout.block.path + "."
    for name, parameter in list(model.named_parameters()):
        if name.startswith(inside) or id(parameter) in head:
            continue
        owner, _, last = name.rpartition(".")
        short = name.removeprefix(model.base_model_prefix + ".")
        stored = next((n for n in (name, short) if n in layout.checkpoint), None)
        if stored is None:
            raise CalibrationError("tensor-missing", f"there is no tensor {name} in the files", hint=_AS_A_WHOLE)
        weight = layout.checkpoint.torch(stored).to(device, chosen)
        model.get_submodule(owner)._parameters[last] = torch.nn.Parameter(weight, requires_grad=False)
    for _, module in model.named_modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return model


def _block_weights(layout: Layout, layer: int, block: Any, device: str, dtype: Any) -> dict[str, torch.Tensor]:
    import torch

    weights = {}
    for name, parameter in block.state_dict(keep_vars=True).items():
        stored = layout.tensor(layer, name)
        if not isinstance(parameter, torch.nn.Parameter):  # files may leave out what a model computes
            if stored in layout.checkpoint:
                weights[name] = layout.checkpoint.torch(stored).to(device, parameter.dtype)
            continue
        if stored not in layout.checkpoint or layout.checkpoint.spec(stored).shape != tuple(parameter.shape):
            problem = f"the files hold no {stored} of shape {list(parameter.shape)}"
            raise CalibrationError("tensor-missing", problem, hint=_AS_A_WHOLE)
        weights[name] = layout.checkpoint.torch(stored).to(device, dtype)
    return weights


@contextmanager
def _streams(
    prepared: Sequence[tuple[torch.Tensor, torch.Tensor]], width: int, dtype: Any, spool: Path | None
) -> Iterator[list[torch.Tensor]]:
    """Room for every batch's stream ``[batch, tokens, width]``, in memory or in one file, which no end leaves behind.

    The file's room is taken before it is mapped: a disk that fills up later would end the process.
    """
    import torch

    shapes = [(*ids.shape, width) for ids, _ in prepared]
    sizes = [rows * tokens * width for rows, tokens, _ in shapes]
    if spool is None:
        yield [torch.empty(shape, dtype=dtype) for shape in shapes]
        return
    with write_errors(spool), tempfile.TemporaryFile(dir=spool) as file:  # which never has a name, where possible
        nbytes = sum(sizes) * dtype.itemsize
        file.truncate(nbytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, nbytes)
        room = torch.frombuffer(mmap.mmap(file.fileno(), nbytes), dtype=dtype)
    yield [part.view(shape) for part, shape in zip(room.split(sizes), shapes, strict=True)]
