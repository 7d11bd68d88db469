"""Figures: every one in every format, legible, harmless, and the same bytes from the same input."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec import structs
from PIL import Image

from gatenorm.analysis.agreement import agree
from gatenorm.errors import OutputError
from gatenorm.records import LayerScore, ModelIdentity, Scores
from gatenorm.records.curve import Curve, Line, Point as CurvePoint
from gatenorm.records.evidence import (
    Cell,
    Data,
    Figure,
    Harness,
    Measurements,
    Perplexity,
    PhaseTime,
    Retrieval,
    RetrievalProtocol,
    Speed,
    SpeedProtocol,
    Spread,
    TextProtocol,
)
from gatenorm.records.rankings import RankingComparison
from gatenorm.report.figures.curve import curve_figure, plot_curve, plot_pareto
from gatenorm.report.figures.drawing import NARROW, WIDE, check_format, inline, svg
from gatenorm.report.figures.evaluations import plot_retrieval, rows_figure
from gatenorm.report.figures.rankings import (
    layers_figure,
    plot_agreement,
    plot_heads,
    plot_scores,
    plot_selection,
    scores_figure,
)
from gatenorm.report.figures.series import Point, Series, count_axis, log_ticks
from tests.calibrations import calibration

IDENTITY = ModelIdentity("a-model", "llama", 8, "0", {})
LAYERS = tuple(LayerScore(n, float(8 - n), (1.0 + n, 2.0)) for n in range(8) if n != 3)
SCORES = Scores(IDENTITY, "gate-norm-heads", LAYERS, 0.1, 10)
OTHER = structs.replace(SCORES, criterion="cosine", calibration=calibration("self"))
FLAT = structs.replace(SCORES, criterion="depth", layers=tuple(LayerScore(s.layer, 1.0) for s in LAYERS), ranking=())
COMPARISON = RankingComparison(
    IDENTITY, (SCORES, OTHER, FLAT), (agree(SCORES, OTHER), agree(SCORES, FLAT), agree(OTHER, FLAT)), ()
)


def line(name: str, *perplexity: float, records: Sequence[Measurements] = ()) -> Line:
    """A line that loses layers 7 and 6."""
    own = records or [Measurements()] * len(perplexity)
    points = zip(perplexity, own, strict=True)
    return Line(name, tuple(CurvePoint((7, 6)[:n], value, measured) for n, (value, measured) in enumerate(points)))


def timed(speedup: float) -> Speed:
    phase = PhaseTime(speedup=Spread.of([speedup]))
    return Speed(protocol=SpeedProtocol(prompt_tokens=512, batch=1, new_tokens=32), prefill=phase, decode=phase)


def task(accuracy: float) -> Harness:
    return Harness(name="a-task", metrics={"acc": Figure(value=accuracy)}, count=10)


PERPLEXITY = (10.0, 12.0, float("inf"))
LINE = line("gate-norm", *PERPLEXITY)
BAND = (line("random 0", 10.0, 20.0, 50.0),)
CURVE = Curve(IDENTITY, (LINE,), BAND, (), TextProtocol(), Data(name="text.txt"), 1.0)
SPEEDS = [timed(1.0), timed(1.1), timed(1.2)]
TIMED = structs.replace(
    CURVE, lines=(line("gate-norm", *PERPLEXITY, records=[Measurements((speed,)) for speed in SPEEDS]),)
)
JUDGED = [Measurements((task(share), speed)) for share, speed in zip((0.9, 0.8, 0.5), SPEEDS, strict=True)]
TASKED = structs.replace(TIMED, lines=(line("gate-norm", *PERPLEXITY, records=JUDGED),))


LOSSES = Perplexity(model=IDENTITY, perplexity=12.5, nll=2.5, tokens=40)


def retrieval() -> Retrieval:
    lengths, depths = (128, 256), (0.0, 0.5)
    protocol = RetrievalProtocol(
        asks="one fact",
        lengths=lengths,
        depths=depths,
        mean_tokens={},
        items_a_cell=4,
        candidates=4,
        scoring="log-likelihood",
        chat_template=False,
    )
    share, cell = Figure(value=0.25), {"choice": 0.25, "greedy": 0.0}
    return Retrieval(
        model=IDENTITY,
        protocol=protocol,
        form="one-hop",
        choice=share,
        greedy=share,
        margin=share,
        chance=0.25,
        count=16,
        cells=tuple(Cell(length=n, depth=d, **cell) for n in lengths for d in depths),
    )


# What draws it, and texts that it must show.
DRAWN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "scores": (
        lambda path: plot_scores(SCORES, path, marked=(4, 5)),
        ["a-model: gate-norm-heads by layer", "weak late cluster", "layer (original number)", "layer 4: 4"],
    ),
    "selection": (
        lambda path: plot_selection([SCORES, OTHER], path),
        ["a-model", "cosine@self", "layer (original number)", "cosine@self, layer 0: kept at 50%"],
    ),
    "agreement": (lambda path: plot_agreement(COMPARISON, path), ["a-model", "cosine@self", "+1.00"]),
    "heads": (
        lambda path: plot_heads(SCORES, path),
        ["a-model", "layer (original number)", "query head", "gate-norm-heads", "layer 7, head 1: 2"],
    ),
    "curve": (
        lambda path: plot_curve(CURVE, path),
        ["a-model", "gate-norm", "attention sublayers removed", "perplexity per token (log scale)", "1 random choices"],
    ),
    "pareto": (
        lambda path: plot_pareto(TASKED, path),
        ["a-model", "gate-norm", "speed-up of prefill (512 tokens), times", "mean accuracy on the tasks"],
    ),
    "pareto-perplexity": (
        lambda path: plot_pareto(TIMED, path),
        ["a-model", "speed-up of decode (32 tokens), times", "perplexity on text.txt (log scale)"],
    ),
    "retrieval": (
        lambda path: plot_retrieval([retrieval(), LOSSES, retrieval()], path),
        ["a-model: one-hop", "depth of the fact", "context, tokens", "128 tokens, 50% deep: 25% right"],
    ),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("ending", [".png", ".svg", ".html"])
def test_every_figure_in_every_format(name: str, ending: str, tmp_path: Path):
    draw, texts = DRAWN[name]
    path = tmp_path / f"{name}{ending}"
    draw(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if ending == ".png":
        with Image.open(path) as picture:
            assert picture.width >= WIDE
            assert picture.convert("L").getpixel((0, 0)) == 255  # on white, whatever the viewer's ground
        return
    drawn = path.read_text(encoding="utf-8")
    for text in texts:
        assert text in drawn
    assert not re.search(r"(src|href)=|url\((?!#)|<script", drawn)
    assert len(drawn) < 60_000


def test_the_same_bytes_in_this_process_and_in_another(tmp_path: Path):
    code = (
        "import sys, pathlib; from tests.report.test_figures import DRAWN; DRAWN['heads'][0](pathlib.Path(sys.argv[1]))"
    )
    for ending in ("png", "svg", "html"):
        paths = [tmp_path / f"{n}.{ending}" for n in range(3)]
        DRAWN["heads"][0](paths[0])
        DRAWN["heads"][0](paths[1])
        subprocess.run([sys.executable, "-c", code, paths[2]], check=True)
        assert len({path.read_bytes() for path in paths}) == 1


def test_drawings_of_one_page_share_no_id():
    found = re.findall(r' id="([^"]*)"', inline(scores_figure(SCORES), "a") + inline(scores_figure(SCORES), "b"))
    assert len(set(found)) == len(found)


def test_names_cannot_act():
    attack = "</svg><script>alert(1)</script>\" onload='x' &amp;\u202e\x00"
    drawn = svg(scores_figure(structs.replace(SCORES, criterion=attack), (4,), attack)(NARROW))
    assert "<script" not in drawn
    assert not re.search(r"<[^>]*\sonload", drawn)
    assert "\u202e" not in drawn
    assert "&lt;/svg&gt;&lt;script&gt;" in drawn


def test_titles_are_one_line(tmp_path: Path):
    scores = structs.replace(SCORES, model=structs.replace(IDENTITY, name="m\nn\x1b"))
    for ending in ("html", "svg"):
        plot_scores(scores, tmp_path / f"a.{ending}")
        assert "m n?: gate-norm-heads by layer" in (tmp_path / f"a.{ending}").read_text(encoding="utf-8")


LIMITED = """
import resource, sys
from gatenorm.cli import main
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), hard))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept on Linux")
@pytest.mark.parametrize(("model", "ending"), [("demo", "png"), ("demo", "svg"), ("no-such-model", "html")])
def test_a_limit_of_memory_is_one_line_and_nothing_half_written(model: str, ending: str, tmp_path: Path):
    """V8 reserves more addresses than ``ulimit -v`` leaves, and aborts the process in which it cannot.

    Before any work: the model has not been looked for.
    """
    asked = ["score", model, "--plot", str(tmp_path / f"a.{ending}"), "--json", str(tmp_path / "a.json")]
    command = [sys.executable, "-c", LIMITED, str(4 << 30), *asked]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("error: a figure cannot be drawn: the memory of this process is limited")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept on Linux")
