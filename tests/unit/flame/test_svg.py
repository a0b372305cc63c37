from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.locks.rule_file import parse_rules
from flame.locks.rules import LockRules
from flame.svg import render_svg
from lockflame.profile import SAMPLES, Mapping, RecordingInfo

SVG = "{http://www.w3.org/2000/svg}"
GOLDEN = Path(__file__).parents[2] / "golden"
BLESS = os.environ.get("LOCKFLAME_BLESS") == "1"

RECORDING = RecordingInfo(
    command="/usr/sbin/mariadbd --user=mysql",
    pid=4711,
    host="db1",
    kernel="6.1.0",
    started_unix_ns=1_760_000_000_000_000_000,
    duration_ns=10_012_000_000,
    event="cpu-clock",
    frequency_asked_hz=99,
    cpu_time_ns=10_100_000_000,
    samples=1000,
    truncated=41,
    unresolved=2,
    stack_bytes=16384,
    notes=("Kernel symbols were hidden.",),
)
STACKS = [
    (["__clone3", "do_command(THD*)", "THD::set_query(char*)", "futex_wait[k]"], 300),
    (["__clone3", "do_command(THD*)", ("inlined", "JOIN::exec()")], 500),
    (["[truncated stack][m]", "row_search_mvcc<dtuple_t const&>"], 41),
    (["_start", "py::run:/srv/app.py[j]"], 159),
]


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode())


def frames(svg: str) -> dict[str, ElementTree.Element]:
    """The frames by the first line of their tooltip: the whole name."""
    found = {}
    for element in parse(svg).iter(f"{SVG}svg"):
        if "func_g" in element.get("class", "").split():
            found[title(element).split("\n")[0]] = element
    return found


def title(frame: ElementTree.Element) -> str:
    return frame.findtext(f"{SVG}g/{SVG}title") or ""


def label(frame: ElementTree.Element) -> str | None:
    return frame.findtext(f"{SVG}g/{SVG}text")


def words(svg: str, style: str) -> str:
    found = (item for item in parse(svg).iter() if style in item.get("class", "").split())
    return "\n".join("".join(item.itertext()) for item in found)


def fill(frame: ElementTree.Element) -> str:
    return frame.find(f"{SVG}g/{SVG}rect").get("fill")


CONTENDED_STACKS = [
    (["start", "handle", "THD::set_query(char*)", "pthread_mutex_lock", "__lll_lock_wait", "futex_wait[k]"], 300),
    (["start", "handle", "THD::set_query(char*)"], 20),
    (["start", "handle", "THD::reset_query()", "pthread_mutex_lock", "__lll_lock_wait"], 100),
    (["start", "handle", "JOIN::exec()"], 580),
]


@pytest.mark.parametrize(
    ("name", "stacks"), [("flame_small", STACKS), ("flame_contended", CONTENDED_STACKS), ("flame_empty", [])]
)
def test_golden(profile_of, name, stacks):
    golden = GOLDEN / f"{name}.svg"
    svg = render_svg(profile_of(stacks, RECORDING))
    if BLESS:
        golden.write_text(svg, encoding="utf-8")
    expected = golden.read_text(encoding="utf-8")
    assert svg == expected, "look at it, then LOCKFLAME_BLESS=1 makes it the golden one"


def test_contended_frames_stand_out_by_their_share(profile_of):
    svg = render_svg(profile_of(CONTENDED_STACKS, RECORDING))
    classes = {name: frame.get("class").split() for name, frame in frames(svg).items()}
    assert classes["__lll_lock_wait"] == ["func_g", "contended", "c5"]
    assert classes["handle"] == ["func_g", "contended", "c3"]  # 40 %
    assert classes["JOIN::exec()"] == ["func_g"]
    assert "contended 40 % of it" in title(frames(svg)["handle"])
    assert "in contended locks" in words(svg, "legend")


