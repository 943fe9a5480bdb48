//! Runs a program: its output line by line, its end, and its death when it is to stop.

mod lines;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command as Process};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};

use crate::config::Command;
use lines::{Lines, Mask};

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long output is waited for that processes of an ended program may still hold back.
const LATE_OUTPUT: Duration = Duration::from_secs(1);
/// How often it is looked whether the processes of a program that was stopped have all ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a program wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Takes the lines of a program as they come, without their ends, decoded lossily, cut at 8 KiB, and
/// with `***` for the values of its own environment and for the secrets of the file.
pub(crate) type Output<'a> = &'a (dyn Fn(Stream, &str) + Send + Sync);

/// A program that is to run.
#[derive(Clone)]
pub(crate) struct Invocation<'a> {
    /// What is run, and where.
    pub(crate) command: &'a Command,
    /// Variables for it besides those of Tributary and of the command: its run, its objects.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Who is told what it prints.
    pub(crate) output: Output<'a>,
}

/// Runs a program to its end.
///
/// When `stop` is cancelled, the program and all that it started are asked to end, and are killed
/// when they have not within ten seconds. They are killed too when the future is dropped, and on
/// Linux the program is when Tributary dies. What a program leaves behind when it ends by itself is
/// left alone.
///
/// # Errors
/// The program cannot be started, or did not succeed: [`ErrorKind::InvalidData`], with the last of what
/// it wrote to standard error. [`ErrorKind::Interrupted`] when it was stopped.
pub(crate) async fn run(invocation: Invocation<'_>, stop: &CancellationToken) -> Result<()> {
    let Invocation {
        command,
        variables,
        output,
    } = invocation;
    if stop.is_cancelled() {
        return Err(stopped(command));
    }
    if !command.directory.is_dir() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there is no directory to run a program in",
        )
        .on("program", &command.program)
        .on("directory", command.directory.display())
        .remedy("create the directory, or name another one"));
    }
    let mut process = Process::new(&command.program);
    process
        .args(&command.arguments)
        .current_dir(&command.directory)
        .envs(command.environment.iter().map(|(k, v)| (k, v.as_str())))
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    die_with_parent(&mut process);
    let (mut child, _thread) = spawn(process)
        .await
        .map_err(|error| not_started(command, error))?;
    let group = Group::of(&child);

    let mask = Mask::of(command.environment.values().chain(&*command.secrets));
    let mut written = Lines::new(Stream::Output, output, &mask);
    let mut complained = Lines::new(Stream::Error, output, &mask);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, asked) = {
        let reading = async { tokio::join!(written.follow(stdout), complained.follow(stderr)) };
        tokio::pin!(reading);
        let mut is_read = false;
        let mut asked: Option<Instant> = None;
        let mut killed = false;
        let status = loop {
            let kill_at = asked.map(|at| at + GRACE).unwrap_or_else(Instant::now);
            tokio::select! {
                status = child.wait() => break status,
                _ = &mut reading, if !is_read => is_read = true,
                () = stop.cancelled(), if asked.is_none() => {
                    group.signal(Signal::TERM);
                    asked = Some(Instant::now());
                }
                () = sleep_until(kill_at), if asked.is_some() && !killed => {
                    group.signal(Signal::KILL);
                    killed = true;
                }
            }
        };
        if let Some(at) = asked {
            group.end_by(at + GRACE).await;
        }
        if !is_read {
            timeout(LATE_OUTPUT, &mut reading).await.ok();
        }
        (status, asked)
    };
    group.leave();
    written.finish();
    complained.finish();
    let status = status.map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot tell how a program ended")
            .on("program", &command.program)
            .because(error)
    })?;
    match asked {
        Some(_) => Err(stopped(command)),
        None if status.success() => Ok(()),
        None => Err(failed(command, status, complained.tail())),
    }
}

fn stopped(command: &Command) -> Error {
    Error::new(ErrorKind::Interrupted, "the program was stopped").on("program", &command.program)
}

fn failed(command: &Command, status: ExitStatus, complaint: &str) -> Error {
    let message = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program failed with exit status {code}"),
        (None, Some(signal)) => format!("the program was killed by signal {signal}"),
        (None, None) => "the program failed".to_owned(),
    };
    let remedy = match status.signal() {
        // What the kernel sends when memory is short.
        Some(9) => "something killed it from outside, often because memory was short",
        _ => "its output says what it could not do",
    };
    let error = Error::new(ErrorKind::InvalidData, message)
        .on("program", &command.program)
        .on("directory", command.directory.display())
        .remedy(remedy);
    match complaint.trim() {
        "" => error,
        complaint => error.because(complaint.to_owned()),
    }
}

fn not_started(command: &Command, error: io::Error) -> Error {
    use io::ErrorKind as Io;

    let is_there = command.program.contains('/')
        && Path::new(&command.directory)
            .join(&command.program)
            .exists();
    let (kind, message, remedy) = match error.kind() {
        Io::NotFound if is_there => (
            ErrorKind::NotFound,
            "the interpreter of the program is missing",
            "its first line, `#!…`, names a program that is to be installed",
        ),
        Io::NotFound => (
            ErrorKind::NotFound,
            "there is no such program",
            "install it, or name it by its path; a relative path begins at its directory",
        ),
        Io::PermissionDenied => (
            ErrorKind::Forbidden,
            "the program may not be run",
            "make it executable, `chmod +x`, for the user that Tributary runs as",
        ),
        Io::InvalidInput | Io::ArgumentListTooLong => (
            ErrorKind::Usage,
            "the program cannot be given its arguments",
            "arguments hold no zero bytes, and are not longer than the system allows",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the program cannot be started",
            "check the limits of processes, open files and memory of this machine",
        ),
    };
    Error::new(kind, message)
        .on("program", &command.program)
        .on("directory", command.directory.display())
        .because(error)
        .remedy(remedy)
}

/// Starts a process from a thread that lives until what comes with it is dropped: the kernel takes
/// the end of the thread that started a process for the end of its parent, and the runtime ends
/// threads that it has no use for.
async fn spawn(mut process: Process) -> io::Result<(Child, mpsc::Sender<()>)> {
    let runtime = tokio::runtime::Handle::current();
    let (started, child) = oneshot::channel();
    let (keep, kept) = mpsc::channel::<()>();
    std::thread::Builder::new()
        .name("command".to_owned())
        .spawn(move || {
            let child = {
                let _runtime = runtime.enter();
                process.spawn()
            };
            if let Err(Ok(child)) = started.send(child) {
                // Nobody waits any more.
                Group::of(&child);
            }
            // Answers when the other end is dropped.
            kept.recv().ok();
        })?;
    let child = child.await.map_err(io::Error::other)??;
    Ok((child, keep))
}

#[cfg(target_os = "linux")]
fn die_with_parent(process: &mut Process) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes two system calls; it neither allocates
    // nor locks.
    unsafe {
        process.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                // The parent ended before the signal was armed.
                Err(io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_process: &mut Process) {}

/// The processes of a program; killed when dropped before the program has ended.
struct Group {
    id: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It may have ended just now.
            rustix::process::kill_process_group(id, signal).ok();
        }
    }

    /// Waits until all have ended, and kills those that have not by `deadline`.
    async fn end_by(&self, deadline: Instant) {
        let Some(id) = self.id else { return };
        while rustix::process::test_kill_process_group(id).is_ok() {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What is left of it, if anything, is left alone.
    fn leave(mut self) {
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
