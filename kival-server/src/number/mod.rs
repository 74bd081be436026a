//! Numbers as Redis reads and prints them: which texts are numbers, and the exact bytes of the answer.
//!
//! Three files, one family of numbers each: `integer` for `INCR` and every length on the wire,
//! `float` for the grammar of C's `strtod` and 64-bit floats, `long_double` for the 80-bit arithmetic of
//! `INCRBYFLOAT`. Nothing here knows about keys, commands or replies.

mod float;
mod integer;
mod long_double;

pub use float::{format_f64, parse_f64};
pub(crate) use integer::write_at_end;
pub use integer::{Digits, format_i64, format_u64, parse_i64, parse_u64};
pub use long_double::{FloatError, LongDouble, incr_by_float};
