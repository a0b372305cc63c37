from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.locks.rule_file import load_rules
from flame.locks.rules import NO_MATCH, LockRules, Match, Meaning, Rule, Space, plain_name

GLOB_TEXT = st.text("ab*", min_size=1, max_size=12)


@pytest.fixture(scope="module")
def ours() -> LockRules:
    return load_rules()


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("pthread_cond_wait@@GLIBC_2.3.2", "pthread_cond_wait"),
        ("pthread_mutex_lock@GLIBC_2.2.5", "pthread_mutex_lock"),
        ("__GI___pthread_mutex_lock", "__pthread_mutex_lock"),
        ("__mutex_lock.constprop.0", "__mutex_lock"),
        ("rwsem_wake.isra.0", "rwsem_wake"),
        ("PyMutex_LockFlags.part.0.constprop.0", "PyMutex_LockFlags"),
        ("lock_slow.llvm.1234567", "lock_slow"),
        ("handler.cold", "handler"),
        ("sync.(*Mutex).lockSlow", "sync.(*Mutex).lockSlow"),
        ("runtime.part.of", "runtime.part.of"),
        ("", ""),
    ],
)
def test_what_compilers_add_is_taken_off(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    ("name", "space", "means", "kind"),
    [
        ("pthread_mutex_lock", Space.USER, Meaning.LOCKING, "mutex"),
        ("___pthread_mutex_lock", Space.USER, Meaning.LOCKING, "mutex"),
        ("__pthread_mutex_lock_full", Space.USER, Meaning.LOCKING, "mutex"),
        ("__pthread_mutex_unlock_usercnt", Space.USER, Meaning.LOCKING, "mutex"),
        ("__lll_lock_wait", Space.USER, Meaning.CONTENDED, "mutex"),
        ("__lll_lock_wake_private", Space.USER, Meaning.CONTENDED, "mutex"),
        ("__pthread_rwlock_rdlock_full64", Space.USER, Meaning.LOCKING, "rwlock"),
        ("__futex_abstimed_wait_common", Space.USER, Meaning.MECHANISM, "futex"),
        ("__GI___futex_abstimed_wait_cancelable64", Space.USER, Meaning.MECHANISM, "futex"),
        ("pthread_cond_wait@@GLIBC_2.3.2", Space.USER, Meaning.WAITING, "condition"),
        ("__new_sem_wait_slow64.constprop.0", Space.USER, Meaning.WAITING, "semaphore"),
        ("pthread_barrier_wait", Space.USER, Meaning.WAITING, "barrier"),
        ("std::mutex::lock()", Space.USER, Meaning.LOCKING, "mutex"),
        ("std::lock_guard<std::mutex>::lock_guard(std::mutex&)", Space.USER, Meaning.LOCKING, "mutex"),
        ("std::condition_variable::wait(std::unique_lock<std::mutex>&)", Space.USER, Meaning.WAITING, "condition"),
        ("std::shared_mutex::lock_shared()", Space.USER, Meaning.LOCKING, "rwlock"),
        ("std::unique_lock<std::shared_mutex>::unique_lock(std::shared_mutex&)", Space.USER, Meaning.LOCKING, "rwlock"),
        ("std::lock_guard<std::shared_timed_mutex>::~lock_guard()", Space.USER, Meaning.LOCKING, "rwlock"),
        ("std::unique_lock<std::timed_mutex>::~unique_lock()", Space.USER, Meaning.LOCKING, "mutex"),
        ("native_queued_spin_lock_slowpath", Space.KERNEL, Meaning.CONTENDED, "spinlock"),
        ("__pv_queued_spin_lock_slowpath", Space.KERNEL, Meaning.CONTENDED, "spinlock"),
        ("_raw_spin_lock_irqsave", Space.KERNEL, Meaning.LOCKING, "spinlock"),
        ("__mutex_lock.constprop.0", Space.KERNEL, Meaning.CONTENDED, "mutex"),
        ("rwsem_down_read_slowpath", Space.KERNEL, Meaning.CONTENDED, "rwsem"),
        ("rt_mutex_slowlock_block.constprop.0", Space.KERNEL, Meaning.CONTENDED, "rtmutex"),
        ("__x64_sys_futex", Space.KERNEL, Meaning.MECHANISM, "futex"),
        ("futex_q_lock", Space.KERNEL, Meaning.MECHANISM, "futex"),
        ("ssux_lock_impl<true>::wr_wait(unsigned int)", Space.USER, Meaning.CONTENDED, "rwlock"),
        ("srw_mutex_impl<false>::wait_and_lock()", Space.USER, Meaning.CONTENDED, "mutex"),
        ("rw_lock_s_lock_spin(rw_lock_t*, unsigned long)", Space.USER, Meaning.CONTENDED, "rwlock"),
        ("TTASEventMutex<GenericPolicy>::enter(unsigned int)", Space.USER, Meaning.LOCKING, "mutex"),
        ("LWLockAcquire", Space.USER, Meaning.LOCKING, "lwlock"),
        ("s_lock", Space.USER, Meaning.CONTENDED, "spinlock"),
        ("take_gil", Space.USER, Meaning.LOCKING, "gil"),
        ("_PyMutex_LockTimed", Space.USER, Meaning.LOCKING, "mutex"),
        ("ObjectMonitor::enter(JavaThread*)", Space.USER, Meaning.CONTENDED, "monitor"),
        ("Parker::park(bool, long)", Space.USER, Meaning.WAITING, "parker"),
        ("runtime.lock2", Space.USER, Meaning.LOCKING, "mutex"),
        ("sync.(*Mutex).lockSlow", Space.USER, Meaning.CONTENDED, "mutex"),
        ("std::sys::sync::mutex::futex::Mutex::lock_contended", Space.USER, Meaning.CONTENDED, "mutex"),
        ("std::sys::unix::locks::futex_mutex::Mutex::lock_contended", Space.USER, Meaning.CONTENDED, "mutex"),
        ("parking_lot::raw_mutex::RawMutex::lock_slow::h0123456789abcdef", Space.USER, Meaning.CONTENDED, "mutex"),
        ("je_malloc_mutex_lock_slow", Space.USER, Meaning.CONTENDED, "mutex"),
        ("SpinLock::SlowLock()", Space.USER, Meaning.CONTENDED, "spinlock"),
        ("absl::lts_20240116::Mutex::LockSlow(int)", Space.USER, Meaning.CONTENDED, "mutex"),
        ("std::call_once<void (&)()>", Space.USER, Meaning.WRAPPER, "once"),
        ("__pthread_once_slow.isra.0", Space.USER, Meaning.WRAPPER, "once"),
        ("__cxa_guard_acquire", Space.USER, Meaning.LOCKING, "once"),
        ("std::thread::join()", Space.USER, Meaning.WAITING, "join"),
    ],
)
def test_our_rules(ours: LockRules, name: str, space: Space, means: Meaning, kind: str) -> None:
    assert ours.match([name], space, "") == Match(means, kind)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("THD::set_query(char const*, unsigned long)", Space.USER),
        ("pthread_create", Space.USER),
        ("pthread_mutexattr_init", Space.USER),
        ("lock_tables(THD*, TABLE_LIST*, unsigned int, unsigned int)", Space.USER),
        ("mysql_lock_tables(THD*, st_mysql_lock*, unsigned int)", Space.USER),
        ("clock_gettime", Space.USER),
        ("_raw_spin_lock", Space.USER),
        ("down_read", Space.USER),
        ("pthread_mutex_lock", Space.KERNEL),
        ("_raw_spin_unlock_irqrestore", Space.KERNEL),
        ("futex_exec_release", Space.KERNEL),
        ("schedule", Space.KERNEL),
        ("", Space.USER),
    ],
)
def test_what_is_no_lock_machinery(ours: LockRules, name: str, space: Space) -> None:
    assert ours.match([name], space, "") == NO_MATCH


