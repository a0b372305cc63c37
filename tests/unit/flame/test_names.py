from __future__ import annotations

import shutil
import subprocess
import time

import pydemumble
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flame.names import short_name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("std::map<int, A, std::less<int> >::find(int const&) const", "std::map<…>::find"),
        ("void foo<int>(int)", "foo<…>"),
        ("unsigned long const& std::max<unsigned long>(unsigned long const&)", "std::max<…>"),
        ("std::enable_if<((4)>(2)), int>::type foo<4, ((1)<(2))>(int)", "foo<…>"),
        ("decltype ((f)((g<int>)({parm#1}))) foo<int>(int&&)", "foo<…>"),
        ("decltype(auto) foo<int>(int)", "foo<…>"),
        ("void (*foo<int>(int))(char)", "foo<…>"),
        ("T foo<int>(T) requires bar<T>", "foo<…>"),
        ("do_command(THD*)", "do_command"),
        ("A::~A()", "A::~A"),
        ("A::foo(B<int>, C const&, ...) const", "A::foo"),
        ("A::foo(int) volatile", "A::foo"),
        ("std::chrono::_V2::steady_clock::now()", "std::chrono::steady_clock::now"),
        ("a::h0123456789abcdef(int)", "a::h0123456789abcdef(int)"),  # what is left would lose more
        ("a::~operator()", "a::~operator()"),
        ("operator_of(int)", "operator_of"),
        ("non-virtual thunk to A::~A()", "non-virtual thunk to A::~A"),
        ("(anonymous namespace)::foo(int)", "(anonymous namespace)::foo"),
        ("void (anonymous namespace)::foo<int>(int)", "(anonymous namespace)::foo<…>"),
        ("foo(int)::{lambda(int)#1}::operator()(int) const", "foo::{lambda#1}::operator()"),
        ("auto foo()::{lambda(auto:1)#2}::operator()<int>(int) const", "foo::{lambda#2}::operator()<…>"),
        ("foo(int)::'lambda0'(auto)::operator()<int>(int) const", "foo::'lambda0'::operator()<…>"),
        ("foo() [clone .isra.0] [clone .cold]", "foo"),
        ("foo() (.cold)", "foo"),
        ("foo() const.constprop.0.cold", "foo"),
        ("foo[abi:cxx11]()", "foo"),
        ("std::__cxx11::basic_string<char>::_M_append(char const*)", "std::basic_string<…>::_M_append"),
        ("std::__1::vector<int>::push_back(int&&)", "std::vector<…>::push_back"),
        # The demanglers write these three ways.
        ("bool operator< <int>(A, B)", "operator< <…>"),
        ("bool operator<<int>(A, B)", "operator< <…>"),
        ("A& operator<<<int>(A&, B)", "operator<< <…>"),
        ("A::operator<(A const&) const", "A::operator<"),
        ("A::operator<<(int)", "A::operator<<"),
        ("auto operator<=><int>(A, B)", "operator<=><…>"),
        ("A::operator->() const", "A::operator->"),
        ("foo<&A::operator->>(int)", "foo<…>"),
        ("A::operator++(int)", "A::operator++"),
        ("A::operator()()", "A::operator()"),
        ("A::operator new[](unsigned long)", "A::operator new[]"),
        ("A::operator std::string() const", "A::operator std::string"),
        ("A::operator char const*() const", "A::operator char const*"),
        ('operator"" _x(char const*)', 'operator"" _x'),
        ("<alloc::vec::Vec<T> as core::ops::Drop>::drop", "<Vec<…> as Drop>::drop"),
        ("core::fmt::num::<impl core::fmt::Display for u32>::fmt", "core::fmt::num::<impl Display for u32>::fmt"),
        ("std::rt::lang_start::h0123456789abcdef", "std::rt::lang_start"),
        ("core::ptr::drop_in_place<alloc::string::String>", "core::ptr::drop_in_place<…>"),
    ],
)
def test_long_names(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    "name",
    [
        "",
        "main",
        "__x64_sys_futex",
        "foo.cold",
        "memcpy@plt",
        "main.(*Server).Serve",
        "main.(*List[go.shape.int]).Push",
        "main.Map[...]",
        "net/http.(*conn).serve.func1",
        "py::func:/path/file.py",
        "py::<lambda>:/path (x)/file.py",
        "LazyCompile:~foo x.js:1:2",
        "LazyCompile:*(anonymous) /x/y.js:1:2",
        "Ljava/lang/Object;::<init>",
        "java.util.HashMap.put(java.lang.Object, java.lang.Object)",
        "void java.lang.Object.<init>()",
        "StubRoutines (initial stubs)",
        "[truncated stack]",
        "[anon+0x123]",
        "mariadbd+0xd19fe0",
        "std::foo<int>(",
        "foo)(",
        "foo<int]>",
        "a<b>&c</svg>",
    ],
)
def test_names_that_stay(name):
    assert short_name(name) == name


PIECES = ["operator", "<", ">", "(", ")", "[", "]", "{", "}", "::", " ", "a", "std", "__1", "'", "*", "&", ".cold"]
PIECES += [" const", "->", "<<", "[abi:x]", "{lambda(", "#1}", " as ", "impl ", " [clone .x]", "…", "void ", ":", '"" ']
names = st.text() | st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@given(name=names)
@example("a::h0123456789abcdef::h0123456789abcdef")
def test_never_longer_never_empty_and_stays(name):
    short = short_name(name)
    assert len(short) <= len(name)
    assert bool(short) == bool(name)
    assert short_name(short) == short


HOSTILE_PIECES = ["<", ">", "(", ")", "a<", "(*", "a (*", "(<", "<a<", "a<b>", "::<", "operator<", "operator ", "void "]
HOSTILE_PIECES += [" [clone .x]", ".cold", " (.c)", "::h0123456789abcdef", " const", "f()::", "'", "{lambda#1}"]
HOSTILE_PIECES += ["std::__1::", "__1::", "<a as b>::", "a", "a::", "~a::", "a<…>::"]


@pytest.mark.parametrize("piece", HOSTILE_PIECES)
@pytest.mark.parametrize("tail", ["", ")", "]", "(a<b>)"])
def test_hostile_names_take_no_time(piece, tail):
    name = piece * (60_000 // len(piece)) + tail
    start = time.perf_counter()
    short_name(name)
    # Measured: at most 0.1 s; squared it would be minutes.
    assert time.perf_counter() - start < 1.5


def test_names_of_a_real_library_are_shortened():
    library = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6"
    if shutil.which("nm") is None:
        pytest.skip("nm (package binutils) is not installed")
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=False).stdout
    mangled = {line.split()[2].partition("@")[0] for line in listed.splitlines() if len(line.split()) == 3}
    demangled = {pydemumble.demangle(name) for name in mangled}
    functions = [name for name in demangled if name.endswith((")", ") const"))]
    if not functions:
        pytest.skip("libstdc++.so.6 isn't where it is on Debian")
    as_they_are = [name for name in functions if short_name(name) == name and " for " not in name]
    assert as_they_are == []
    shorts = [short_name(name) for name in functions if " for " not in name]
    assert [name for name in shorts if name.count("(") != name.count("operator()") + name.count("(anonymous")] == []
