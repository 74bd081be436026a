//! Server processes: started on a free port and a directory of their own, ended with the test.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::tools;
use crate::wait::eventually;

/// How a server is started, apart from its port and its directory: what a restart repeats.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    /// What stands before port and directory.
    before: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// A server that exited before it was ready.
#[derive(Debug)]
pub struct StartFailure {
    /// How it exited.
    pub status: ExitStatus,
    /// What it wrote to standard output and standard error.
    pub output: String,
}

/// A running server process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    port: u16,
}

/// A server with a temporary directory, which outlives the restarts of its process.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    process: Option<Process>,
    port: u16,
    home: TempDir,
}

impl Launch {
    /// The kival program `binary` with these arguments.
    pub fn kival<A: Into<OsString> + Clone>(binary: &Path, args: &[A]) -> Launch {
        let args = args.iter().cloned().map(Into::into).collect();
        Launch { program: binary.to_owned(), before: Vec::new(), args, env: Vec::new() }
    }

    /// redis-server with these arguments, without snapshots and with its append-only file, so that it
    /// promises roughly what kival does. Nothing where it is not installed, see [`tools::skip`].
    pub fn redis<A: Into<OsString> + Clone>(args: &[A]) -> Option<Launch> {
        if !tools::have("redis-server") {
            return None;
        }
        let own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"].map(OsString::from);
        let args = own.into_iter().chain(args.iter().cloned().map(Into::into)).collect();
        Some(Launch { program: tools::find("redis-server")?, before: Vec::new(), args, env: Vec::new() })
    }

    /// The same through another program, which runs the command that follows these arguments of its own, in
    /// its own process. The data directory is the fourth argument of that command.
    #[must_use]
    pub fn through(self, program: &Path, args: &[&str]) -> Launch {
        let mut before: Vec<OsString> = args.iter().map(OsString::from).collect();
        before.push(self.program.into());
        before.extend(self.before);
        Launch { program: program.to_owned(), before, args: self.args, env: self.env }
    }

