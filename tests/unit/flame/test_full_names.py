from __future__ import annotations

import pytest
from click.testing import CliRunner

from lockflame.cli.flame import flame_command
from lockflame.cli.summary import print_summary
from lockflame.pprof import encode

NAME = "std::map<int, A>::find(int const&) const"


@pytest.mark.parametrize("options", [[], ["--full-names"]])
def test_flame_shortens_names_unless_told(profile_of, tmp_path, options):
    profile, svg = tmp_path / "a.pb.gz", tmp_path / "a.svg"
    profile.write_bytes(encode(profile_of([([NAME], 10)])))
    result = CliRunner().invoke(flame_command, [str(profile), "-o", str(svg), *options])
    assert result.exit_code == 0, result.output
    label = svg.read_text(encoding="utf-8").rpartition("</text></g></svg>")[0].rpartition(">")[2]
    assert label == ("std::map&lt;…&gt;::find" if not options else "std::map&lt;int, A&gt;::find(int const&amp;) const")


def test_summary_shortens_names_unless_told(profile_of, capsys):
    profile = profile_of([([NAME], 10)])
    print_summary(profile, "a", [])
    assert "  std::map<…>::find\n" in capsys.readouterr().err
    print_summary(profile, "a", [], full_names=True)
    assert f"  {NAME}\n" in capsys.readouterr().err
