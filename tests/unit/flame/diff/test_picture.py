from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from flame.diff.changes import STEPS, change_text, shade
from flame.diff.matching import comparable
from flame.diff.normalize import Mode, scales
from flame.diff.picture import render_diff
from flame.diff.shown import Shown, shown_of
from flame.diff.sides import pair_up
from flame.lock_marks import ViewName
from flame.locks.rule_file import load_rules
from flame.svg import render_svg
from lockflame.profile import CPU, DELAY, HISTOGRAM_BUCKETS, SAMPLES, Lock, Profile, RecordingInfo, WaitEnds
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.lock_profiles import LOCKS, ROWS, lock_profile

SVG = "{http://www.w3.org/2000/svg}"
GOLDEN = Path(__file__).parents[3] / "golden"
BLESS = os.environ.get("LOCKFLAME_BLESS") == "1"

RECORDING = RecordingInfo(
    command="/usr/sbin/mariadbd --user=mysql",
    pid=4711,
    host="db1",
    kernel="6.1.0",
    started_unix_ns=1_760_000_000_000_000_000,
    duration_ns=10_000_000_000,
    event="cpu-clock",
    frequency_asked_hz=99,
)
SET_QUERY = ["start", "handle", "THD::set_query(char*)"]
WAITING = ["pthread_mutex_lock", "__lll_lock_wait", "futex_wait[k]"]
BEFORE = [
    ([*SET_QUERY, *WAITING], 600),
    (SET_QUERY, 20),
    (["start", "handle", ("inlined", "JOIN::exec()")], 400),
    (["start", "handle", "JOIN::old_way()", "cost"], 180),
    (["start", "log"], 200),
]
AFTER = [
    ([*SET_QUERY, *WAITING], 250),
    (SET_QUERY, 20),
    (["start", "handle", ("inlined", "JOIN::exec()")], 410),
    (["start", "handle", "JOIN::new_way()", "cost"], 60),
    (["start", "log"], 420),
]


def recorded(stacks, seconds=10, **changes) -> Profile:
    count = sum(weight for _, weight in stacks)
    return profile_of(stacks, replace(RECORDING, samples=count, duration_ns=seconds * 10**9, **changes))


def drawn(before, after, mode=Mode.SECOND, work=None, sample_type=CPU, **options) -> str:
    sides = [side if isinstance(side, list) else [side] for side in (before, after)]
    alike = [tuple(comparable(profile) for profile in side) for side in sides]
    return render_diff(Shown(ViewName.CPU, *alike, sample_type), scales(*sides, mode, work, sample_type), **options)


def drawn_waits(before: Profile, after: Profile, view=ViewName.WAIT, mode=Mode.SECOND) -> str:
    shown = shown_of(pair_up([before], [after]), view, load_rules())
    return render_diff(shown, scales([before], [after], mode))


def small() -> str:
    return drawn(recorded(BEFORE), recorded(AFTER, pid=5000, truncated=90))


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode())


def frames(svg: str) -> dict[str, ElementTree.Element]:
    """The frames by the first line of their tooltip."""
    every = (item for item in parse(svg).iter(f"{SVG}svg") if "func_g" in item.get("class", "").split())
    return {title(item).split("\n")[0]: item for item in every}


def title(frame: ElementTree.Element) -> str:
    return frame.findtext(f"{SVG}g/{SVG}title") or ""


def step(frame: ElementTree.Element) -> int:
    fill = frame.find(f"{SVG}g/{SVG}rect").get("fill").replace(" ", "")
    return next(step for step in range(-STEPS, STEPS + 1) if "rgb({},{},{})".format(*shade(step)) == fill)


def words(svg: str, style: str) -> str:
    found = (item for item in parse(svg).iter() if style in item.get("class", "").split())
    return "\n".join("".join(item.itertext()) for item in found)


def listed(svg: str) -> list[str]:
    paths = (item for item in parse(svg).iter(f"{SVG}g") if item.get("class") == "path")
    return [path.findall(f"{SVG}text")[0].text + "|" + path.find(f"{SVG}text/{SVG}tspan").text for path in paths]


