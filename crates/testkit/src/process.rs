//! Child processes that end with their owner, however it ends, and the ports and directories they use.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::{
    cache::last_lines,
    error::{Context, Result, TestkitError},
};

type Spawn = (Command, Signal, mpsc::SyncSender<io::Result<Child>>);

/// The thread that starts every child. Linux sends the parent-death signal when the *thread* that forked ends, so a
/// child started from a test's own thread would be killed as soon as that thread was done.
static SPAWNER: LazyLock<mpsc::Sender<Spawn>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Spawn>();
    thread::Builder::new()
        .name("testkit-spawner".to_owned())
        .spawn(move || {
            for (mut command, signal, reply) in receiver {
                die_with_parent(&mut command, signal);
                // The receiver waits for exactly this reply; if it is gone nobody wants the child.
                if let Err(mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                    child.kill().ok();
                    child.wait().ok();
                }
            }
        })
        .expect("a thread can be started");
    sender
});

/// Starts `command` so that it receives `signal` when this process ends, for whatever reason.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: Command, signal: Signal) -> io::Result<Child> {
    let (reply, answer) = mpsc::sync_channel(1);
    SPAWNER
        .send((command, signal, reply))
        .expect("the spawner thread never ends");
    answer.recv().expect("the spawner answers every request")
}

/// Sends `signal` to a child that has not been waited for.
///
/// # Errors
/// The process is gone.
pub fn send_signal(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(
        Pid::from_child(child),
        signal,
    )?)
}

/// Halts a child that has not been waited for, and answers once all of its threads stand still: whether it does, or has
/// ended instead. [`Signal::CONT`] lets it go on; a signal that was sent meanwhile reaches it then.
///
/// # Errors
/// The process is gone, or is not a child of this one.
pub fn halt(child: &Child) -> io::Result<bool> {
    send_signal(child, Signal::STOP)?;
    // The end is only looked at: it is still there for whoever waits for the child.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(Some(status)) => return Ok(status.stopped()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a command whose own processes may outlive it, and answers how it ended and all that it printed; no status
/// where it took longer than `limit`.
///
/// It has a process group of its own, of which nothing is left behind, and prints into a file: what it leaves behind
/// cannot hold a pipe open.
///
/// # Errors
/// It cannot be started or watched, or there is no temporary file.
pub fn run_in_group(
    mut command: Command,
    limit: Duration,
) -> io::Result<(Option<ExitStatus>, String)> {
    let log = tempfile::NamedTempFile::new()?;
    command
        .stdin(Stdio::null())
        .stdout(log.reopen()?)
        .stderr(File::options().append(true).open(log.path())?)
        .process_group(0);
    let mut child = spawn(command, Signal::KILL)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            status => break status,
        }
    };
    // The group has the number of its first process, which is not given anew while one of its processes is there.
    rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
    child.wait()?;
    let printed = fs::read(log.path())?;
    Ok((status, String::from_utf8_lossy(&printed).into_owned()))
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes two system calls; it neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal))?;
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
fn die_with_parent(_command: &mut Command, _signal: Signal) {}

/// A running server: killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    end: Signal,
    log: PathBuf,
}

