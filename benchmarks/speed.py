"""What removing attention saves on this machine, beside the ideal and the cost model: docs/measured/speed.md.

    python benchmarks/speed.py [--only llama-24,novels,paper,llamacpp] [--dtypes float32,bfloat16] [--write FILE]

Every table is one run of `gatenorm.speed`: variants in turns, ratios round by round. Models have random weights,
which cost the same time as trained ones: `llama-24` is a LLaMA of 24 layers, 1,024 wide (304 million parameters), with
40% of its attention sublayers removed; `paper` two blocks of LLaMA-7B's shape, for the share of attention by length;
`novels` is a trained model where one is at hand (--novels DIRECTORY). Without --write the tables are printed.
Takes about 20 minutes on two quiet cores; --quick shows in one minute that everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatenorm.api import open_model, plan, prune
from gatenorm.demo.package import MODEL
from gatenorm.engines import Case, Setting, engine_named, threads_at_hand
from gatenorm.errors import GatenormError
from gatenorm.exports.registry import Variant
from gatenorm.records import Evidence
from gatenorm.speed.measure.bench import Protocol, bench
from gatenorm.speed.measure.profile_report import profile_model
from gatenorm.speed.predict.machines import THIS, Machine, machine, with_overheads

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHARE = 0.4
LLAMACPP_TYPE = "q8_0"
LLAMA_24 = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 4096,
}
LLAMA_7B_BLOCKS = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 8192,
}
PARTS = ("llama-24", "novels", "paper", "llamacpp")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, of " + ", ".join(PARTS))
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", default="128,512,2048")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=threads_at_hand())
    parser.add_argument("--novels", type=Path, default=Path(__file__).parents[2] / "shared/models/novels-16L")
    parser.add_argument("--quick", action="store_true", help="small models, one round: the figures mean nothing")
    parser.add_argument("--keep", type=Path, default=os.environ.get("GATENORM_BENCH_DIR"), help="where models stay")
    parser.add_argument("--write", type=Path, help="put the tables into this document, between its two marks")
    parser.add_argument("--json", type=Path, help="write all records there")
    options = parser.parse_args()
    options.lengths = [int(n) for n in options.lengths.split(",")]
    options.dtypes = options.dtypes.split(",")
    if options.quick:
        options.rounds, options.new_tokens, options.lengths = 1, 4, [64, 128]
    with tempfile.TemporaryDirectory() as temporary:
        options.keep = Path(options.keep or temporary)
        text, records = measure_all(options)
    if options.json:
        options.json.write_text(json.dumps([record.to_json() for record in records], indent=1))
    if options.write:
        insert(options.write, text)
    else:
        print(text)


def measure_all(options: argparse.Namespace) -> tuple[str, list[Evidence]]:
    """Every part that was asked for, as Markdown, and the records."""
    parts: dict[str, Callable[[argparse.Namespace], tuple[str, list[Evidence]]]] = {
        "llama-24": llama_24,
        "novels": novels,
        "paper": paper,
        "llamacpp": llamacpp,
    }
    command = " ".join(["python benchmarks/speed.py", *sys.argv[1:]])
    texts = [
        f"`{command}`, {platform.machine()}, {options.threads} threads, medians of {options.rounds} rounds, "
        "in each of which the fastest of several runs counts where a run is shorter than a second."
    ]
    records: list[Evidence] = []
    for name in options.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            text, found = parts[name](options)
        except GatenormError as error:
            text, found = f"{name}: not measured here, {error}", []
        texts.append(text)
        records += found
    return "\n\n".join(texts) + "\n", records


def llama_24(options: argparse.Namespace) -> tuple[str, list[Evidence]]:
    shape = LLAMA_24 | ({"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 5} if options.quick else {})
    source = random_llama(options.keep / f"llama-{shape['num_hidden_layers']}-{shape['hidden_size']}", shape)
    return compared(source, f"LLaMA shape, {layers_of(shape)}, random weights", options)


def novels(options: argparse.Namespace) -> tuple[str, list[Evidence]]:
    lengths = [n for n in options.lengths if n + options.new_tokens <= open_model(options.novels).context or 0]
    return compared(options.novels, "novels-16L (16 layers, 192 wide, trained)", options, lengths)


def compared(
    source: Path, title: str, options: argparse.Namespace, lengths: Sequence[int] | None = None
) -> tuple[str, list[Evidence]]:
    """Dense against 40% removed, in each dtype, with the cost model for this machine beside it."""
    cut = pruned(source, options.keep)
    texts, records = [f"### {title}, {SHARE:.0%} of the attention removed, transformers"], []
    for dtype in options.dtypes:
        known = with_overheads(machine(THIS, dtype, threads=options.threads), dtype)
        found = run("transformers", source, cut, dtype, known, options, lengths)
        records += found
        texts.append(f"{dtype}; {described(known, dtype)}\n\n{ratio_table(found)}\n\n{size_table(found)}")
        texts.append(verdict(found))
    return "\n\n".join(texts), records


def run(
    engine: str,
    source: Path,
    cut: Path,
    dtype: str,
    known: Machine | None,
    options: argparse.Namespace,
    lengths: Sequence[int] | None = None,
) -> list[Evidence]:
    cases = tuple(Case(n, 1, options.new_tokens) for n in lengths or options.lengths)
    setting = Setting(cases, dtype=dtype, threads=options.threads)
    dense, variant = (Variant.exported(path) or Variant.of(open_model(path)) for path in (source, cut))
    protocol = Protocol(options.rounds, turn_seconds=1.0, machine=known)
    return bench([variant], engine_named(engine), setting, protocol, baseline=dense, progress=tell)


def paper(options: argparse.Namespace) -> tuple[str, list[Evidence]]:
    """Attention beside MLP by length, in blocks of LLaMA-7B's shape; the paper says twice at 3,000, thrice at 7,000."""
    shape = LLAMA_7B_BLOCKS | ({"hidden_size": 256, "intermediate_size": 688} if options.quick else {})
    source = random_llama(options.keep / f"llama-7b-blocks-{shape['hidden_size']}", shape)
    lengths = [64, 256] if options.quick else [512, 1024, 3000, 7000]
    texts = ["### Attention beside MLP, two blocks of LLaMA-7B's shape"]
    dtype, records = options.dtypes[-1], []
    rows = []
    for attention in ("sdpa", "eager"):
        cases = tuple(Case(n, 1, 1) for n in lengths)
        setting = Setting(cases, dtype=dtype, threads=options.threads, attention=attention)
        found = profile_model(open_model(source), setting, 1 if options.quick else 3, tell)
        records += found
        for evidence in found:
            phase, tokens = evidence.prefill, f"{evidence.protocol.prompt_tokens:,}"
            if phase is None:
                rows.append((attention, tokens, f"skipped: {evidence.skipped}", "", "", ""))
                continue
            parts = (f"{seconds:.2f}" for seconds in (phase.attention_seconds, phase.mlp_seconds))
            ratio, flops = phase.attention_over_mlp, phase.attention_flops_share
            rows.append((attention, tokens, *parts, f"{ratio:.2f}", f"{flops:.0%}"))
    head = ("attention", "tokens", "attention, s", "MLP, s", "attention / MLP", "attention's share of FLOPs")
    weights = next((e.attention_weights_share for e in records if e.prefill), 0.0)
    texts.append(f"{dtype}; attention holds {weights:.0%} of the weights.\n\n{markdown(head, rows)}")
    return "\n\n".join(texts), records


