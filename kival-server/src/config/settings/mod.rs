//! The table of settings: one row for each, and nowhere else a word about it.
//!
//! To add a setting: a field of [`Config`](super::Config), and a row in the file of its heading. Where Redis
//! has the setting, the name, the range, the default and the order of words are its own; what differs says
//! so in its help.

mod facts;
mod limits;
mod network;
mod reports;
mod store;
mod upkeep;

use super::row::Setting;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Redis's bound on plain numbers.
const INT_MAX: i64 = i32::MAX as i64;
/// Redis's bound on sizes.
const SIZE_MAX: u64 = i64::MAX as u64;
/// The longest value that a record of the log can hold: see `record_format.md`.
const VALUE_MAX: u64 = 512 * MIB;

/// The rows of each file, in the order in which headings are shown.
static GROUPS: [&[Setting]; 6] = [
    network::SETTINGS,
    store::SETTINGS,
    upkeep::SETTINGS,
    limits::SETTINGS,
    reports::SETTINGS,
    facts::SETTINGS,
];

/// Every setting, grouped by heading.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.into_iter().flatten()
}

/// A number that its row has found in range, in the type of its field.
fn fit<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().expect("a test sets every row to both ends of its range")
}