impl Process {
    /// Starts a server whose output goes to the end of the file `log`, and which ends at once, as in a crash, when it
    /// receives `end`. That is [`Signal::KILL`] unless the server has processes and shared memory of its own to take along.
    ///
    /// It gets a process group of its own, so that Ctrl-C in a terminal reaches the tests and not the server under them.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
        end: Signal,
    ) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context(|| format!("cannot open {}", log.display()))?;
        let copy = file
            .try_clone()
            .context(|| format!("cannot open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0);
        let program = command.get_program().to_owned();
        let child = spawn(command, end)
            .context(|| format!("cannot start {name} ({})", program.display()))?;
        Ok(Self {
            name,
            child,
            end,
            log: log.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server at once, as in a crash, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.end_with(self.end);
    }

    /// Sends `signal` and waits until the process is gone, which SIGKILL sees to if it is not in time.
    pub(crate) fn end_with(&mut self, signal: Signal) {
        /// A server that ends by itself does so within a second; a machine with two busy cores may need many.
        const PATIENCE: Duration = Duration::from_secs(20);
        let deadline = Instant::now() + PATIENCE;
        // Once it has been waited for, its id may be another's.
        let mut running = matches!(self.child.try_wait(), Ok(None));
        if running && signal != Signal::KILL && send_signal(&self.child, signal).is_ok() {
            while running && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
                running = matches!(self.child.try_wait(), Ok(None));
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Fails if the process has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(source).context(|| format!("cannot watch {}", self.name)),
        }
    }

    /// Calls `probe` until it answers `Some`; fails when the process ends or the deadline passes.
    pub(crate) async fn wait_until<T, F: Future<Output = Option<T>>>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<T> {
        let poll = async {
            loop {
                self.check()?;
                if let Some(value) = probe().await {
                    return Ok(value);
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        match tokio::time::timeout(deadline, poll).await {
            Ok(result) => result,
            Err(_) => Err(TestkitError::new(format!(
                "{} (process {}) is not {what} after {} s; the end of its log:\n{}",
                self.name,
                self.pid(),
                deadline.as_secs(),
                self.log_tail()
            ))),
        }
    }

    fn ended(&self, status: ExitStatus) -> TestkitError {
        TestkitError::new(format!(
            "{} ended by itself ({status}); the end of its log:\n{}",
            self.name,
            self.log_tail()
        ))
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&bytes), 15)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 on which nothing listens now.
///
/// It lies below the ports that the kernel hands out to outgoing connections, so that none of those takes it while the
/// server behind it is down.
pub(crate) fn free_port() -> Result<u16> {
    /// Linux's default for the first of those ports.
    const EPHEMERAL: u16 = 32_768;
    /// Above the ports of services that may be installed on the machine.
    const LOWEST: u16 = 12_000;
    let end = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|end| *end > LOWEST + 1_000)
        .unwrap_or(EPHEMERAL);
    (0..1_000)
        .map(|_| rand::random_range(LOWEST..end))
        .find(|port| TcpListener::bind(loopback(*port)).is_ok())
        .ok_or_else(|| {
            TestkitError::new(format!(
                "no free port on 127.0.0.1 between {LOWEST} and {end}"
            ))
        })
}

/// Repeats `start` with another port when a server loses the race for one.
pub(crate) async fn with_free_port<T, F: Future<Output = Result<T>>>(
    mut start: impl FnMut(u16) -> F,
) -> Result<T> {
    for _ in 0..2 {
        let port = free_port()?;
        match start(port).await {
            Err(_) if TcpListener::bind(loopback(port)).is_err() => {}
            result => return result,
        }
    }
    start(free_port()?).await
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A temporary directory that goes away when dropped, or when a later run finds that its owner has died.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    /// Locked for as long as the owner lives.
    _lock: File,
}

impl Scratch {
    const PREFIX: &str = "tributary-testkit-";

    pub(crate) fn new() -> Result<Self> {
        sweep();
        let directory = tempfile::Builder::new()
            .prefix(Self::PREFIX)
            .tempdir()
            .context(|| "cannot create a temporary directory".to_owned())?;
        let lock = File::create(directory.path().join("lock"))
            .and_then(|file| file.lock().map(|()| file))
            .context(|| format!("cannot lock {}", directory.path().display()))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what killed processes left behind.
fn sweep() {
    /// A younger directory may not have been locked yet.
    const AGE: Duration = Duration::from_secs(60);
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_string_lossy()
            .starts_with(Scratch::PREFIX);
        let age = || {
            SystemTime::now()
                .duration_since(entry.metadata()?.modified()?)
                .map_err(io::Error::other)
        };
        if !ours || age().map_or(true, |age| age < AGE) {
            continue;
        }
        let orphaned =
            File::open(entry.path().join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
        if orphaned {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// A name that no other test uses, in this run or another.
///
/// What follows `prefix` is letters and digits only, so that a lower-case `prefix` gives a valid name of a database, a
/// bucket, a container and, unquoted, of an SQL schema.
pub fn unique_name(prefix: &str) -> String {
    format!(
        "{prefix}{:x}x{:08x}",
        std::process::id(),
        rand::random::<u32>()
    )
}