def llamacpp(options: argparse.Namespace) -> tuple[str, list[Evidence]]:
    """The same LLaMA shape in llama.cpp, exported by gatenorm.

    llama.cpp does not say what its attention takes. So a third file, with the attention of one layer only, stands
    beside the two: a layer's attention takes what its absence saves on average, and the ideal is the straight line
    from all of the attention to none of it. Achieved / ideal says how far the variant lies from that line.
    """
    from gatenorm.exports.registry import export_form

    shape = LLAMA_24 | ({"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 5} if options.quick else {})
    source = random_llama(options.keep / f"llama-{shape['num_hidden_layers']}-{shape['hidden_size']}", shape)
    single = options.keep / f"{source.name}-with-one"
    if not single.exists():
        prune(source, single, plan(source, layers=shape["num_hidden_layers"] - 1, criterion="depth"))
    files = []
    for path in (source, pruned(source, options.keep), single):
        out = path.with_name(f"{path.name}-{LLAMACPP_TYPE}.gguf")
        if not out.exists():
            try:
                export_form("gguf").write(open_model(path), out, dtype=LLAMACPP_TYPE)
            except ModuleNotFoundError as error:
                return f"llamacpp: not measured here, this release has no {error.name}", []
        files.append(out)
    dense, cut, bare = (Variant.exported(path) for path in files)
    cases = tuple(Case(n, 1, options.new_tokens) for n in options.lengths)
    setting = Setting(cases, threads=options.threads)
    protocol = Protocol(options.rounds, turn_seconds=1.0)
    found = bench([cut, bare], engine_named("llamacpp"), setting, protocol, baseline=dense, progress=tell)
    found = [
        on_the_line(evidence, found) for evidence in found if len(evidence.edits.attention) < len(bare.edits.attention)
    ]
    title = (
        f"### LLaMA shape, {layers_of(shape)}, {SHARE:.0%} of the attention removed, llama.cpp, {LLAMACPP_TYPE}\n\n"
        "Ideal: the straight line between the dense file and one with a single attention."
    )
    return "\n\n".join([title, ratio_table(found), size_table(found), verdict(found)]), found


def on_the_line(evidence: Evidence, found: Sequence[Evidence]) -> Evidence:
    """The evidence with an ideal: dense time less the mean time of an attention for each one removed."""
    if not evidence.edits.attention or not evidence.compared:
        return evidence
    tokens = evidence.protocol.prompt_tokens
    bare = max((e for e in found if e.protocol.prompt_tokens == tokens), key=lambda e: len(e.edits.attention))
    phases = {}
    for name in ("prefill", "decode"):
        saved = (1 - 1 / bare.phase(name).speedup.median) / len(bare.edits.attention)
        phases[name] = replace(evidence.phase(name), ideal=1 / (1 - saved * len(evidence.edits.attention)))
    return replace(evidence, **phases)


def random_llama(directory: Path, shape: dict[str, Any]) -> Path:
    """A LLaMA of random weights in bfloat16, with the built-in model's vocabulary; reused where it lies already."""
    if (directory / "config.json").exists():
        return directory
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(MODEL.checked_directory())
    config = LlamaConfig(**shape, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, dtype=torch.bfloat16)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    temporary = directory.with_name(directory.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL.checked_directory() / name, temporary)
    temporary.rename(directory)
    return directory


def pruned(source: Path, keep: Path) -> Path:
    """Without 40% of its attention, the layers chosen by chance: which they are makes no difference in time."""
    out = keep / f"{source.name}-without-{SHARE:.0%}"
    if not out.exists():
        prune(source, out, plan(source, share=SHARE, criterion="random"))
    return out


def ratio_table(found: Sequence[Evidence]) -> str:
    rows = []
    for evidence in found:
        for name in ("prefill", "decode") if evidence.compared else ():
            phase = evidence.phase(name)
            speedup, predicted = phase.speedup, phase.predicted
            rows.append(
                (
                    f"{evidence.protocol.prompt_tokens:,}",
                    name,
                    f"{speedup.median:.3f} ({speedup.low:.3f} to {speedup.high:.3f})",
                    *("" if value is None else f"{value:.3f}" for value in (phase.ideal, phase.achieved)),
                    "" if predicted is None else f"{predicted:.3f} ({predicted / speedup.median - 1:+.1%})",
                )
            )
    return markdown(("tokens", "phase", "speed-up", "ideal", "achieved / ideal", "cost model (error)"), rows)


def size_table(found: Sequence[Evidence]) -> str:
    rows = []
    for evidence in found:
        figures = evidence.numbers()
        tokens, removed = f"{evidence.protocol.prompt_tokens:,}", str(len(evidence.edits.attention))
        if not evidence.measured:
            rows.append((tokens, removed, f"skipped: {evidence.skipped}", "", "", "", ""))
            continue
        rows.append(
            (
                tokens,
                removed,
                f"{figures['prefill_seconds'] * 1000:,.1f}",
                f"{figures['first_token_seconds'] * 1000:,.1f}",
                f"{figures['decode_tokens_per_second']:,.1f}",
                f"{figures['cache_bytes'] / 1e6:,.2f}" if "cache_bytes" in figures else "",
                f"{figures['peak_bytes'] / 1e6:,.0f}",
            )
        )
    head = ("tokens", "removed", "prefill, ms", "first token, ms", "decode, tokens/s", "cache, MB", "peak memory, MB")
    return markdown(head, rows)


def verdict(found: Sequence[Evidence]) -> str:
    """One line that says how the figures stand to the aims."""
    with_ratios = [e for e in found if e.compared]
    phases = [phase for e in with_ratios for phase in (e.prefill, e.decode)]
    said = []
    achieved = [phase.achieved for phase in phases if phase.achieved is not None]
    if achieved:
        said.append(f"achieved / ideal at least {min(achieved):.3f} (aim 0.95)")
    errors = [abs(phase.predicted / phase.speedup.median - 1) for phase in phases if phase.predicted is not None]
    if errors:
        said.append(f"the cost model off by at most {max(errors):.1%} (aim 10%)")
    for e in with_ratios:
        share = len(e.edits.attention) / e.model.layers
        if e.cache_share_removed is not None and abs(e.cache_share_removed - share) > 1e-9:
            said.append(f"cache fell by {e.cache_share_removed:.4%}, not by {share:.4%}")
            break
    else:
        said.append("cache bytes fell by exactly the share removed")
    return "; ".join(said).capitalize() + "."


def described(known: Machine, dtype: str) -> str:
    return (
        f"this machine measured at {known.bandwidth / 1e9:.1f} GB/s, products {known.rate(dtype) / 1e9:.0f} GFLOP/s, "
        f"attention {known.attention_rate(dtype) / 1e9:.0f} GFLOP/s; overhead of an attention sublayer "
        f"{known.overheads['attention'] * 1e6:.0f}, of an MLP {known.overheads['mlp'] * 1e6:.0f} microseconds."
    )


def layers_of(shape: dict[str, Any]) -> str:
    return f"{shape['num_hidden_layers']} layers, {shape['hidden_size']:,} wide"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def insert(document: Path, text: str) -> None:
    """Replace what stands between the two marks of a document."""
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no {BEGIN} ... {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