    /// The same with an environment variable for the process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Launch {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it in a new temporary directory and waits until it answers.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(self) -> Server {
        let mut server = self.stopped();
        server.restart();
        server
    }

    /// The server with its new temporary directory, not yet started.
    ///
    /// # Panics
    /// If there can be no such directory.
    pub fn stopped(self) -> Server {
        let home = tempfile::Builder::new().prefix("kival-test-").tempdir().expect("a temporary directory");
        fs::create_dir(home.path().join("data")).expect("the new directory can be written");
        Server { launch: self, process: None, port: 0, home }
    }

    /// Starts it on `dir`, output going to the end of the file `log`, and waits until it answers.
    ///
    /// # Errors
    /// If it exits instead.
    pub fn start_on(&self, dir: &Path, log: &Path) -> Result<Process, StartFailure> {
        loop {
            match self.try_start_on(dir, log, free_port()) {
                // Someone else was faster to take the port.
                Err(failure) if failure.output.contains("Address already in use") => {}
                result => return result,
            }
        }
    }

    fn try_start_on(&self, dir: &Path, log: &Path, port: u16) -> Result<Process, StartFailure> {
        let said_before = fs::metadata(log).map_or(0, |meta| meta.len()) as usize;
        let out = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(&self.program)
            .args(&self.before)
            .args(["--port", &port.to_string(), "--dir"])
            .arg(dir)
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(File::try_clone(&out).expect("a second handle of the log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|e| panic!("{} cannot be run: {e}", self.program.display()));
        let mut process = Process { child, port };
        let exited = eventually("the server is ready, or exits", || {
            let status = process.child.try_wait().expect("a child can be waited for");
            (status.is_some() || process.is_ready()).then_some(status)
        });
        let Some(status) = exited else { return Ok(process) };
        let said = fs::read(log).unwrap_or_default();
        Err(StartFailure { status, output: String::from_utf8_lossy(&said[said_before..]).into_owned() })
    }
}

impl Process {
    /// Whether it is this process that listens on the port, and it answers. Any answer will do (it may
    /// want a password first) except that it is still loading.
    fn is_ready(&self) -> bool {
        if !listens(self.child.id(), self.port) {
            return false;
        }
        let Ok(mut client) = Client::connect(self.port) else { return false };
        client.write(b"*1\r\n$4\r\nPING\r\n").is_ok()
            && client.try_frame().is_ok_and(|frame| !frame.raw.starts_with(b"-LOADING"))
    }

    /// A new connection.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the server accepts a connection")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child has a process id");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server exits", || child.try_wait().expect("a child can be waited for"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have exited by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// [`Launch::kival`], started.
    pub fn kival<A: Into<OsString> + Clone>(binary: &Path, args: &[A]) -> Server {
        Launch::kival(binary, args).start()
    }

    /// [`Launch::redis`], started.
    pub fn redis<A: Into<OsString> + Clone>(args: &[A]) -> Option<Server> {
        Launch::redis(args).map(Launch::start)
    }

    /// Where it listens at present: a restart takes another port, since the old one may be gone.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// How it was started, to start another one like it.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// A path beside the data directory, for what a test needs besides.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").child.id()
    }

    /// Everything that it has written to standard output and standard error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.beside("server.log")).unwrap_or_default()).into_owned()
    }

    /// A new connection.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the server accepts a connection")
    }

    /// A new connection that has said `HELLO 3`.
    ///
    /// # Panics
    /// If the server does not speak RESP3.
    pub fn client3(&self) -> Client {
        let mut client = self.client();
        let hello = client.call(&["HELLO", "3"]);
        assert!(!hello.is_error(), "HELLO 3 answered {hello:?}");
        client
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        // One that has died by itself was not waited for, so it can still be signalled.
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Asks it to end with SIGTERM and waits until it has.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        process.signal(Signal::TERM);
        process.wait()
    }

    /// Starts it again on its directory, after ending it as a crash would where it still runs.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn restart(&mut self) {
        let launch = self.launch.clone();
        if let Err(StartFailure { status, output }) = self.try_restart(&launch) {
            panic!("{} did not start ({status}):\n{output}", launch.program.display());
        }
    }

    /// Starts it again on its directory as `launch` says, after ending it as a crash would where it still
    /// runs.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn restarted_as(mut self, launch: Launch) -> Server {
        self.launch = launch;
        self.restart();
        self
    }

    /// As [`Server::restart`], but this once in the way of `launch`.
    ///
    /// # Errors
    /// If it exits instead.
    pub fn try_restart(&mut self, launch: &Launch) -> Result<(), StartFailure> {
        self.process = None;
        let process = launch.start_on(&self.dir(), &self.beside("server.log"))?;
        self.port = process.port;
        self.process = Some(process);
        Ok(())
    }

    /// Starts another server like it on the same directory while this one runs.
    ///
    /// # Errors
    /// As hoped for: the failure of the second one.
    pub fn start_second(&self) -> Result<Process, StartFailure> {
        self.launch.start_on(&self.dir(), &self.beside("second.log"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the last lines of the server's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// A loopback port that was free a moment ago. It lies below the ports that the kernel hands to outgoing
/// connections, and no port is given out twice by one test program; [`Launch::start_on`] deals with the
/// rest.
fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + ((u32::from(start) * 61 + u32::from(turn)) % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether the process `pid` has a socket that listens on `port`: else a PING may be answered by a
/// stranger's server on that port while ours is about to fail.
fn listens(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local_port = format!(":{port:04X}");
    let inodes: HashSet<String> = table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() > 9 && row[1].ends_with(&local_port) && row[3] == LISTEN)
        .map(|row| format!("socket:[{}]", row[9]))
        .collect();
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| inodes.contains(target)))
}
