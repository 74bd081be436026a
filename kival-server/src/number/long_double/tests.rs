//! What redis-server 7.0.15 on x86-64 answered to `SET k old`, `INCRBYFLOAT k increment`.

use super::*;

#[track_caller]
fn check(old: &str, increment: &str, expected: &str) {
    let text = match incr_by_float(old.as_bytes(), increment.as_bytes()) {
        Ok(text) => String::from_utf8(text).unwrap(),
        Err(FloatError::NotAFloat) => "NOT A FLOAT".to_owned(),
        Err(FloatError::NotFinite) => "NOT FINITE".to_owned(),
    };
    assert_eq!(text, expected, "{old:?} + {increment:?}");
}

#[test]
fn a_sum_is_rounded_once_and_printed_with_seventeen_decimals() {
    check("0", "0", "0");
    check("0", "-0", "0");
    check("-0", "-0", "0");
    check("1", "1", "2");
    check("10.5", "0.1", "10.6");
    check("5.0e3", "200", "5200");
    check("3", "1.000000000000000005", "4.00000000000000001");
    check("0.1", "0.2", "0.3");
    check("1.1", "2.2", "3.3");
    check("3.0e3", "0", "3000");
    check("-1", "1", "0");
    check("1", "-1", "0");
    check("0.00000000000000001", "0", "0.00000000000000001");
    check("0.000000000000000005", "0", "0");
    check("0.000000000000000015", "0", "0.00000000000000002");
    check("0.0000000000000000049", "0", "0");
    check("-0.000000000000000001", "0", "0");
    check("1e-18", "1e-17", "0.00000000000000001");
    check("100", "1e-17", "100.00000000000000001");
    check("1e17", "0.5", "100000000000000000.5");
    check("1e18", "0.25", "1000000000000000000.25");
    check("9223372036854775807", "1", "9223372036854775808");
    check("-9223372036854775808", "-1", "-9223372036854775809");
    check("18446744073709551615", "1", "18446744073709551616");
    check("18446744073709551617", "0", "18446744073709551616");
    check("18446744073709551618", "0", "18446744073709551618");
    check("18446744073709551619", "0", "18446744073709551620");
    check("36893488147419103233", "1", "36893488147419103232");
    check("1e19", "1e-1", "10000000000000000000");
    check("1e20", "1", "100000000000000000000");
    check("1e21", "1", "1000000000000000000000");
    check("123456789.123456789", "0.000000001", "123456789.12345678999554366");
    check("3.14159265358979323846", "0", "3.14159265358979324");
    check("2.718281828459045235", "-0.718281828459045235", "2");
    check("1e-100", "0", "0");
    check("1e300", "-1e300", "0");
    check("+5", "+6", "11");
    check(".5", "5.", "5.5");
    check("00012", "0.50", "12.5");
    check("1e-4950", "0", "0");
    check("0e99999", "1", "1");
}

#[test]
fn ties_go_to_even_and_the_least_remainder_breaks_them() {
    check("0.000003814697265625", "0", "0.00000381469726562");
    check("0.000011444091796875", "0", "0.00001144409179688");
    check("18446744073709551617", "0", "18446744073709551616");
    check("18446744073709551617.00000000000000000000000000000000000001", "0", "18446744073709551618");
    check("18446744073709551616.9999999999999999999999999999", "0", "18446744073709551616");
}

#[test]
fn hexadecimal_operands_are_operands() {
    check("0x10", "0x.8", "16.5");
    check("-0x1p-3", "1", "0.875");
    check("0X1.8P+1", "0", "3");
    check("0x1ffffffffffffffff", "0", "36893488147419103232");
    check("0x1p63", "0x1p-1", "9223372036854775808");
    check("0x1p64", "1", "18446744073709551616");
    check("0x1.fffffffffffffffep63", "1", "18446744073709551616");
    check("0x1p-16445", "0", "0");
}

#[test]
fn a_sum_beyond_the_format_is_refused() {
    check("1e4932", "1e4932", "NOT FINITE");
    check("0x1.fffffffffffffffep16383", "0x1p16319", "NOT FINITE");
    check("-1e4932", "-1e4932", "NOT FINITE");
    check("inf", "1", "NOT FINITE");
    check("-inf", "inf", "NOT FINITE");
    check("INFINITY", "-1", "NOT FINITE");
}

#[test]
fn what_strtold_does_not_read_whole_is_no_float() {
    check("1e4933", "0", "NOT A FLOAT");
    check("1e-4951", "0", "NOT A FLOAT");
    check("1e-5000", "0", "NOT A FLOAT");
    check("0x1p-16446", "0", "NOT A FLOAT");
    check("1e99999999999999999999", "0", "NOT A FLOAT");
    check("nan", "1", "NOT A FLOAT");
    check("nan(1)", "1", "NOT A FLOAT");
    check("1e", "1", "NOT A FLOAT");
    check("1e+", "1", "NOT A FLOAT");
    check(".", "1", "NOT A FLOAT");
    check("-", "1", "NOT A FLOAT");
    check("0x", "1", "NOT A FLOAT");
    check("0x1p", "1", "NOT A FLOAT");
    check("infin", "1", "NOT A FLOAT");
    check("1,5", "1", "NOT A FLOAT");
    check("1_0", "1", "NOT A FLOAT");
    check("1", "--1", "NOT A FLOAT");
    check("1", "1f", "NOT A FLOAT");
}

#[test]
fn the_largest_value_prints_all_its_digits() {
    let text = incr_by_float(b"0x1.fffffffffffffffep16383", b"0").unwrap();
    assert_eq!(text.len(), 4933);
    assert!(text.starts_with(b"118973149535723176502"));
    assert!(text.ends_with(b"419552086811989770240"));
}

#[test]
fn a_text_is_as_long_as_the_buffer_of_redis_less_its_nul() {
    let zeros = "0".repeat(5118);
    check(&format!("{zeros}1"), "0", "1");
    check(&format!("{zeros}01"), "0", "NOT A FLOAT");
    check("", "0", "NOT A FLOAT");
    check("1\0", "0", "NOT A FLOAT");
    check(" 1", "0", "NOT A FLOAT");
    check("1 ", "0", "NOT A FLOAT");
}
