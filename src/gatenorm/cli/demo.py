"""``gatenorm demo``: the built-in model as files."""

from gatenorm.cli import console
from gatenorm.cli.options import export

NAME = "demo"
EXAMPLE = "Example: gatenorm demo --write ./tiny"


def command(
    *,
    write: export.Write,
) -> None:
    """Print where the built-in model lies, or copy it to a directory. Other commands take it as MODEL: demo."""
    from gatenorm.models.named import default_model, named_model

    model = named_model(default_model())
    assert model is not None
    if write is None:
        directory = model.checked_directory()
        size = sum(path.stat().st_size for path in directory.iterdir())
        console.say(f"{directory}: {console.bytes_for_people(size)}, whole by its checksums")
        console.say("What it is and is not: README.md there. Unpack it: gatenorm demo --write DIR")
        return
    model.unpack(write)
    console.say(f"{write}: the built-in model, its tokenizer and its model card")
