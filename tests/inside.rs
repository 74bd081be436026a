//! A server inside the test, on a file system in memory whose every call a hook sees: so a test decides
//! when the disk answers, and what.

use std::sync::Arc;
use std::thread::JoinHandle;

use kival_engine::fs::MemoryFs;
use kival_engine::fs::hook::{Hook, HookFs};
use kival_server::config;
use kival_server::server::{Server, Stopper};
use kival_test_support::Client;

/// A hook that can hold calls up, and lets them all go at the end.
pub(crate) trait Disk: Hook + Clone + 'static {
    /// Holds nothing up any more.
    fn let_go(&self);
}

/// A server in this process.
pub(crate) struct Inside<D: Disk> {
    pub(crate) disk: D,
    port: u16,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> Inside<D> {
    /// Starts one with these settings on an empty disk.
    pub(crate) fn start(disk: D, settings: &[&str]) -> Inside<D> {
        let fs = Arc::new(HookFs::new(MemoryFs::default(), disk.clone()));
        let args = ["kival-server", "--port", "0", "--in-memory", "yes"].iter().chain(settings);
        let loaded = config::load(args.map(|arg| (*arg).into())).unwrap();
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::start(loaded, fs, None).unwrap();
                started.send((server.port(), server.stopper())).unwrap();
                // A disk that failed keeps it from ending well.
                let _ = server.run().await;
            });
        });
        let (port, stopper) = start.recv().unwrap();
        Inside { disk, port, stopper, thread: Some(thread) }
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port).unwrap()
    }
}

impl<D: Disk> Drop for Inside<D> {
    fn drop(&mut self) {
        self.disk.let_go();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // What it panicked with has been printed; a second panic here would hide the first.
            let _ = thread.join();
        }
    }
}
