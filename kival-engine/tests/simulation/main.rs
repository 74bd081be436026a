//! The engine on a simulated disk, with its background work in lockstep: whatever a power cut leaves and
//! whichever call fails, the store opens to a state that it was in, no older than what was promised.
//!
//! | file | holds |
//! | --- | --- |
//! | `disk.rs` | the disk: what was synced stays, the rest is drawn |
//! | `history.rs` | the states that a crash may leave |
//! | `workload.rs` | random work beside its model |
//! | `power.rs` | power cuts, by seeds |
//! | `calls.rs` | every call of a workload fails, in every way |
//!
//! `KIVAL_SIM_SEEDS` sets how many seeds are run, `KIVAL_SEED` runs one again.
#![allow(clippy::unwrap_used)]
#![allow(unreachable_pub)] // a program of its own: nothing leaves it

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod history;
mod power;
mod workload;
