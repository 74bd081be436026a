//! Values at which commands tend to go wrong. What may not be among them is said in `generate`.

/// The size of a big value, in bytes.
pub(super) const BIG: usize = 100_000;

/// The databases that commands run in. `SELECT` and friends are also given others, and invalid ones.
pub(super) const DBS: [&str; 5] = ["0", "1", "2", "3", "15"];
/// No database has such a number.
pub(super) const BAD_DBS: [&str; 8] =
    ["16", "-1", "abc", "", "99999999999999999999", "1.0", " 1", "2147483648"];

/// Integers for commands that take any.
pub(super) const INTS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "10",
    "-10",
    "100000",
    "9223372036854775807",
    "9223372036854775806",
    "9223372036854775808",
    "-9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "99999999999999999999",
    "+5",
    "05",
    "-0",
    " 5",
    "5 ",
    "",
    "1.0",
    "0x10",
    "5\0",
];

/// Floats of all kinds, and what only looks like one.
pub(super) const FLOATS: [&str; 56] = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "-0.1",
    "1.5",
    "10.50",
    "3.0e3",
    "3e-3",
    "5.",
    ".5",
    ".",
    "",
    "1e",
    "1e+2",
    "+1",
    " 1",
    "1 ",
    "1\0",
    "--1",
    "1,5",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "+infinity",
    "Infinity",
    "1e400",
    "-1e400",
    "1e4000",
    "1e4932",
    "-1e4932",
    "1e5000",
    "0x10",
    "0x1p-3",
    "0X1.8P1",
    "1e-320",
    "4.9e-324",
    "1e-4950",
    "1e-5000",
    "1.7976931348623157e308",
    "123456789012345678901234567890",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "0.30000000000000000001",
    "0.00000000000000001",
    "0.000000000000000001",
    "99999999999999999.5",
    "1e17",
    "1e20",
    "3.14159265358979323846264338327950288",
];

/// What an expiry may be besides a good one. Relative and absolute alike: none comes due soon.
pub(super) const BAD_EXPIRIES: [&str; 16] = [
    "0",
    "-1",
    "-100",
    "-9223372036854775808",
    "-9223372036854775807",
    "-9223372036854775809",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854776",
    "-9223372036854776",
    "-9223372036854775",
    "abc",
    "",
    " 100000",
    "+100000",
    "100000.5",
];

/// Names that neither server has as a command.
pub(super) const UNKNOWN: [&[u8]; 10] =
    [b"NOSUCH", b"foo", b"GETT", b"se", b"", b"\0", b"SET\0", b"fo\r\no", b"\xff\xfe", b"get "];

/// Arguments that make a command wrong without meaning anything dangerous anywhere.
pub(super) const JUNK: [&[u8]; 20] = [
    b"",
    b"junk",
    b"nx",
    b"XX",
    b"GT",
    b"lt",
    b"GET",
    b"KeepTTL",
    b"persist",
    b"REPLACE",
    b"MATCH",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"\r\n",
    b"\0",
    b"\xff",
    b"*",
    b"'\"",
    b"a'b \"c\" \\",
];
