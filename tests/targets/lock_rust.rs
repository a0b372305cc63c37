//! Threads that contend for a lock of Rust's standard library, which makes its futex calls itself.
//!
//!     lock_rust --kind mutex|rwlock|condvar [--threads N] [--seconds S] [--log FILE]
//!
//! Options, the log's records and the line of JSON are those of lock_truth.h, without the holds. Categories:
//! `reader` and `writer` for `take_in_reader` (a quarter of the turns) and `take_in_writer`; for `condvar`: `idle`, a
//! pool of as many workers as there are threads, which is notified 200 times a second; `lock`, the threads that contend
//! for a mutex meanwhile; and `queue`, the rare wait for the condition's own mutex. For Rust 1.63 and newer, no crates.
#![allow(non_upper_case_globals)]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, RwLock, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

static LOCK_rust: Mutex<u64> = Mutex::new(0);
static RWLOCK_rust: RwLock<u64> = RwLock::new(0);
static LOCK_jobs: Mutex<u64> = Mutex::new(0);
static COND_jobs: Condvar = Condvar::new();

static ENDING: AtomicBool = AtomicBool::new(false);

const READER: i32 = 0;
const WRITER: i32 = 1;
const IDLE: i32 = 0;
const LOCK: i32 = 1;
const QUEUE: i32 = 2;
const ENDING_CATEGORY: i32 = 3;

/// A wait, as lock_truth.h has it.
struct Record {
    start_ns: i64,
    end_ns: i64,
    category: i32,
    tid: i32,
}

impl Record {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0..8].copy_from_slice(&self.start_ns.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.end_ns.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.category.to_ne_bytes());
        bytes[20..24].copy_from_slice(&self.tid.to_ne_bytes());
        bytes
    }
}

/// The few functions of libc that the standard library has, but doesn't pass on.
mod libc {
    #[repr(C)]
    pub struct Timespec {
        pub seconds: i64,
        pub nanoseconds: i64,
    }
    pub type SignalSet = [u64; 16];
    pub const CLOCK_MONOTONIC: i32 = 1;
    pub const SIG_BLOCK: i32 = 0;
    pub const SIGINT: i32 = 2;
    pub const SIGTERM: i32 = 15;

    extern "C" {
        pub fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
        pub fn gettid() -> i32;
        pub fn sigemptyset(set: *mut SignalSet) -> i32;
        pub fn sigaddset(set: *mut SignalSet, number: i32) -> i32;
        pub fn pthread_sigmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
        pub fn sigtimedwait(set: *const SignalSet, info: *mut u8, limit: *const Timespec) -> i32;
    }
}

fn wall_ns() -> i64 {
    let mut now = libc::Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.seconds * 1_000_000_000 + now.nanoseconds
}

fn ending() -> bool {
    ENDING.load(Ordering::Acquire)
}

thread_local! {
    static RANDOM: Cell<u32> = Cell::new(1);
    static TID: i32 = unsafe { libc::gettid() };
    static WAITS: RefCell<Vec<Record>> = RefCell::new(Vec::with_capacity(65_536));
}

fn next_random() -> u32 {
    RANDOM.with(|state| {
        state.set(state.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        state.get() >> 8
    })
}

/// From half of that length to one and a half.
fn about(length_us: u64) -> Duration {
    Duration::from_nanos(length_us * 500 + u64::from(next_random() % 1024) * length_us * 1000 / 1024)
}

/// Part of its caller: logs the time that `acquire` takes as a wait of this thread.
#[inline(always)]
fn timed<T>(category: i32, acquire: impl FnOnce() -> T) -> T {
    let start_ns = wall_ns();
    let result = acquire();
    let end_ns = wall_ns();
    let tid = TID.with(|tid| *tid);
    WAITS.with(|waits| waits.borrow_mut().push(Record { start_ns, end_ns, category, tid }));
    result
}

/// Part of its caller: the lock at once, or after a wait that is logged.
#[inline(always)]
fn take<Guard>(
    category: i32,
    attempt: Result<Guard, TryLockError<Guard>>,
    acquire: impl FnOnce() -> Guard,
) -> Guard {
    match attempt {
        Ok(guard) => guard,
        Err(_) => timed(category, acquire),
    }
}

#[inline(never)]
fn hold_in_reader() {
    thread::sleep(about(600));
    black_box(());
}

#[inline(never)]
fn hold_in_writer() {
    thread::sleep(about(1200));
    black_box(());
}

#[inline(never)]
fn take_lock(category: i32, hold: fn()) {
    let mut guard = take(category, LOCK_rust.try_lock(), || LOCK_rust.lock().unwrap());
    *guard += 1;
    hold();
}

#[inline(never)]
fn take_read_lock() {
    let guard = take(READER, RWLOCK_rust.try_read(), || RWLOCK_rust.read().unwrap());
    black_box(*guard);
    hold_in_reader();
}

#[inline(never)]
fn take_write_lock() {
    let mut guard = take(WRITER, RWLOCK_rust.try_write(), || RWLOCK_rust.write().unwrap());
    *guard += 1;
    hold_in_writer();
}

#[inline(never)]
fn take_in_reader(kind: &str) {
    match kind {
        "rwlock" => take_read_lock(),
        _ => take_lock(READER, hold_in_reader),
    }
    black_box(());
}

#[inline(never)]
fn take_in_writer(kind: &str) {
    match kind {
        "rwlock" => take_write_lock(),
        _ => take_lock(WRITER, hold_in_writer),
    }
    black_box(());
}

fn contend(kind: &str) {
    while !ending() {
        if kind == "condvar" {
            take_lock(LOCK, hold_in_writer);
        } else if next_random() % 4 == 0 {
            take_in_reader(kind);
        } else {
            take_in_writer(kind);
        }
        thread::sleep(about(200));
    }
}

#[inline(always)]
fn take_queue() -> MutexGuard<'static, u64> {
    take(QUEUE, LOCK_jobs.try_lock(), || LOCK_jobs.lock().unwrap())
}