def test_the_worst_lock_paths_are_listed(profile_of):
    svg = render_svg(profile_of(CONTENDED_STACKS, RECORDING))
    assert words(svg, "contention") == "Lock contention: 40 % of CPU time. The worst lock paths:"
    listed = words(svg, "path").splitlines()
    assert [line.split("→")[0] for line in listed] == [
        "THD::set_query(char*)1  THD::set_query ",
        "THD::reset_query()2  THD::reset_query ",
    ]
    assert listed[0].endswith("mutex30 % of CPU time (±2.8)")


@pytest.mark.parametrize("contended", [0, 9])
def test_without_contention_nothing_stands_out(profile_of, contended):
    lock = ["start", "lock_user", "pthread_mutex_lock", "__lll_lock_wait"]
    svg = render_svg(profile_of([(["start", "work"], 1000 - contended), (lock, contended)], RECORDING))
    share = "0.9 %" if contended else "0 %"
    assert words(svg, "calm") == (
        f"No lock contention seen: {share} of CPU time in contended locks. Threads asleep aren't in here."
    )
    assert all("contended" not in frame.get("class") for frame in frames(svg).values())
    assert "contended" not in words(svg, "legend")
    assert words(svg, "path") == ""


def test_rules_of_ones_own_say_what_a_lock_is(profile_of):
    rules = LockRules(parse_rules('[[rule]]\nnames = ["JOIN::*"]\nkind = "join"\nmeans = "contended"\n', "mine"))
    svg = render_svg(profile_of(CONTENDED_STACKS, RECORDING), rules=rules)
    assert "handle → join58 % of CPU time" in words(svg, "path")


def test_inverted_begins_with_the_leaves(profile_of):
    found = frames(render_svg(profile_of(CONTENDED_STACKS, RECORDING), inverted=True))
    top, leaf, caller = (float(found[name].get("y")) for name in ("all", "JOIN::exec()", "futex_wait"))
    assert top < leaf == caller
    assert label(found["all"]) == "all: 10 s CPU time"


def data_of(svg):
    return json.loads(next(item.text for item in parse(svg).iter(f"{SVG}script") if item.get("class") == "data"))


def test_data_of_the_views(profile_of):
    data = data_of(render_svg(profile_of(CONTENDED_STACKS, RECORDING)))
    assert [kind["name"] for kind in data["types"]] == ["CPU time", "samples"]
    whole, inverted, *of_samples = data["views"]
    assert of_samples == [{"like": 0, "scale": 20}, {"like": 1, "scale": 20}]
    assert [view["total"][0] * view["scale"] for view in (whole, inverted)] == [10**10, 10**10]
    names = data["frames"]["name"]
    assert [names[frame] for frame in whole["frame"][1:3]] == ["start", "handle"]
    row = whole["paths"][0]
    assert names[whole["frame"][row]] == "THD::set_query(char*)"
    assert len(inverted["frame"]) == 1 + 6 + 3 + 5 + 3 - 0


def test_script_and_style_are_small(profile_of):
    svg = render_svg(profile_of(STACKS, RECORDING))
    code = [item.text for item in parse(svg).iter() if item.tag == f"{SVG}style" or item.tag == f"{SVG}script"]
    style, data, script = code
    assert data.startswith("{")
    assert len(style.encode()) + len(script.encode()) <= 25 * 1024
    assert "]]>" not in script
    assert "</script" not in script


def test_the_picture_says_what_was_measured(profile_of):
    svg = render_svg(profile_of(STACKS, RECORDING))
    assert words(svg, "heading") == "CPU time of mariadbd (PID 4711)"
    assert "/usr/sbin/mariadbd --user=mysql" in words(svg, "command")
    facts = words(svg, "facts")
    for fact in ("PID 4711", "host db1", "2025-10-09 08:53:20 UTC", "10 s", "cpu-clock at 99 Hz", "10.1 s of CPU time"):
        assert fact in facts


def test_the_picture_says_in_which_container(profile_of):
    profile = profile_of(STACKS, RECORDING)
    assert "container" not in words(render_svg(profile), "facts")
    threads = tuple(replace(thread, pid=4711, container="0123456789ab") for thread in profile.threads)
    assert "container 0123456789ab" in words(render_svg(replace(profile, threads=threads)), "facts")


