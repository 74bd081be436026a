//! The corpus of each target, and whatever broke a target here before, through the plain functions.

use kival_fuzz::TARGETS;
use std::path::{Path, PathBuf};

fn inputs(of: &str) -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dirs = ["corpus", "artifacts"].map(|dir| home.join(dir).join(of));
    let files = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
    files.map(|file| file.expect("it can be listed").path()).collect()
}

#[test]
fn every_target_has_a_corpus_and_holds_for_all_of_it() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has a corpus");
        for input in inputs {
            // An input that breaks a promise is named: its panic alone would not say.
            let data = std::fs::read(&input).expect("it can be read");
            if let Err(panic) = std::panic::catch_unwind(|| target(&data)) {
                eprintln!("{name}: {}", input.display());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn the_corpus_has_no_target_that_is_gone() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for dir in std::fs::read_dir(corpus).expect("it is there") {
        let name = dir.expect("it can be listed").file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{}", name.display());
    }
}
