"""llama.cpp in a process of its own: whatever a stranger's file does to it there, it is one line here."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.api import open_model
from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.engines.llamacpp import process as llamacpp_process
from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy
from gatenorm.engines.llamacpp.process import LlamaCppProcess
from gatenorm.errors import CheckpointError, EvaluationError, GatenormError
from gatenorm.exports.gguf import writer as gguf
from tests.errors import refused
from tests.export import gguf_models

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("qwen2")
    gguf.write(open_model(gguf_models.write("qwen2", place / "model")), place / "model.gguf", dtype="q8_0")
    return place / "model.gguf"


Child = Callable[[str], None]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """``child(script)``: what runs instead of llama.cpp."""

    def replace(script: str) -> None:
        (tmp_path / "child.py").write_text(script)
        monkeypatch.setattr(llamacpp_process, "_CHILD", tmp_path / "child.py")

    return replace


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (
            "import os, sys; print('noise\\n/x/ggml.c:7: GGML_ASSERT(a == b) failed', file=sys.stderr, flush=True)\n"
            "os.abort()",
            "engine-fails",
            ("SIGABRT", "GGML_ASSERT(a == b)"),
        ),
        ("import os; os.kill(os.getpid(), 9)", "engine-fails", ("SIGKILL",)),
        (
            "import sys; sys.exit('0.1 E load: error loading model: missing tensor\\nxllamacpp: failed to load')",
            "engine-refuses",
            ("missing tensor",),
        ),
        ("raise SystemExit(3)", "engine-refuses", ()),
    ],
)
def test_what_ends_the_process_is_told_in_one_line(
    child: Child, script: str, code: str, said: tuple[str, ...], tmp_path: Path
):
    child(script)
    with refused(code, kind=EvaluationError) as error:
        LlamaCppProcess(Path("model.gguf"), 256, 1, tmp_path)
    assert [part for part in ("model.gguf", *said) if part not in error.value.problem] == []
    assert "\n" not in str(error.value)
    assert "noise" not in str(error.value)


def test_a_process_that_ends_later_is_told_too(written: Path):
    engine = LlamaCppGreedy(written)
    try:
        assert engine._server is not None
        engine._server._child.process.kill()
        with refused("engine-fails", kind=EvaluationError) as caught:
            engine.tokenize("hello")
        assert "SIGKILL" in caught.value.problem
    finally:
        engine.close()


def test_it_ends_with_whoever_started_it(written: Path):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy\n"
        "engine = LlamaCppGreedy(Path(sys.argv[1]))\n"
        "print(engine._server._child.process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(written)], check=True, capture_output=True, text=True)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.1)
    pytest.fail("llama.cpp outlives the process that started it")


def test_the_reason_that_llamacpp_logs_is_told(written: Path, tmp_path: Path):
    """A tensor under another name."""
    path = tmp_path / "model.gguf"
    path.write_bytes(written.read_bytes().replace(b"blk.2.ffn_up.weight", b"blk.2.ffn_xx.weight"))
    with refused("engine-refuses", kind=EvaluationError) as error:
        LlamaCppGreedy(path)
    assert "tensor 'blk.2.ffn_up.weight' not found" in error.value.problem  # llama.cpp's words
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_headers_are_one_line_or_a_model(written: Path, seed: int, tmp_path: Path):
    """Three bytes of the keys or the list of tensors are others: our checks, llama.cpp's or its end, but never ours."""
    data = bytearray(written.read_bytes())
    draw, end = random.Random(seed), min(tensor.begin for tensor in read_header(written).tensors.values())
    tokens = data.index(b"tokenizer.ggml.tokens")
    for _ in range(3):
        at = draw.choice([draw.randrange(24, tokens), draw.randrange(end - 3000, end)])
        data[at] = draw.choice([0, 1, 0x7F, 0xFF, draw.randrange(256)])
    (tmp_path / "model.gguf").write_bytes(bytes(data))
    try:
        LlamaCppGreedy(tmp_path / "model.gguf").close()
    except GatenormError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


def entry(name: bytes, *shape: int, kind: int = 0, offset: int = 0) -> bytes:
    lengths = struct.pack(f"<{len(shape)}Q", *shape)
    return (
        struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape)) + lengths + struct.pack("<IQ", kind, offset)
    )


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry(b"a", 32), entry(b"a", 32, offset=128)], ["'a'"]),
        ([entry(b"a", 32), entry(b"b", 32, offset=64)], ["tensor b"]),
        ([entry(b"a", 32, offset=5)], ["tensor a", "at 5", "of 32"]),
        ([entry(b"a", 0, 32)], ["tensor a", "[0, 32]"]),
        ([entry(b"a")], ["tensor a", "[]"]),
        ([entry(b"a", 33, kind=8)], ["tensor a", "[33]", "of 32"]),
        ([entry(b"a", 2**40, 2**40)], ["tensor a", f"{4 * 2**80 - 512:,} bytes"]),
        ([entry(b"a", 32, kind=77)], ["tensor a", "type 77"]),
        ([entry(b"a" * 70, 32)], [f"'{'a' * 70}'"]),
        ([entry(b"a", 1, 1, 1, 1, 1)], ["5 dimensions"]),
    ],
)
def test_tensors_that_cannot_be_are_found_before_any_engine(entries: list[bytes], said: list[str], tmp_path: Path):
    header = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0) + b"".join(entries)
    path = tmp_path / "model.gguf"
    path.write_bytes(header + bytes(-len(header) % 32) + bytes(512))
    with refused("gguf-damaged", kind=CheckpointError) as error:
        read_header(path)
    assert [part for part in said if part not in error.value.problem] == []
    assert "\n" not in str(error.value)