def test_a_limit_that_is_wide_enough_changes_no_byte(tmp_path: Path):
    for name, limit in (("limited", 1 << 40), ("free", -1)):
        command = [sys.executable, "-c", LIMITED, str(limit), "score", "demo", "--plot", str(tmp_path / f"{name}.png")]
        subprocess.run(command, capture_output=True, check=True)
    assert (tmp_path / "limited.png").read_bytes() == (tmp_path / "free.png").read_bytes()


def test_a_change_is_drawn_in_the_row_of_its_task_also_where_others_are_missing():
    """A variant that lacks one task must not move the marks of the next ones."""

    def series(name: str, tasks: list[str], style: int) -> Series:
        return Series(name, tuple(Point(-5.0, task, f"{name}, {task}", -9.0, -1.0) for task in tasks), style)

    drawn = svg(
        rows_figure([series("small", ["rte"], 0), series("large", ["boolq", "rte"], 1)], "change, points", reference=0)(
            WIDE
        )
    )
    at = {tip: float(y) for y, tip in re.findall(r'translate\([\d.]+,([\d.]+)\)"[^>]*><title>([^<]*)', drawn)}
    assert abs(at["small, rte"] - at["large, rte"]) < abs(at["large, rte"] - at["large, boolq"])


def test_a_line_that_others_would_hide_is_drawn_wider():
    """Of four the first three nearly coincide, and the last goes its own way."""

    def series(name: str, *values: float) -> Series:
        return Series(
            name, tuple(Point(n, value, f"{name} {n}") for n, value in zip((0, 3, 6), values, strict=True)), 0
        )

    lines = [series("a", 30, 40, 60), series("b", 30, 40, 60), series("c", 30, 41, 61), series("d", 30, 300, 3000)]
    drawn = svg(curve_figure(lines)(WIDE))
    widths = {float(width) for width in re.findall(r'stroke-width="([\d.]+)"', drawn)}
    assert sorted(widths)[-3:] == pytest.approx([1.8, 4.0, 6.2])


