from __future__ import annotations

from dataclasses import replace

import pytest

from flame.lock_marks import ViewName
from flame.lock_views import view_of
from flame.locks.rule_file import load_rules
from flame.svg import render_svg
from lockflame.cli.output import Look, render
from lockflame.pprof import encode
from lockflame.profile import TRUNCATED_STACK, WaitEnds
from tests.support.cli import run_lockflame
from tests.unit.flame.lock_profiles import MS, RECORDING, ROWS, WAITING, lock, lock_profile, small_profile
from tests.unit.flame.test_svg import BLESS, GOLDEN, data_of, fill, frames, label, parse, title, words

LOCK_VIEWS = ("wait", "holder", "chain")


def picture(name, profile=None, **options):
    view = view_of(profile or small_profile(), ViewName(name), load_rules())
    return render_svg(view.profile, view=view.name, idle_ns=view.idle_ns, **options)


@pytest.mark.parametrize("name", LOCK_VIEWS)
def test_golden(name):
    golden = GOLDEN / f"flame_{name}.svg"
    svg = picture(name)
    if BLESS:
        golden.write_text(svg, encoding="utf-8")
    assert svg == golden.read_text(encoding="utf-8"), "look at it, then LOCKFLAME_BLESS=1 makes it the golden one"


@pytest.mark.parametrize(
    ("name", "heading", "worst"),
    [
        (
            "wait",
            "Time waited for locks of mariadbd (PID 4711)",
            "1  LOCK_open (mutex) in open_table < do_command < start7 s (67.3 %)",
        ),
        (
            "holder",
            "Time that others waited, by who released the lock: mariadbd (PID 4711)",
            "1  LOCK_open (mutex), held in ha_commit < trans_commit < do_command5.9 s (56.7 %)",
        ),
        (
            "chain",
            "Time waited for locks, and who held them: mariadbd (PID 4711)",
            "1  open_table < do_command → LOCK_open (mutex), held by ha_commit < trans_commit4.59 s (44.1 %)",
        ),
    ],
)
def test_the_picture_says_what_is_measured_and_where_most_of_it_is(name, heading, worst):
    svg = picture(name)
    assert words(svg, "heading") == heading
    assert words(svg, "contention").startswith("10.4 s waited for 3 locks, 1.04 threads at a time on average. ")
    listed = words(svg, "path").splitlines()
    assert listed[0].endswith(worst)
    assert len(listed) == 5
    facts = words(svg, "facts")
    for fact in ("recorded for 10 s", "by kprobes", "idle waits left out: 30 s", "are exact"):
        assert fact in facts
    assert ("2,000 stacks of waiters taken" in facts) == (name != "holder")
    assert ("1,500 stacks of holders taken" in facts) == (name != "wait")
    for of_cpu_time in ("CPU time", "cpu-clock", "99 Hz", "1,000 samples"):
        assert of_cpu_time not in svg.partition("<script")[0]


@pytest.mark.parametrize("name", LOCK_VIEWS)
def test_the_listed_paths_lead_to_their_site(name):
    data = data_of(picture(name))
    view = data["views"][0]
    sites = [data["frames"]["name"][view["frame"][row]] for row in view["paths"]]
    expected = {
        "wait": ["open_table(THD*, TABLE_LIST*)", "THD::set_query(char*)", "THD::set_query(char*)", "producer"],
        "holder": ["ha_commit(THD*)", "inlined_flush", "consumer", "[holder not sampled]"],
        "chain": ["open_table(THD*, TABLE_LIST*)"] * 2 + ["THD::set_query(char*)"] * 2,  # without one not sampled
    }
    assert sites[:4] == expected[name]


@pytest.mark.parametrize("name", LOCK_VIEWS)
def test_locks_have_a_colour_of_their_own_and_nothing_is_contended(name):
    svg = picture(name)
    found = frames(svg)
    locks = {fill(frame) for text, frame in found.items() if text.startswith("[LOCK_open")}
    assert len(locks) == 1
    assert locks.isdisjoint(fill(frame) for text, frame in found.items() if not text.startswith("["))
    assert locks.isdisjoint(fill(frame) for text, frame in found.items() if text.endswith("sampled]"))
    legend = words(svg, "legend")
    assert "lock" in legend
    assert "not known" in legend
    assert "contended" not in legend
    assert all("contended" not in frame.get("class", "") for frame in found.values())
    assert ("upside down" in legend) == (name == "chain")


def test_tooltips_tell_of_the_lock():
    profile = small_profile()
    ends = WaitEnds(woken=40, timed_out=10)
    locks = tuple(replace(item, ends=ends, max_ns=300 * MS) for item in profile.locks)
    found = frames(picture("wait", replace(profile, locks=locks)))
    assert title(found["[LOCK_open (mutex)]"]).splitlines()[1:] in (
        ["7 s (67.3 %), lock", "whole recording: 9 s in 50 waits, 180 ms on average, longest 300 ms"],
        ["2 s (19.2 %), lock", "whole recording: 9 s in 50 waits, 180 ms on average, longest 300 ms"],
    )


