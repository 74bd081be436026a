//! The log's files: segments, hints and the manifest on disk, and the threads that tend them.

pub(crate) mod backup;
pub(crate) mod hint_file;
pub(crate) mod keeper;
pub(crate) mod luck;
pub(crate) mod manifest_file;
pub(crate) mod reserve;
pub(crate) mod scan;
pub(crate) mod scrub;
pub(crate) mod segments;
pub(crate) mod sync;
pub(crate) mod walk;

use crate::clock::Clock;
use crate::fs::FileSystem;
use manifest_file::ManifestFile;
use std::path::PathBuf;
use std::sync::Arc;

/// What every part that touches the store's files needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: Arc<PathBuf>,
    pub(crate) store: u64,
    pub(crate) manifest: Arc<ManifestFile>,
    pub(crate) clock: Arc<dyn Clock>,
}