def test_a_rule_for_a_module_holds_only_there(ours: LockRules) -> None:
    assert ours.match(["__lock"], Space.USER, "ld-musl-x86_64.so.1").means is Meaning.LOCKING
    assert ours.match(["__lock"], Space.USER, "server") == NO_MATCH


def test_the_first_rule_wins_however_it_is_found() -> None:
    def verdict(*rules: tuple[str, Meaning]) -> Meaning:
        return (
            LockRules(Rule((name,), means, "mutex") for name, means in rules).match(["spin_lock"], Space.USER, "").means
        )

    exact, prefix, loose = "spin_lock", "spin_*", "*lock"
    for first, second in [(exact, prefix), (prefix, exact), (loose, exact), (exact, loose), (loose, prefix)]:
        assert verdict((first, Meaning.CONTENDED), (second, Meaning.LOCKING)) is Meaning.CONTENDED


def test_linkage_and_demangled_names_both_count() -> None:
    rules = LockRules([Rule(("_ZN1A4lockEv",), Meaning.LOCKING, "mutex")])
    assert rules.match(["_ZN1A4lockEv", "A::lock()"], Space.USER, "").means is Meaning.LOCKING


@given(GLOB_TEXT, st.text("ab", max_size=20))
def test_a_glob_matches_what_the_regular_expression_does(glob: str, text: str) -> None:
    rules = LockRules([Rule((glob,), Meaning.LOCKING, "mutex")])
    assert (rules.match([text], Space.USER, "") != NO_MATCH) == _regex_matches(glob, text)


@given(st.lists(st.tuples(GLOB_TEXT, st.sampled_from(list(Meaning)))), st.text("ab", min_size=1, max_size=8))
def test_the_index_changes_no_verdict(rules: Sequence[tuple[str, Meaning]], text: str) -> None:
    found = LockRules(Rule((glob,), means) for glob, means in rules).match([text], Space.USER, "").means
    assert found == next((means for glob, means in rules if _regex_matches(glob, text)), Meaning.NONE)


def _regex_matches(glob: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), text) is not None


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    rules = LockRules([Rule(("a*" * 400 + "b",), Meaning.LOCKING, "mutex")])
    assert rules.match(["a" * 100_000], Space.USER, "") == NO_MATCH