def test_a_chain_stands_on_the_waiter_and_has_the_holder_on_top():
    found = frames(picture("chain"))
    y = {text: float(frame.get("y", "nan")) for text, frame in found.items()}
    assert y["all"] > y["open_table(THD*, TABLE_LIST*)"] > y["[LOCK_open (mutex), held by]"]
    assert y["[LOCK_open (mutex), held by]"] > y["inlined_flush"] > y["flush_all()"] > y["purge_thread"]
    assert label(found["all"]) == "all: 10.4 s time waited"


def test_a_cpu_picture_is_that_of_a_profile_without_waits():
    without = lock_profile([row for row in ROWS if not row[1]], ())
    found = render(small_profile(), ".svg", Look())
    assert found == render(without, ".svg", Look())
    assert [kind["name"] for kind in data_of(found.decode())["types"]] == ["CPU time", "samples"]


def test_waits_can_be_counted_too():
    assert [kind["name"] for kind in data_of(picture("wait"))["types"]] == ["time waited", "waits"]


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"waits_left_out": 7}, "7 waits on locks that there was no room for"),
        ({"waits_unseen": 1}, "1 wait unseen"),
        ({"lost": 2}, "2 records lost"),
        ({"wait_samples": 12}, "only 12 stacks of waiters taken, shares are rough"),
    ],
)
def test_what_weakens_the_picture_stands_above_it(change, warning):
    assert words(picture("wait"), "warning") == ""
    profile = replace(small_profile(), recording=replace(RECORDING, **change))
    assert words(picture("wait", profile), "strong") == warning


def test_truncated_stacks_are_weighed_by_their_time():
    rows = [((f"{TRUNCATED_STACK}[m]", "f", *WAITING), "m", 0, 10), (("start", "f", *WAITING), "m", 0, 30)]
    assert "25 % of the time on truncated stacks" in words(picture("wait", lock_profile(rows, [lock("m")])), "strong")


@pytest.mark.parametrize("name", LOCK_VIEWS)
def test_time_that_no_holder_has_a_part_in_is_told(name):
    """Only where holders are drawn."""
    profile = small_profile()
    first, *others = profile.locks
    late = replace(profile, locks=(replace(first, woken_ns=first.total_ns // 2), *others))
    said = "was waited after a release, before the woken thread ran: shared out to the holders"
    assert (said in words(picture(name, late), "warning")) == (name != "wait")
    assert said not in picture(name)
    assert "50 % of it after a release, before the woken thread ran" in picture(name, late)


def test_time_without_a_path_is_told():
    rows = [(("start", "f", *WAITING), "m", 0, 40), (("start", "f"), "m", 0, -30)]
    profile = lock_profile(rows, [lock("m")])
    for name in ("holder", "chain"):
        assert "25 % of the time without a sampled path" in words(picture(name, profile), "strong")
    assert words(picture("wait", profile), "warning") == ""


@pytest.mark.parametrize("name", LOCK_VIEWS)
def test_nobody_waited(name):
    svg = picture(name, lock_profile((), ()))
    assert words(svg, "calm") == "No thread was held up by a lock."
    assert words(svg, "empty") == "No waits: there is nothing to show."


@pytest.mark.parametrize(
    "name", ["a<b>&c</svg>", "]]><script>alert(1)</script>", "\u202ereversed", "\udcff", "[x]", ""]
)
def test_hostile_names_of_locks(name):
    profile = lock_profile([((name, "f", *WAITING), "m", 0, 10), ((name, "g"), "m", 0, -10)], [lock("m")])
    profile = replace(profile, locks=(replace(profile.locks[0], name=name, symbol=name, kind=name),))
    for view in LOCK_VIEWS:
        svg = picture(view, profile)
        expected = {item.tag for item in parse(picture(view)).iter()}
        assert {item.tag for item in parse(svg).iter()} <= expected
        assert "\u202e" not in svg


def test_the_command(tmp_path):
    profile, out = tmp_path / "p.pb.gz", tmp_path / "out.folded"
    profile.write_bytes(encode(small_profile()))
    assert run_lockflame("flame", profile, "-o", out).status == 0
    assert "read_frm 7000000000" in out.read_text()
    result = run_lockflame("flame", profile, "-o", out, "--view", "chain", "--lock", "queue", "--focus", "consumer")
    assert (result.status, result.stderr) == (0, "")
    assert out.read_text() == "start;producer;[queue.full (condition), woken by];consumer;start 400000000\n"
    assert run_lockflame("flame", profile, "-o", out, "--idle", "--lock", "pool.ready").status == 0
    assert out.read_text() == "start;pool_worker;[pool.ready (condition)] 30000000000\n"
    svg = tmp_path / "out.svg"
    assert run_lockflame("flame", profile, "-o", svg, "--view", "wait", "--inverted", "--thread", "worker1").status == 0
    assert "Only threads worker1: 38.5 % of all time waited." in svg.read_text()


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--view", "cpu", "--lock", "x"), 2, "--lock and --idle are about waits"),
        (("--view", "nothing"), 2, "Invalid value"),
        (("--lock", "x"), 1, "no lock of the profile is called x. It has "),
        (("--view", "wait", "--thread", "nobody"), 1, "no thread of the profile"),
    ],
)
def test_wrong_options(tmp_path, options, status, said):
    profile, out = tmp_path / "p.pb.gz", tmp_path / "out.svg"
    profile.write_bytes(encode(small_profile()))
    result = run_lockflame("flame", profile, "-o", out, *options)
    assert result.status == status
    assert said in result.stderr
    assert not out.exists()
