from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.locks.rule_file import load_rules, parse_rules
from flame.locks.rules import Match, Meaning, Rule, Space
from lockflame.errors import LockflameError

GOOD = '[[rule]]\nnames = ["my_lock"]\nkind = "mutex"\nmeans = "contended"\n'


def test_a_rule_is_read_whole() -> None:
    text = GOOD + '\n[[rule]]\nnames = ["a*", "b"]\nmeans = "wrapper"\nspace = "kernel"\nmodule = "libfoo*"\n'
    text += '[[rule]]\nnames = ["run_once"]\nmeans = "wrapper"\nkind = "once"\n'
    assert parse_rules(text, "r.toml") == (
        Rule(("my_lock",), Meaning.CONTENDED, "mutex"),
        Rule(("a*", "b"), Meaning.WRAPPER, "", Space.KERNEL, "libfoo*"),
        Rule(("run_once",), Meaning.WRAPPER, "once"),
    )


def test_the_users_rules_add_to_ours_and_win(tmp_path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD + '[[rule]]\nnames = ["pthread_mutex_*"]\nmeans = "none"\n')
    rules = load_rules(str(path))
    assert rules.match(["my_lock"], Space.USER, "") == Match(Meaning.CONTENDED, "mutex")
    assert rules.match(["pthread_mutex_lock"], Space.USER, "").means is Meaning.NONE
    assert rules.match(["pthread_spin_lock"], Space.USER, "").means is Meaning.LOCKING


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (GOOD + '[[rule]]\nnames = ["x"]\nmeans = "contended\n', 7, "Illegal character"),
        (GOOD + "[[rule", 5, "Expected"),
        (
            GOOD + '\n# another\n[[rule]]\nnames = ["x"]\nkind = "mutex"\nmeans = "slow"\n',
            7,
            "means is 'slow', not one of",
        ),
        (GOOD + '[[rule]]\nnames = "x"\nkind = "mutex"\nmeans = "locking"\n', 5, "names must be a list"),
        (GOOD + '[[rule]]\nnames = []\nkind = "mutex"\nmeans = "locking"\n', 5, "names must be a list"),
        (GOOD + '[[rule]]\nnames = ["**"]\nkind = "mutex"\nmeans = "locking"\n', 5, "match nothing or everything"),
        (GOOD + '[[rule]]\nnames = [3]\nkind = "mutex"\nmeans = "locking"\n', 5, "3 in names is no name"),
        (GOOD + '[[rule]]\nnames = ["x"]\nmeans = "locking"\n', 5, "kind is missing"),
        (GOOD + '[[rule]]\nnames = ["x"]\nkind = "Mutex!"\nmeans = "locking"\n', 5, "is no kind"),
        (GOOD + '[[rule]]\nnames = ["x"]\nkind = "mutex"\nmeans = "boundary"\n', 5, "has no kind"),
        (GOOD + '[[rule]]\nnames = ["x"]\nkind = "m"\n', 5, "means is missing"),
        (GOOD + '[[rule]]\nnames = ["x"]\nkind = "m"\nmeans = "locking"\nspace = "jit"\n', 5, "space is 'jit'"),
        (GOOD + '[[rule]]\nnames = ["x"]\nkind = "m"\nmeans = "locking"\nmodul = "y"\n', 5, "'modul' is no key"),
        ('names = ["""\n[[rule]]\n"""]\n' + GOOD, 1, "'names' is unknown"),
        ('[[rule]]\nnames = ["""\n[[rule]]\n"""]\nmeans = "none"\n[[rule]]\nmeans = "none"\n', 6, "names must be"),
        ("", 1, "it holds no [[rule]]"),
        ("rule = 3\n", 1, "it holds no [[rule]]"),
        ("rule = [1]\n", 1, "it holds no [[rule]]"),
        ('[[rule]]\nnames = ["' + "x" * 1001 + '"]\nkind = "m"\nmeans = "locking"\n', 1, "longer than 1,000"),
        ('[[rule]]\nmeans = "none"\nnames = [' + '"x",' * 10_001 + "]\n", 1, "more than 10,000 names"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, line: int, reason: str) -> None:
    with pytest.raises(LockflameError) as raised:
        parse_rules(text, "my.toml")
    message = str(raised.value)
    assert message.startswith("cannot use my.toml. ")
    assert f"ine {line}: " in message
    assert reason in message
    assert "\n" not in message


def test_nesting_without_end() -> None:
    with pytest.raises(LockflameError, match="nests too deeply"):
        parse_rules("rule = " + "[" * 100_000, "my.toml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"[[rule]]\n# \xff\n", "ine 2: it is not UTF-8"), (b"#" * ((1 << 20) + 1), "larger than 1 MiB")],
)
def test_what_is_no_rules_file(tmp_path, content: bytes, reason: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(LockflameError) as raised:
        load_rules(str(path))
    assert reason in str(raised.value)


def test_a_file_that_isnt_there(tmp_path) -> None:
    with pytest.raises(LockflameError, match="No such file"):
        load_rules(str(tmp_path / "none.toml"))


@given(st.text())
def test_any_text_is_rules_or_a_mistake(text: str) -> None:
    with suppress(LockflameError):
        parse_rules(text, "any.toml")
