//! What must hold for any bytes. Each target is a plain function that panics where a promise is broken;
//! `fuzz_targets/` puts libFuzzer in front of it, `tests/corpus.rs` runs the corpus through it.
//!
//! | file | targets |
//! | --- | --- |
//! | `format.rs` | the decoders of `kival_engine::format`: what decodes encodes back to the same bytes |
//! | `namespaces.rs` | the namespaces map, through a store that holds it |
//! | `store.rs` | the files of a whole store, damaged, given to `Engine::open` |
//! | `resp.rs` | requests, whole and in pieces |
//! | `values.rs` | RDB payloads and files, HyperLogLogs |
//!
//! Memory is bounded for all of them: an allocation that passes [`MEMORY`] ends the program.

mod files;
mod format;
mod namespaces;
mod resp;
mod store;
mod values;

pub use format::{filter, group, hint, manifest, record, segment};
pub use namespaces::namespaces;
pub use resp::resp;
pub use store::store;
pub use values::{hll, payload, rdb_file};

use cap::Cap;
use std::alloc::System;

/// Bytes that the inputs of a target may make it allocate, all at once. They are a few KB long.
pub const MEMORY: usize = 128 << 20;

/// Refuses what goes over [`MEMORY`]: a size that is believed before it is checked is then seen, even
/// if the memory is never touched.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("record", record),
    ("group", group),
    ("segment", segment),
    ("hint", hint),
    ("filter", filter),
    ("manifest", manifest),
    ("namespaces", namespaces),
    ("resp", resp),
    ("store", store),
    ("payload", payload),
    ("rdb_file", rdb_file),
    ("hll", hll),
];
