//! The tools for a store that no server has open: check names exactly what is damaged, repair keeps what is
//! sound and falsifies nothing, restore gives back any earlier state that compaction has left.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod inspect;
mod refusals;
mod repair;
mod restore;
mod shared;