/// Whether there was a job: none comes any more once the end has come.
#[inline(never)]
fn wait_for_job() -> bool {
    let mut jobs = take_queue();
    while *jobs == 0 && !ending() {
        jobs = timed(IDLE, || COND_jobs.wait(jobs).unwrap());
    }
    let has_job = *jobs > 0;
    *jobs -= u64::from(has_job);
    has_job
}

fn pool_worker(_kind: &str) {
    while wait_for_job() {
        black_box(next_random());
    }
}

fn produce_jobs(_kind: &str) {
    while !ending() {
        thread::sleep(Duration::from_millis(5));
        *take_queue() += 1;
        COND_jobs.notify_one();
    }
    // A worker that read the flag too early has the mutex: it sleeps, or is about to, before this takes it.
    let _jobs = take_queue();
    COND_jobs.notify_all();
}

/// A thread whose result are its waits.
fn start(run: fn(&str), kind: &str, seed: u32) -> JoinHandle<Vec<Record>> {
    let kind = kind.to_string();
    thread::spawn(move || {
        RANDOM.with(|state| state.set(seed.wrapping_mul(7919)));
        run(&kind);
        WAITS.with(RefCell::take)
    })
}

fn text_option(name: &str, otherwise: &str) -> String {
    let arguments: Vec<String> = std::env::args().collect();
    let found = arguments.windows(2).find(|pair| pair[0] == name);
    found.map_or_else(|| otherwise.to_string(), |pair| pair[1].clone())
}

fn end_signals() -> libc::SignalSet {
    let mut ends: libc::SignalSet = [0; 16];
    unsafe {
        libc::sigemptyset(&mut ends);
        libc::sigaddset(&mut ends, libc::SIGTERM);
        libc::sigaddset(&mut ends, libc::SIGINT);
    }
    ends
}

/// After that many seconds (0: a year), or on SIGTERM or SIGINT.
fn wait_for_end(seconds: f64) {
    let length = if seconds > 0.0 { seconds } else { 3e7 };
    let limit = libc::Timespec { seconds: length as i64, nanoseconds: (length.fract() * 1e9) as i64 };
    unsafe { libc::sigtimedwait(&end_signals(), std::ptr::null_mut(), &limit) };
}

fn write_log(path: &str, records: &[Record]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        file.write_all(&record.bytes())?;
    }
    file.flush()
}

fn print_truth(kind: &str, threads: u32, started_ns: i64, records: &[Record]) {
    let names = if kind == "condvar" { ["idle", "lock", "queue"] } else { ["reader", "writer", "queue"] };
    let (mut waits, mut wait_ns, mut longest_ns) = ([0_i64; 4], [0_i64; 4], [0_i64; 4]);
    for record in records {
        let (category, length_ns) = (record.category as usize, record.end_ns - record.start_ns);
        waits[category] += 1;
        wait_ns[category] += length_ns;
        longest_ns[category] = longest_ns[category].max(length_ns);
    }
    println!(
        "{{\"kind\": \"{}\", \"threads\": {}, \"categories\": [\"{}\", \"ending\"], \"waits\": {:?}, \
         \"wait_ns\": {:?}, \"longest_ns\": {:?}, \"started_ns\": {}, \"ended_ns\": {}, \"records\": {}, \"lost\": 0}}",
        kind, threads, names.join("\", \""), waits, wait_ns, longest_ns, started_ns, wall_ns(), records.len()
    );
}

fn main() -> io::Result<()> {
    let kind = text_option("--kind", "mutex");
    let threads: u32 = text_option("--threads", "8").parse().expect("--threads N");
    let seconds: f64 = text_option("--seconds", "0").parse().expect("--seconds S");
    let log = text_option("--log", "");
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &end_signals(), std::ptr::null_mut()) };

    let started_ns = wall_ns();
    let mut started: Vec<JoinHandle<Vec<Record>>> = (1..=threads).map(|seed| start(contend, &kind, seed)).collect();
    if kind == "condvar" {
        started.extend((1..=threads).map(|seed| start(pool_worker, &kind, threads + seed)));
        started.push(start(produce_jobs, &kind, 2 * threads + 1));
    }
    println!("ready");
    wait_for_end(seconds);
    ENDING.store(true, Ordering::Release);
    let mut records = Vec::new();
    for thread in started {
        records.append(&mut timed(ENDING_CATEGORY, || thread.join()).expect("no thread panics"));
    }
    records.append(&mut WAITS.with(RefCell::take));

    if !log.is_empty() {
        write_log(&log, &records)?;
    }
    print_truth(&kind, threads, started_ns, &records);
    Ok(())
}
