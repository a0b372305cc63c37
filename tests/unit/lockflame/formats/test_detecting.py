from __future__ import annotations

import pytest

from lockflame.formats.detecting import HEAD_BYTES, Kind, kind_of, why_unknown

GO_TEXT = b"goroutine profile: total 1\n1 @ 0x43c 0x44d\n#\t0x43b\tmain.main+0x1b\t/tmp/a.go:9\n\n"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"main;a 1\nmain;b 2\n", Kind.FOLDED),
        (b"\xef\xbb\xbfmain;a 1\r\n", Kind.FOLDED),
        (b"<module> (a.py:1);work (a.py:2) 4\n", Kind.FOLDED),
        (b"main;a 1.5\nmain;b 1e5\nmain;c -3\n", Kind.FOLDED),
        (b"main;\x07bell 5\nmain;b 3\n", Kind.FOLDED),
        (b";".join(b"f%d" % n for n in range(HEAD_BYTES))[:HEAD_BYTES], Kind.FOLDED),
        (b"a 1/2 1.5:  7 cycles: \n\t55 f (/a)\n", Kind.PERF_SCRIPT),
        (b"a 1/2  7 \n\t55 f (/a)\n", Kind.PERF_SCRIPT),
        (b"a 0/0 0.0: PERF_RECORD_MMAP -1/0: [0x1(0x2) @ 0]: x b\na 1 1.5: \n\t55 f\n", Kind.PERF_SCRIPT),
        (b"a 1/2 7\nb 3/4 8\n", Kind.FOLDED),
        (b"\n\x04\x08\x01\x10\x02\x12\x04", Kind.PPROF),
        (b"main;a\0b 5\n", Kind.PPROF),
        (GO_TEXT, Kind.UNKNOWN),
        (b"started pid 17\nready\nlistening\n", Kind.UNKNOWN),
    ],
)
def test_content_tells_the_kind(head: bytes, kind: Kind) -> None:
    assert kind_of(head) is kind


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (bytes(8) + b"\3" + bytes(15), "gperftools"),
        (b"--- symbol\nbinary=a\n", "gperftools"),
        (b"FLR\0\0\2", "JFR"),
        ("a;b 1\n".encode("utf-16"), "UTF-16"),
        (b'{"meta": {}}', "JSON"),
        (b"<?xml?><svg>", "picture"),
        (b"", "neither folded"),
    ],
)
def test_what_is_known_but_not_read_is_named(head: bytes, why: str) -> None:
    assert kind_of(head) is Kind.UNKNOWN
    assert why in why_unknown(head)[0]