def test_the_footer_says_what_is_missing(profile_of):
    facts = words(render_svg(profile_of(STACKS, RECORDING)), "facts")
    for fact in (
        "1,000 samples",
        "10 s of 10.1 s CPU time (99 %)",
        "41 of 1,000 samples truncated (4.1 %)",
        "2 of 1,000 samples unresolved (0.2 %)",
        "0 lost",
        "0 skipped",
        "throttled 0 times",
        "0 frames narrower than 0.5 px left out",
        "16 KiB of each user stack",
    ):
        assert fact in facts
    assert "Kernel symbols were hidden." in words(render_svg(profile_of(STACKS, RECORDING)), "notes")


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"truncated": 41}, "41 of 1,000 samples truncated (4.1 %)"),
        ({"lost": 250}, "250 records lost (20 % of all)"),
        ({"throttled": 1}, "throttled 1 time"),
        ({"unresolved": 400}, "400 of 1,000 samples unresolved (40 %)"),
        ({"cpu_time_ns": 20_000_000_000}, "samples stand for 10 s of 20 s CPU time (50 %)"),
        ({"kernel_frames": False}, "kernel frames not allowed"),
        ({"samples": 12}, "only 12 samples, shares are rough"),
    ],
)
def test_what_weakens_the_picture_stands_above_it(profile_of, change, warning):
    sound = replace(RECORDING, truncated=0, unresolved=0)
    assert words(render_svg(profile_of(STACKS, sound)), "warning") == ""
    svg = render_svg(profile_of(STACKS, replace(sound, **change)))
    assert words(svg, "warning").strip() == f"Read with care: {warning}"
    assert words(svg, "strong") == warning


def test_little_loss_is_told_but_no_warning(profile_of):
    svg = render_svg(profile_of(STACKS, replace(RECORDING, truncated=20, lost=3)))
    assert words(svg, "warning") == ""
    assert "20 of 1,000 samples truncated (2 %)" in words(svg, "facts")
    assert "3 records lost (0.3 % of all)" in words(svg, "facts")


def test_frames_stand_on_their_callers_with_their_share(profile_of):
    found = frames(render_svg(profile_of(STACKS, RECORDING)))
    caller, callee = found["do_command(THD*)"], found["THD::set_query(char*)"]
    assert float(caller.get("y")) > float(callee.get("y"))
    assert float(callee.get("width")) == pytest.approx(0.3 * 1176, abs=1.2)
    assert "3 s (30 %)" in callee.findtext(f"{SVG}g/{SVG}title")
    assert "kernel" in found["futex_wait"].findtext(f"{SVG}g/{SVG}title")
    root = found["all"]
    assert root.findtext(f"{SVG}g/{SVG}text") == "all: 10 s CPU time"


def test_kinds_differ_in_colour_and_stand_in_the_legend(profile_of):
    names = ["same", "same[k]", "same[j]", "same[m]"]
    fills = set()
    for name in names:
        svg = render_svg(profile_of([([name], 1000)]))
        fills.add(fill(frames(svg)["same"]))
    assert len(fills) == 4
    legend = words(render_svg(profile_of(STACKS, RECORDING)), "legend")
    assert all(label in legend for label in ("user", "kernel", "JIT", "cut short"))
    assert "kernel" not in words(render_svg(profile_of([(["a"], 1)])), "legend")