def waits(factor: int, **changes) -> Profile:
    """Waits of some 6 ms each, so many that halves can be told apart."""
    rows = [(stack, name, thread, value * factor // 2 if name else value // 2) for stack, name, thread, value in ROWS]
    profile = lock_profile(rows, [replace(item, unreleased_ns=item.unreleased_ns * factor // 2) for item in LOCKS])
    locks = tuple(waited(item, item.total_ns // 6_000_000) for item in profile.locks)
    return replace(profile, locks=locks, recording=replace(profile.recording, **changes))


def waited(item: Lock, count: int) -> Lock:
    histogram = [0] * HISTOGRAM_BUCKETS
    histogram[23] = count
    return replace(item, ends=WaitEnds(woken=count), max_ns=8_000_000, histogram=tuple(histogram))


@pytest.mark.parametrize("name", ["flame_diff", "flame_diff_waits"])
def test_golden(name):
    svg = small() if name == "flame_diff" else drawn_waits(waits(8), waits(1))
    golden = GOLDEN / f"{name}.svg"
    if BLESS:
        golden.write_text(svg, encoding="utf-8")
    assert svg == golden.read_text(encoding="utf-8"), "look at it, then LOCKFLAME_BLESS=1 makes it the golden one"


def test_what_appeared_grew_shrank_and_went_all_has_its_place():
    found = frames(small())
    steps = {name: step(frame) for name, frame in found.items()}
    assert steps["JOIN::old_way()"] == -STEPS
    assert steps["JOIN::new_way()"] == STEPS
    assert steps["futex_wait"] == -3
    assert steps["log"] == 3
    assert steps["JOIN::exec()"] == 0
    assert steps["all"] == steps["start"] == -1
    widths = {name: float(frame.get("width")) for name, frame in found.items()}
    pixel = 1176 / (600 + 20 + 410 + 180 + 60 + 420)
    assert widths["JOIN::old_way()"] == pytest.approx(180 * pixel, abs=1.5)
    assert widths["log"] == pytest.approx(420 * pixel, abs=1.5)
    assert widths["handle"] == pytest.approx(1270 * pixel, abs=1.5)


def test_details_show_both_values_and_the_change():
    found = frames(small())
    second_line = {name: title(frame).split("\n")[1] for name, frame in found.items()}
    assert second_line["log"] == "before 200 ms/s (14.3 %) → after 420 ms/s (36.2 %), +110 %, user"
    assert second_line["futex_wait"] == "before 600 ms/s (42.9 %) → after 250 ms/s (21.6 %), −58 %, kernel"
    assert second_line["JOIN::old_way()"] == "before 180 ms/s (12.9 %) → after 0, gone, user"
    assert second_line["JOIN::new_way()"] == "before 0 → after 60 ms/s (5.2 %), new, user"
    assert second_line["JOIN::exec()"].endswith("+2.5 %, within the noise, user")
    texts = {name: frame.findtext(f"{SVG}g/{SVG}text") for name, frame in found.items()}
    assert texts["JOIN::old_way()"] == "− JOIN::old_way"
    assert texts["JOIN::new_way()"] == "+ JOIN::new_way"
    assert texts["all"] == "all: 1.4 s/s → 1.16 s/s CPU time"


def test_frames_in_contended_locks_have_an_edge():
    marked = {name for name, frame in frames(small()).items() if "contended" in frame.get("class")}
    assert marked == {"THD::set_query(char*)", "pthread_mutex_lock", "__lll_lock_wait", "futex_wait"}


def test_the_largest_changes_are_listed_lock_paths_by_their_site():
    svg = small()
    assert listed(svg) == [
        "1  THD::set_query → mutex, from handle < start|600 ms/s → 250 ms/s, −58 %",
        "2  log, from start|200 ms/s → 420 ms/s, +110 %",
        "3  JOIN::old_way, from handle < start|180 ms/s → 0, gone",
        "4  cost, from JOIN::old_way < handle|180 ms/s → 60 ms/s, −67 %",
        "5  JOIN::new_way, from handle < start|0 → 60 ms/s, new",
    ]
    headline = "CPU time: 1.4 s/s → 1.16 s/s (−17 %), per second of recording."
    assert words(svg, "contention").startswith(headline)
    data = data_of(svg)
    view = data["views"][0]
    names = [data["frames"]["name"][view["frame"][row]] for row in view["paths"]]
    assert names == ["THD::set_query(char*)", "log", "JOIN::old_way()", "cost", "JOIN::new_way()"]
    assert view["frame"][view["parent"][0]] == -1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0, 0, "±0 %"),
        (0, 5, "new"),
        (5, 0, "gone"),
        (100, 99.96, "±0 %"),
        (100, 103.2, "+3.2 %"),
        (100, 97, "−3 %"),
        (100, 35.4, "−65 %"),
        (1, 1235.4, "+123,440 %"),
        (100, 1, "−99 %"),
        (1000, 4, "−99.6 %"),
        (1e6, 1, "−99.9 %"),
    ],
)
def test_a_change_in_words(before, after, said):
    assert change_text(before, after) == said


def test_what_changed_is_listed_rather_than_who_calls_it_and_what_it_calls():
    def recording(parse, old, new, log):
        return recorded(
            [
                (["start", "serve", "parse", "copy"], parse),
                (["start", "serve", "set", "copy"], old),
                (["start", "serve", "set", "prepare"], new),
                (["start", "serve", "log"], log),
            ]
        )

    assert listed(drawn(recording(800, 1600, 0, 400), recording(790, 0, 400, 200))) == [
        "1  set, from serve < start|1.6 s/s → 400 ms/s, −75 %",
        "2  prepare, from set < serve|0 → 400 ms/s, new",
        "3  log, from serve < start|400 ms/s → 200 ms/s, −50 %",
    ]


def test_callers_of_what_changed_are_not_listed():
    def recording(count):
        return recorded([(["start", "serve", "rebuild", "burn", "spin"], count), (["start", "parse", "spin"], 400)])

    assert listed(drawn(recording(600), recording(200))) == [
        "1  burn, from rebuild < serve|600 ms/s → 200 ms/s, −67 %",
    ]


def test_a_function_that_calls_itself_is_listed_once_with_its_callers():
    def recording(count):
        return recorded([(["start", "walk", "visit", "walk", "visit"], count), (["start", "parse"], 400)])

    (entry,) = listed(drawn(recording(600), recording(200)))
    assert entry == "1  visit, from walk < start|600 ms/s → 200 ms/s, −67 %"


def data_of(svg):
    return json.loads(next(item.text for item in parse(svg).iter(f"{SVG}script") if item.get("class") == "data"))


def test_equal_sides_are_grey():
    svg = drawn(recorded(BEFORE), recorded(BEFORE))
    assert {step(frame) for frame in frames(svg).values()} == {0}
    assert listed(svg) == []
    assert "No function or lock path changed by more than the noise." in words(svg, "calm")


def test_few_samples_prove_nothing():
    svg = drawn(recorded([(["a", "b"], 9), (["a", "c"], 3)]), recorded([(["a", "b"], 4), (["a", "d"], 4)]))
    assert {step(frame) for frame in frames(svg).values()} == {0}
    assert "before 0 → after 4 ms/s (50 %), new, within the noise" in title(frames(svg)["d"])


def test_lengths_of_recordings_do_not_matter_but_what_happened_in_them():
    twice = [(stack, 2 * count) for stack, count in BEFORE]
    assert {step(frame) for frame in frames(drawn(recorded(BEFORE), recorded(twice, 20))).values()} == {0}
    assert step(frames(drawn(recorded(BEFORE), recorded(twice)))["log"]) == 3


def test_several_recordings_on_a_side_are_one():
    third = [(stack, count // 2) for stack, count in BEFORE]
    svg = drawn([recorded(third, 5), recorded(third, 5, pid=9)], recorded(AFTER))
    assert "before 200 ms/s (14.3 %) → after 420 ms/s" in title(frames(svg)["log"])
    assert "before: 2 recordings · 10 s together · host db1" in words(svg, "facts")
    assert "before: 1,400 samples" in words(svg, "facts")


def test_values_by_work_and_as_shares():
    svg = drawn(recorded(BEFORE), recorded(AFTER), Mode.WORK, (1000, 2000))
    assert "before 2 ms/unit (14.3 %) → after 2.1 ms/unit (36.2 %), +5 %" in title(frames(svg)["log"])
    svg = drawn(recorded(BEFORE), recorded(AFTER), Mode.TOTAL)
    assert "before 14.3 % → after 36.2 %, +153 %" in title(frames(svg)["log"])
    assert data_of(svg)["changes"]["isShare"]


def test_functions_are_matched_across_builds():
    before, after = recorded([(["start", "work.isra.0"], 100)]), recorded([(["start", "work [clone .cold]"], 100)])
    assert set(frames(drawn(before, after))) == {"all", "start", "work"}


def test_both_plain_pictures_are_in_it():
    data = data_of(small())
    assert [kind["name"] for kind in data["types"]] == ["difference", "CPU time before", "CPU time after"]
    totals = [view["total"][0] * view["scale"] for view in data["views"][2:]]
    assert totals == pytest.approx([1.4e9, 1.4e9, 1.16e9, 1.16e9])
    plain = data_of(render_svg(recorded(BEFORE)))
    names, plain_names = data["frames"]["name"], plain["frames"]["name"]
    before, same = data["views"][2], plain["views"][0]
    assert [names[frame] for frame in before["frame"]] == [plain_names[frame] for frame in same["frame"]]
    share = [weight / before["total"][0] for weight in before["contended"]]
    assert share == pytest.approx([weight / same["total"][0] for weight in same["contended"]], abs=1e-6)


def test_what_weakens_a_side_stands_above():
    assert words(small(), "warning").startswith("\n\nRead with care: after: 90 of 1,160 samples truncated (7.8 %)")
    assert "before: PID 4711" in words(small(), "facts")
    assert "after: PID 5000" in words(small(), "facts")


def test_waits_are_compared_by_lock():
    svg = drawn_waits(waits(8), waits(1))
    found = frames(svg)
    assert step(found["[LOCK_open (mutex)]"]) < 0
    assert {name for name, frame in found.items() if "contended" in frame.get("class")} == {
        "[LOCK_open (mutex)]",
        "[lock taken in THD::set_query (mutex)]",
    }
    assert listed(svg)[0].startswith(
        "1  LOCK_open (mutex) in open_table, from do_command < start|2.8 s/s → 350 ms/s, −88 %"
    )
    assert "lock" in words(svg, "legend")


def test_details_of_a_lock_are_those_of_both_recordings():
    said = title(frames(drawn_waits(waits(8), waits(1)))["[LOCK_open (mutex)]"]).split("\n")
    assert said[1] == "before 2.8 s/s (70 %) → after 350 ms/s (70 %), −88 %, lock"
    assert said[2] == (
        "whole recordings: 36 s in 6,000 waits, 6 ms on average, longest 8 ms → "
        "4.5 s in 750 waits, 6 ms on average, longest 8 ms"
    )


def test_holders_are_compared_by_who_released_the_lock():
    svg = drawn_waits(waits(8), waits(1), ViewName.HOLDER)
    assert listed(svg)[0] == (
        "1  LOCK_open (mutex), held in ha_commit, from trans_commit < do_command|2.36 s/s → 295 ms/s, −88 %"
    )
    assert words(svg, "heading") == "Time that others waited, by who released the lock, before and after: mariadbd"
    assert step(frames(svg)["[LOCK_open (mutex), held]"]) == -3
    assert "before: 1,500 stacks of holders taken" in words(svg, "facts")
    assert [kind["name"] for kind in data_of(svg)["types"]][1:] == [
        "time that others waited before",
        "time that others waited after",
    ]


def test_waits_as_shares_are_of_all_that_is_shown():
    shown = shown_of(pair_up([waits(8)], [waits(1)]), ViewName.WAIT, load_rules())
    svg = render_diff(shown, scales(shown.before, shown.after, Mode.TOTAL, sample_type=DELAY))
    assert title(frames(svg)["all"]) == "all\nbefore 100 % → after 100 %, ±0 %, within the noise"


def test_a_few_waits_prove_nothing():
    few = {"ends": WaitEnds(woken=4), "histogram": waited(LOCKS[0], 4).histogram}
    before, after = (
        replace(profile, locks=tuple(replace(item, **few) for item in profile.locks))
        for profile in (waits(2), waits(1))
    )
    assert {step(frame) for frame in frames(drawn_waits(before, after)).values()} == {0}


def test_waits_that_are_gone_altogether_stand_out():
    profile = waits(8)
    without = replace(profile, samples=profile.samples.select(profile.samples.lock < 0), locks=())
    svg = drawn_waits(profile, without)
    assert step(frames(svg)["[LOCK_open (mutex)]"]) == -STEPS
    assert "→ after 0, gone" in title(frames(svg)["all"])
    assert "longest 8 ms → no waits" in title(frames(svg)["[LOCK_open (mutex)]"])
    assert step(frames(drawn_waits(without, profile))["[LOCK_open (mutex)]"]) == STEPS
    assert "No waits on either side" in words(drawn_waits(without, without), "empty")


def test_a_function_inlined_on_one_side_only_is_one_frame():
    before = recorded([(["start", ("burn", "leaf", "rebuild")], 400)])
    after = recorded([(["start", "rebuild", "leaf", "burn"], 100)])
    found = frames(drawn(before, after))
    assert set(found) == {"all", "start", "rebuild", "leaf", "burn"}
    assert {step(frame) for frame in found.values()} == {-3}


def test_frames_with_the_time_of_their_caller_are_looked_at_once():
    def deep(count):
        return recorded([([f"f{level}" for level in range(60)], count), (["other"], 500)])

    assert step(frames(drawn(deep(130), deep(85)))["f59"]) == step(frames(drawn(deep(130), deep(85)))["f0"]) == -2


def test_notes_stand_below():
    before, after = recorded(BEFORE, notes=("of both", "of one")), recorded(AFTER, notes=("of both",))
    svg = drawn(before, after, notes=["other machines (a before, b after)"])
    assert words(svg, "notes").split("\n") == [
        "Note: other machines (a before, b after)",
        "Note: of both",
        "Note: before: of one",
    ]


def test_the_plain_picture_knows_nothing_of_differences():
    svg = render_svg(recorded(BEFORE))
    assert "stepOf" not in svg
    assert "within the noise" not in svg


def test_one_side_without_samples():
    svg = drawn(recorded(BEFORE), recorded([]))
    assert set(frames(svg)) == set(frames(drawn(recorded(BEFORE), recorded(BEFORE))))
    assert "(14.3 %) → after 0, gone" in title(frames(svg)["log"])
    assert [kind["name"] for kind in data_of(svg)["types"]] == ["difference", "CPU time before"]
    assert "No samples" in words(drawn(recorded([]), recorded([])), "empty")


def test_other_sample_types():
    svg = drawn(recorded(BEFORE), recorded(AFTER), sample_type=SAMPLES)
    assert "count/s" not in svg
    assert "before 20/s (14.3 %)" in svg


@pytest.mark.parametrize(
    "name", ["a<b>&c</svg>", "]]><script>", "$title ${style}", "\u202erev", "x" * 5000, "", "\x07"], ids=ascii
)
def test_hostile_names(name):
    hostile = recorded([(["start", name], 500)], command=name, host=name, notes=(name,))
    svg = drawn(hostile, recorded([(["start", name, "after"], 500)]), title=name or None)
    assert len(frames(svg)) == 4
    tags = {item.tag for item in parse(svg).iter()}
    assert tags <= {item.tag for item in parse(small()).iter()}


def test_the_same_profiles_give_the_same_text():
    assert small() == small()


def many(stacks: int, seed: int) -> Profile:
    rng = np.random.default_rng(1)
    rank = np.minimum(rng.zipf(1.7, (stacks, 8)), 30)
    counts = np.random.default_rng(seed).poisson(2, stacks).tolist()
    rows = zip(rank.tolist(), counts, strict=True)
    return recorded([([f"f{level}_{choice}" for level, choice in enumerate(row)], count) for row, count in rows])


def test_many_stacks_are_quick_and_small():
    before, after = many(10_000, 2), many(10_000, 3)
    start = time.process_time()
    svg = drawn(before, after)
    assert time.process_time() - start < 5
    assert len(svg) < 3_000_000
    assert "narrower than 0.5 px left out" in words(svg, "facts")
