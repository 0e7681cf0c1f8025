//! `--nproc_per_node N`: starts N workers of this program on this machine, looks after them, and ends as they end.
//!
//! Workers are told their rank by torchrun's variables (`environment.rs`). Rank 0 writes to the terminal itself; what
//! the others write to stderr is kept and shown if one of them is the first to fail.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getppid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::stop;
use crate::error::EXIT_LOST_RANKS;

/// Time that workers get to end by themselves once they are told to.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at the workers.
const POLL: Duration = Duration::from_millis(20);
/// A worker that dies takes others with it: time to see who else has ended, and so who was the first.
const SETTLE: Duration = Duration::from_millis(300);
/// Lines of a worker's stderr that are kept.
const KEPT_LINES: usize = 40;
/// Passed on to the workers.
const FORWARDED: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];
/// Names the launcher to its workers.
const LAUNCHER_PID: &str = "UNET_LAUNCHER_PID";

struct Worker {
    rank: usize,
    process: Child,
    /// Collects what the worker writes to stderr; rank 0 writes to ours.
    errors: Option<JoinHandle<VecDeque<String>>>,
}

struct EndedWorker {
    worker: Worker,
    status: ExitStatus,
}

/// Runs `workers` processes with the arguments of this one and waits for them. The result is the exit code: 0, or that
/// of the worker that failed first (128 + n where signal n ended it).
pub fn launch(workers: usize) -> Result<u8> {
    let mut signals = Signals::new(stop::heeded(&FORWARDED)).context("cannot listen for signals")?;
    let port = free_port()?;
    let mut running: Vec<Worker> = Vec::with_capacity(workers);
    for rank in 0..workers {
        match start(rank, workers, port) {
            Ok(worker) => running.push(worker),
            Err(error) => {
                end(running);
                return Err(error);
            }
        }
    }
    let mut forwarded = None;
    loop {
        for number in signals.pending() {
            let signal = Signal::try_from(number).context("unknown signal")?;
            forwarded = Some(signal);
            running.iter().for_each(|worker| worker.send(signal));
        }
        let mut failed = take_failed(&mut running)?;
        if !failed.is_empty() {
            thread::sleep(SETTLE);
            failed.extend(take_failed(&mut running)?);
            end(running);
            return Ok(report(failed, forwarded));
        }
        if running.is_empty() {
            return Ok(0);
        }
        thread::sleep(POLL);
    }
}

/// In a worker: to be ended when the launcher is, however that ends.
pub fn follow_launcher() -> Result<()> {
    let Some(pid) = std::env::var(LAUNCHER_PID).ok().and_then(|text| text.parse().ok()) else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGTERM).context("cannot ask to be ended with the launcher")?;
    // It may have ended before it could be asked for.
    if getppid() != Pid::from_raw(pid) {
        bail!("the launcher has ended");
    }
    Ok(())
}

fn start(rank: usize, workers: usize, port: u16) -> Result<Worker> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1).collect::<Vec<OsString>>());
    let place = [("RANK", rank), ("WORLD_SIZE", workers), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", workers)];
    command.envs(place.map(|(name, value)| (name, value.to_string())));
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.env(LAUNCHER_PID, std::process::id().to_string());
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env("OMP_NUM_THREADS", (cores / workers).max(1).to_string());
    }
    // A group of its own: the terminal's Ctrl-C reaches us alone, and we pass it on once.
    command.stdin(Stdio::null()).process_group(0);
    if rank > 0 {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    }
    let mut process = command.spawn().with_context(|| format!("cannot start the worker of rank {rank}"))?;
    let errors = process.stderr.take().map(|stderr| thread::spawn(|| last_lines(stderr)));
    Ok(Worker { rank, process, errors })
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let open = || TcpListener::bind(("127.0.0.1", 0))?.local_addr();
    Ok(open().context("cannot open a port for the workers to meet at")?.port())
}

fn last_lines(stderr: ChildStderr) -> VecDeque<String> {
    let mut lines = VecDeque::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    lines
}

/// Takes the workers that have ended out of `running`; those that failed are the result.
fn take_failed(running: &mut Vec<Worker>) -> Result<Vec<EndedWorker>> {
    let mut failed = Vec::new();
    for mut worker in std::mem::take(running) {
        match worker.process.try_wait().context("cannot wait for a worker")? {
            None => running.push(worker),
            Some(status) if !status.success() => failed.push(EndedWorker { worker, status }),
            Some(_) => {}
        }
    }
    Ok(failed)
}

/// Tells workers to end, waits a little, and ends those that do not.
fn end(mut workers: Vec<Worker>) {
    workers.iter().for_each(|worker| worker.send(Signal::SIGTERM));
    let start = Instant::now();
    while start.elapsed() < GRACE && !workers.is_empty() {
        workers.retain_mut(|worker| matches!(worker.process.try_wait(), Ok(None)));
        thread::sleep(POLL);
    }
    for worker in &mut workers {
        // It may just have ended.
        let _ = worker.process.kill();
        let _ = worker.process.wait();
    }
}

/// Prints why the run failed: the worker that failed by itself, if there is one, not those that lost it. Its exit code.
fn report(failed: Vec<EndedWorker>, forwarded: Option<Signal>) -> u8 {
    // Among several with the same cause it is rank 0, which has told it already.
    let order = |EndedWorker { worker, status }: &EndedWorker| {
        (status.code() == Some(i32::from(EXIT_LOST_RANKS)), status.signal().is_none(), worker.rank)
    };
    let Some(EndedWorker { worker, status }) = failed.into_iter().min_by_key(order) else { return 0 };
    let rank = worker.rank;
    for line in worker.errors.and_then(|errors| errors.join().ok()).unwrap_or_default() {
        eprintln!("rank {rank}: {line}");
    }
    if let Some(number) = status.signal() {
        let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
        if forwarded.is_some_and(|signal| signal as i32 == number) {
            eprintln!("error: stopped by {name}");
        } else {
            eprintln!(
                "error: the worker of rank {rank} was ended by signal {number} ({name}); the others were stopped"
            );
        }
        return stop::exit_code(number);
    }
    let code = status.code().unwrap_or(1);
    // Stopped as it was asked to: rank 0 has said so.
    let as_asked = forwarded.is_some_and(|signal| code == i32::from(stop::exit_code(signal as i32)));
    if rank > 0 && !as_asked {
        eprintln!("error: the worker of rank {rank} failed with exit code {code}; the others were stopped");
    }
    code as u8
}

impl Worker {
    fn send(&self, signal: Signal) {
        // It may have ended already.
        let _ = signal::kill(Pid::from_raw(self.process.id() as i32), signal);
    }
}
