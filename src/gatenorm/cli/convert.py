"""``gatenorm convert``: write a GGUF file or quantised weights as a directory that PyTorch runs."""

from gatenorm.cli import console
from gatenorm.cli.options import common, export as exporting

NAME = "convert"
EXAMPLE = "Example: gatenorm convert ./model.gguf -o ./model"


def command(
    *,
    model: common.Model,
    out: exporting.NewDirectory,
    dtype: exporting.PlainType,
    family: common.Family,
    json: common.Json,
) -> None:
    """Dequantise MODEL, a GGUF file or a quantised checkpoint, into a directory that transformers loads."""
    from gatenorm import api

    with console.progress_bar("writing", "bytes") as progress:
        written = api.convert(model, out, dtype=dtype, family=family, progress=progress)

    def show() -> None:
        console.say(f"{out}: {console.bytes_for_people(written.bytes)} of {dtype}")
        console.say_whole(f"What to do with it: gatenorm audit {out} --quick -o {out}-audit")

    console.deliver(json, written, show)