def test_same_colours_in_any_picture_and_any_run(profile_of):
    alone = frames(render_svg(profile_of([(["work"], 1)])))["work"]
    among = frames(render_svg(profile_of([(["main", "work"], 1), (["main", "a"], 5)])))["work"]
    assert fill(alone) == fill(among)
    code = (
        "import runpy; from flame.svg import render_svg;"
        f"test = runpy.run_path({str(Path(__file__))!r});"
        f"tools = runpy.run_path({str(Path(__file__).with_name('conftest.py'))!r});"
        "print(render_svg(tools['profile_of'](test['STACKS'], test['RECORDING'])), end='')"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {render_svg(profile_of(STACKS, RECORDING)).encode()}


def test_order_of_stacks_does_not_change_the_picture(profile_of):
    assert render_svg(profile_of(STACKS, RECORDING)) == render_svg(profile_of(STACKS[::-1], RECORDING))


HOSTILE = [
    "a<b>&c</svg>",
    "\"quoted\" 'name'",
    "]]><script>alert(1)</script>",
    "{name} {0} $title ${style} %s",
    "x" * 10_000,
    "\u202ereversed\u202c",
    "שלום",
    "bell\x07nul\x00esc\x1b[31m",
    "line\nbreak",
    b"\xff\xfebytes".decode("utf-8", "surrogateescape"),
    "\ud800lone",
    "",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_everywhere(profile_of, name):
    recording = replace(RECORDING, command=name, host=name, kernel=name, event=name, notes=(name,))
    svg = render_svg(profile_of([([name, "after"], 5)], recording), title=name)
    parse(svg)
    plain = render_svg(profile_of([(["plain", "after"], 5)], RECORDING))
    tags = [item.tag for item in parse(svg).iter() if item.tag != f"{SVG}text"]
    expected = {item.tag for item in parse(plain).iter()} - {f"{SVG}text"}
    assert set(tags) <= expected
    assert len(frames(svg)) == 3


def test_names_are_shown_as_they_are(profile_of):
    names = ["a<b>&c</svg>", "\"quoted\" 'name'", "]]>", "{name} $title", "x" * 10_000]
    found = frames(render_svg(profile_of([([name], 10) for name in names])))
    assert set(found) == {*names, "all"}
    assert found["a<b>&c</svg>"].findtext(f"{SVG}g/{SVG}text") == "a<b>&c</svg>"


def test_long_names_are_short_in_frames_and_whole_on_hover(profile_of):
    names = ["std::map<int, A>::find(int const&) const", "std::map<int, B>::find(int const&) const"]
    profile = profile_of([([name], 10) for name in names])
    found = frames(render_svg(profile))
    assert {name: label(frame) for name, frame in found.items() if name != "all"} == dict.fromkeys(
        names, "std::map<…>::find"
    )
    whole = frames(render_svg(profile, full_names=True))
    assert {label(frame) for name, frame in whole.items() if name != "all"} == set(names)


def test_inlined_frames_are_marked_and_explained(profile_of):
    svg = render_svg(profile_of([(["main", "work"], 1), ([("work", "main")], 1)]))
    found = frames(svg)
    assert found["work (inlined)"].get("class") == "func_g inlined"
    assert label(found["work (inlined)"]) == "work"
    assert found["work"].get("class") == "func_g"
    assert "inlined" in words(svg, "legend")
    assert "inlined" not in words(render_svg(profile_of([(["main", "work"], 1)])), "legend")


def test_source_and_module_stand_on_hover(profile_of):
    base = profile_of([(["main", "work"], 8), (["main", ("small", "work2")], 2)])
    numbers = {function.name: index for index, function in enumerate(base.functions)}
    functions = tuple(
        replace(function, path=f"/src/{function.name}.cc", line=10) if function.name in ("work", "small") else function
        for function in base.functions
    )
    locations = tuple(
        replace(
            location,
            mapping=0 if location.lines[0].function != numbers["main"] else -1,
            lines=tuple(replace(line, line=100 + index) for index, line in enumerate(location.lines)),
        )
        for location in base.locations
    )
    mapping = Mapping(0, 4096, 0, "/usr/lib/libfoo.so.1", "")
    found = frames(render_svg(replace(base, functions=functions, locations=locations, mappings=(mapping,))))
    assert title(found["work"]) == "\n".join(
        ("work", "80 ms (80 %), user, in libfoo.so.1", "/src/work.cc:10", "at work.cc:100 (100 %)")
    )
    assert title(found["small (inlined)"]).splitlines()[2:] == ["/src/small.cc:10", "at small.cc:100 (100 %)"]
    assert title(found["work2"]).splitlines()[1:] == ["20 ms (20 %), user, in libfoo.so.1", "at line 101 (100 %)"]
    assert title(found["main"]).splitlines()[1:] == ["100 ms (100 %), user", "at line 100 (100 %)"]


def test_bidi_controls_do_not_survive(profile_of):
    svg = render_svg(profile_of([(["\u202eevil"], 1)], replace(RECORDING, command="\u202ecommand")), title="\u202et")
    assert "\u202e" not in svg


@settings(deadline=None, max_examples=50)
@given(name=st.text(st.characters(exclude_categories=())), command=st.text(st.characters(exclude_categories=())))
def test_any_text_gives_xml(profile_of, name, command):
    recording = RecordingInfo(command=command, host=name, event=command, notes=(name, command), samples=1)
    root = parse(render_svg(profile_of([([name, "b"], 1)], recording)))
    assert root.tag == f"{SVG}svg"


def test_boxes_too_narrow_for_text_have_none(profile_of):
    found = frames(render_svg(profile_of([(["wide"], 990), (["narrow"], 10)])))
    assert found["narrow"].find(f"{SVG}g/{SVG}text") is None
    assert found["wide"].findtext(f"{SVG}g/{SVG}text") == "wide"


def test_frames_left_out_are_counted_in_the_footer(profile_of):
    svg = render_svg(profile_of([(["wide"], 100_000), (["tiny", "tinier"], 1)]))
    assert set(frames(svg)) == {"all", "wide"}
    assert "2 frames narrower than 0.5 px left out" in words(svg, "facts")
    assert "tinier" in frames(render_svg(profile_of([(["wide"], 100_000), (["tiny", "tinier"], 1)]), min_width=0))


@pytest.mark.parametrize("stacks", [[], [(["idle"], 0)]])
def test_empty_profile_says_so(profile_of, stacks):
    svg = render_svg(profile_of(stacks, replace(RECORDING, samples=0, truncated=0, unresolved=0)))
    assert "No samples" in words(svg, "empty")
    assert frames(svg) == {}
    assert "0 samples" in words(svg, "facts")


def test_stacks_2000_deep(profile_of):
    svg = render_svg(profile_of([([f"level_{index}" for index in range(2000)], 100)]))
    found = frames(svg)
    assert len(found) == 2001
    height = float(parse(svg).get("viewBox").split()[3])
    assert 2001 * 8 < height < 20_000
    assert all(0 < float(frame.get("y")) < height for frame in found.values())


def test_title_and_sample_type_can_be_chosen(profile_of):
    svg = render_svg(profile_of(STACKS, RECORDING), title="before <the fix>", sample_type=SAMPLES)
    assert words(svg, "heading") == "before <the fix>"
    assert parse(svg).findtext(f"{SVG}title") == "before <the fix>"
    assert frames(svg)["all"].findtext(f"{SVG}g/{SVG}text") == "all: 1,000 samples"


def test_the_file_needs_nothing_beside_it(profile_of):
    svg = render_svg(profile_of(STACKS, RECORDING))
    assert set(re.findall(r"https?:[^\"'\s]*", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}
    assert not re.search(r"href|url\(|@import|\bsrc=|fetch\(|XMLHttp", svg)
    assert "prefers-color-scheme: dark" in svg


def test_flameprof_is_imported_without_what_it_would_bring_along():
    needless = ["argparse", "pstats", "pytest", "urllib.request", "xml.sax.saxutils"]
    code = (
        "import sys; from flame.drawing import flameprof; "
        "drawn, _ = flameprof().render_svg_section([dict(level=0, x=0, w=9, name='a<b', full_name='&', hash_name='a', "
        "color=0)], 1, [['(1, 2, 3)']], h=9, fsize=9, width=1, top=0, invert=False); "
        f"print([name for name in {needless} if name in sys.modules]); "
        "from xml.sax.saxutils import quoteattr; print(*drawn)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    loaded, drawn = done.stdout.split("\n", 1)
    assert loaded == "[]"
    assert "<title>&amp;</title>" in drawn
    assert ">a&lt;b</text>" in drawn


def test_importing_the_renderer_does_not_import_flameprof():
    code = "import sys, flame.svg; sys.exit('flameprof' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
