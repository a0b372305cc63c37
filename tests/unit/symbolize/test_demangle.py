from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.demangle import demangle
from tests.support.paths import REPO

DEEP = "'_ZN' + '1aI' * 20_000 + 'i' + 'E' * 20_000 + 'v'"
# Each of 28 types is a template of the one before it, twice.
WIDE = (
    "'_Z1f1aIiiE' + ''.join('S_I' + s + s + 'E' for s in "
    "['S%s_' % '0123456789ABCDEFGHIJKLMNOPQ'[i] for i in range(27)])"
)


@pytest.mark.parametrize(
    ("linkage_name", "name"),
    [
        ("_ZN3THD9set_queryEPKc", "THD::set_query(char const*)"),
        ("_Znwm", "operator new(unsigned long)"),
        ("_ZTV3Foo", "vtable for Foo"),
        ("_ZN3FooC1Ev", "Foo::Foo()"),
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int>>::push_back(int const&)"),
        ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
        ("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
        ("_ZN3foo3barEv.cold", "foo::bar().cold"),
        ("_ZN3foo3barEv.constprop.0.isra.0", "foo::bar().constprop.0.isra.0"),
        ("_RNvC7mycrate3bar.llvm.123", "mycrate::bar.llvm.123"),
    ],
)
def test_names_of_cpp_and_rust(linkage_name: str, name: str) -> None:
    assert demangle([linkage_name]) == {linkage_name: name}


@pytest.mark.parametrize(
    "name",
    ["main", "malloc", "", "_", "_Z", "_R", "_ZZZ", "_Z3foov_bar", "__libc_start_main", "_ZN\udcff", "_RNvNvC1a1b1c$x"],
)
def test_what_is_not_mangled_comes_back_as_it_is(name: str) -> None:
    assert demangle([name]) == {name: name}


@pytest.mark.parametrize(
    ("linkage_name", "name"),
    [("memcpy@@GLIBC_2.14", "memcpy"), ("_ZN3foo3barEv@VERS_1", "foo::bar()"), ("@", "@"), ("@x", "@x")],
)
def test_a_symbols_version_is_left_out(linkage_name: str, name: str) -> None:
    assert demangle([linkage_name]) == {linkage_name: name}


LETTERS = st.sampled_from(list("_ZRNIESCKPLTvijm0123456789ahs.@$"))


NAMES = st.builds("".join, st.lists(LETTERS, max_size=40)).map(lambda rest: "_Z" + rest)


@settings(max_examples=20, deadline=None)
@given(st.lists(NAMES, max_size=50))
def test_garbage_never_raises(names: list[str]) -> None:
    found = demangle(names)
    assert found.keys() == set(names)
    assert all(found.values())


@pytest.mark.parametrize("expression", [DEEP, WIDE])
def test_a_name_that_no_demangler_copes_with_spoils_no_other(expression: str) -> None:
    """In a process of its own, which may crash; one name takes the machine's memory, one overflows the stack."""
    script = (
        f"from symbolize.demangle import demangle; bad = {expression}\n"
        "found = demangle(['_Z1av', bad, '_Z1bv'])\n"
        "assert found == {'_Z1av': 'a()', bad: bad, '_Z1bv': 'b()'}"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_names() -> None:
    assert demangle([]) == {}