def test_an_axis_of_counts_is_written_where_something_was_measured():
    assert count_axis([12, 0, 3, 6.0, 3]).to_dict()["axis"]["values"] == [0, 3, 6, 12]
    assert count_axis(range(41)).to_dict()["axis"]["values"] == [*range(0, 41, 5)]


def test_scores_by_layer_have_a_panel_each():
    drawn = svg(layers_figure([SCORES, structs.replace(SCORES, criterion="depth")])(WIDE))
    for name in (SCORES.criterion, "depth"):
        assert drawn.count(f">{name}<") == 1
    assert drawn.count("<title>layer 0: ") == 2


@pytest.mark.parametrize(("low", "high"), [(1.8, 2.3), (9.5, 1200.0), (0.9, 1e9), (101.0, 104.0), (5.0, 30.0)])
def test_a_logarithmic_axis_has_numbers_whatever_its_range(low: float, high: float):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 12
    assert all(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize(("name", "code"), [("a.gif", "plot-format-unknown"), ("none/a.png", "folder-missing")])
def test_a_file_that_cannot_be_written_is_refused(name: str, code: str, tmp_path: Path):
    for refuse in (lambda path: check_format(path), lambda path: plot_scores(SCORES, path)):
        with pytest.raises(OutputError) as raised:
            refuse(tmp_path / name)
        assert (raised.value.code, raised.value.field) == (code, "plot")


@pytest.mark.parametrize(
    ("draw", "code", "field"),
    [
        (lambda path: plot_heads(FLAT, path), "no-head-values", "criterion"),
        (lambda path: plot_pareto(CURVE, path), "speed-not-measured", "pareto"),
        (lambda path: plot_retrieval([LOSSES], path), "nothing-to-draw", "plot"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[Path], None], code: str, field: str, tmp_path: Path):
    with pytest.raises(OutputError) as raised:
        draw(tmp_path / "a.png")
    assert (raised.value.code, raised.value.field) == (code, field)
    assert not list(tmp_path.iterdir())
