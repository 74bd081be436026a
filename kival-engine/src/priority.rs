//! Which threads step back. Merges, hints and scrubs can wait; clients, and the syncs they wait for, cannot.

/// The niceness of a thread whose work can wait: on a busy machine it gets about a tenth of what the writer gets.
const PATIENT: i32 = 10;

/// Lets others have the processor before the calling thread, for as long as that lives: for threads that do the work
/// of [`crate::ColdRead`] and [`crate::LargeWrite`] beside a writer that must not wait.
pub fn step_back() {
    // On Linux a niceness is a thread's own; elsewhere it would be the process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, PATIENT) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}
