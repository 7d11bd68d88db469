"""What a GGUF file that is made from another one says as that does: tokenizer, licence, names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatenorm.checkpoint.formats.gguf.model import GgufModel

if TYPE_CHECKING:
    from gguf import GGUFWriter

# What is true of the source's own bytes alone.
_OF_THE_SOURCE = ("general.alignment", "gatenorm.", "split.", "quantize.")


@dataclass(frozen=True)
class Carried:
    """All keys of a file but those of its architecture, and those that the writer says anew."""

    source: GgufModel
    notes: tuple[str, ...] = ()

    def describe(self, writer: GGUFWriter) -> None:
        from gguf import GGUFValueType

        metadata = self.source.metadata
        without = (*_OF_THE_SOURCE, f"{metadata['general.architecture']}.")
        anew = {key for keys in writer.kv_data for key in keys}
        for key, value in metadata.items():
            if key not in anew and not key.startswith(without):
                kind, entry = self.source.kinds[key]
                writer.add_key_value(key, value, GGUFValueType(kind), None if entry is None else GGUFValueType(entry))
