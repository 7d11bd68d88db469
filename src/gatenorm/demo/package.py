"""The model that comes with gatenorm, and the check that its files are as they were published."""

import hashlib
from pathlib import Path

from gatenorm.errors import CheckpointError
from gatenorm.evaluation.core.text import Text
from gatenorm.models.named import NamedModel, OwnEvaluation

CHECKSUMS = "SHA256SUMS"
_AGAIN = "install gatenorm again (pip install --force-reinstall gatenorm)"


def check(directory: Path) -> None:
    """Compare every file that ``SHA256SUMS`` names with its checksum.

    Raises:
        CheckpointError: one line that names the first file that differs.
    """
    try:
        lines = (directory / CHECKSUMS).read_text(encoding="ascii").splitlines()
        expected = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        what = f"the built-in model has no readable {CHECKSUMS} in {directory}"
        raise CheckpointError("demo-damaged", what, hint=_AGAIN) from None
    if not expected:
        raise CheckpointError("demo-damaged", f"the built-in model's {CHECKSUMS} in {directory} is empty", hint=_AGAIN)
    for name, checksum in expected.items():
        path = directory / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            raise CheckpointError("demo-damaged", f"the built-in model lacks {path}", hint=_AGAIN) from None
        if found != checksum:
            what = f"the built-in model is damaged: {path} has sha256 {found[:16]}"
            raise CheckpointError("demo-damaged", what, expected=checksum[:16], hint=_AGAIN)


def _training_text(tokens: int) -> Text:
    from gatenorm.demo.corpus import training_text

    return training_text(tokens)


MODEL = NamedModel(
    # Records and tables name a model by its directory.
    directory=Path(__file__).resolve().parent / "model" / "demo",
    check=check,
    default=True,
    evaluation="demo",
    # So many items that an audit takes about two minutes on two cores.
    evaluations={
        "perplexity": OwnEvaluation("stories", 24),
        "zeroshot": OwnEvaluation("abilities", 20),
        "refusal": OwnEvaluation("demo-refusal", 20),
        "retrieval": OwnEvaluation("demo-recall", 20),
    },
    training_text=_training_text,
)
