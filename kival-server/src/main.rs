//! The kival server program: an offline tool, if the first argument names one; else settings, logging and
//! limits of the process, then the server.

use kival_server::config::{self, Loaded};
use kival_server::limits;
use kival_server::logging::{self, LogHandle};
use kival_server::server::{Server, file_system};
use kival_server::tools;
use std::ffi::OsString;
use std::process::ExitCode;

/// Chosen by measurement: see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = tools::run(&args) {
        return code;
    }
    let loaded = match config::load(args.clone()) {
        Ok(loaded) => loaded,
        Err(error) => {
            // Help and version come here too; where even that cannot be printed, the code still tells.
            let _ = error.print();
            if let Some(tip) = tools::misplaced(&args) {
                eprintln!("{tip}");
            }
            return ExitCode::from(error.exit_code());
        }
    };
    let log = match logging::init(&loaded.config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("kival-server: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(loaded, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut loaded: Loaded, log: LogHandle) -> Result<(), Box<dyn std::error::Error>> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let files = limits::raise_open_files(loaded.config.maxclients)?;
    if let Some(warning) = &files.warning {
        tracing::warn!("{warning}");
    }
    loaded.config.maxclients = files.clients;
    // Threads that the runtime starts read from the disk and write large values: clients come first.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.on_thread_start(kival_engine::step_back).enable_all().build()?;
    runtime.block_on(async {
        let fs = file_system(&loaded.config);
        Server::start(loaded, fs, Some(log))?.run().await?;
        Ok(())
    })
}
