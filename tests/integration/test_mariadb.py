"""The whole way on a real server: MariaDB under sysbench, to a picture and a file that other tools read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lockflame.profile import Location, Profile
from tests.support.mariadb import MariaDb
from tests.support.recording import function_names, process_cpu_ns, record

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SVG_BYTES_MOST = 1_000_000
EXPECTED = ("do_command", "JOIN::exec", "mysql_execute_command", "dispatch_command")


MODULE_AND_OFFSET = re.compile(r"\[?[^\[\]]+\+0x[0-9a-f]+\]?|\[kernel\]")


def unresolved_locations(profile: Profile) -> list[Location]:
    return [location for location in profile.locations if location.unresolved_reason]


def has_function(profile: Profile, name: str) -> bool:
    return any(function.split("(")[0].endswith(name) for function in function_names(profile))


def test_mariadb_from_the_attach_to_the_picture(
    tmp_path: Path, mariadb: MariaDb, go_pprof: tuple[list[str], dict[str, str]]
) -> None:
    output, svg = tmp_path / "m.pb.gz", tmp_path / "m.svg"
    with mariadb.sysbench():
        before_ns = process_cpu_ns(mariadb.pid)
        result = record(output, "-p", mariadb.pid, "-d", 10, "-F", 99, "-o", svg)
        cpu_ns = process_cpu_ns(mariadb.pid) - before_ns
    profile, info = result.profile, result.profile.recording

    assert info.samples > 100
    assert info.cpu_time_ns <= cpu_ns * 1.05
    assert info.samples == pytest.approx(info.cpu_time_ns * 99 / 1e9, rel=0.1)
    assert [name for name in EXPECTED if not has_function(profile, name)] == []
    assert info.lost == 0
    assert info.truncated < 0.02 * info.samples
    # Debian's mariadbd is stripped: what has no dynamic symbol keeps its module and offset.
    unnamed = [profile.functions[location.lines[-1].function].name for location in unresolved_locations(profile)]
    assert [name for name in unnamed if not MODULE_AND_OFFSET.fullmatch(name)] == []
    assert info.unresolved < 0.5 * info.samples

    assert svg.stat().st_size < SVG_BYTES_MOST
    text = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "do_command" in text
    assert f"{info.truncated:,} truncated" in text

    command, env = go_pprof
    top = subprocess.run(
        [*command, "-top", "-cum", "-nodecount=500", output], capture_output=True, text=True, check=True, env=env
    ).stdout
    for name in EXPECTED:
        assert re.search(rf"\b{name}\b", top)
    assert "Type: cpu" in top
    assert "mariadbd" in top
