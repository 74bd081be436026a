//! Glob patterns with the verdicts of Redis's `stringmatchlen`, malformed patterns included.
//!
//! `*` any bytes, `?` one byte, `[a-z]` a class, `[^a-z]` its complement, `\x` the byte `x`. Patterns and
//! texts are bytes, not characters. The matcher is a loop with one resumption point, the last `*`: a later
//! `*` can always take over from an earlier one, so the work is at most pattern times text, and no pattern
//! can exhaust the stack.

/// How many `*` with something behind them Redis follows before it calls the pattern a mismatch
/// (its guard against deep recursion; kept because it decides verdicts).
const MAX_STARS: usize = 1000;

/// Whether letters of either case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` is not `A`.
    Sensitive,
    /// ASCII letters match in either case.
    Ignored,
}

impl Case {
    #[inline]
    fn fold(self, byte: u8) -> u8 {
        match self {
            Case::Sensitive => byte,
            Case::Ignored => byte.to_ascii_lowercase(),
        }
    }
}

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    // As in Redis, an empty text meets no pattern element, not even `*`.
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // What follows the last star, and the text that star has not swallowed.
    let mut resume: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        let Some((&byte, text_rest)) = text.split_first() else {
            // Giving the star more of the text leaves less for the rest: this verdict is final.
            return pattern.iter().all(|&element| element == b'*');
        };
        if pattern.first() == Some(&b'*') {
            pattern = skip_stars(pattern);
            if pattern.is_empty() {
                return true;
            }
            stars += 1;
            if stars > MAX_STARS {
                return false;
            }
            resume = Some((pattern, text));
            continue;
        }
        match element(pattern, byte, case) {
            Some(rest) => (pattern, text) = (rest, text_rest),
            None => {
                let Some((after_star, [_, unswallowed @ ..])) = resume else { return false };
                if unswallowed.is_empty() {
                    return false;
                }
                resume = Some((after_star, unswallowed));
                (pattern, text) = (after_star, unswallowed);
            }
        }
    }
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|&&element| element == b'*').count();
    &pattern[stars..]
}

/// Matches one byte against the first element of the pattern, which is no star; gives the pattern's rest.
#[inline]
fn element(pattern: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', class @ ..] => {
            let (member, rest) = in_class(class, byte, case);
            (!member).then_some(rest)
        }
        [b'[', class @ ..] => {
            let (member, rest) = in_class(class, byte, case);
            member.then_some(rest)
        }
        // A backslash at the very end stands for itself.
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            (case.fold(*literal) == case.fold(byte)).then_some(rest)
        }
        [] => None,
    }
}

/// Whether `byte` is in the class, and the pattern behind its bracket; a class that is never closed ends
/// with the pattern.
fn in_class(mut class: &[u8], byte: u8, case: Case) -> (bool, &[u8]) {
    let mut member = false;
    loop {
        class = match class {
            [] => return (member, class),
            // Only the escape ignores `case`, in Redis as here.
            [b'\\', literal, rest @ ..] => {
                member |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (member, rest),
            // The end of a range may be any byte, `]` and `\` too.
            [low, b'-', high, rest @ ..] => {
                member |= in_range(*low, *high, byte, case);
                rest
            }
            [literal, rest @ ..] => {
                member |= case.fold(*literal) == case.fold(byte);
                rest
            }
        };
    }
}

/// Ranges compare C's `char`, which is signed on x86-64; ends in the wrong order are swapped, before case
/// is folded.
fn in_range(low: u8, high: u8, byte: u8, case: Case) -> bool {
    let (low, high) = if low.cast_signed() > high.cast_signed() { (high, low) } else { (low, high) };
    let [low, high, byte] = [low, high, byte].map(|end| case.fold(end).cast_signed());
    (low..=high).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        let verdict = matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive);
        assert_eq!(verdict, expected, "{pattern:?} on {text:?}");
    }

    #[test]
    fn the_documented_patterns_match() {
        check("h?llo", "hallo", true);
        check("h?llo", "hllo", false);
        check("h*llo", "heeeello", true);
        check("h*llo", "hllo", true);
        check("h[ae]llo", "hallo", true);
        check("h[ae]llo", "hillo", false);
        check("h[^e]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-b]llo", "hbllo", true);
        check("h[b-a]llo", "hallo", true);
        check("h\\*llo", "h*llo", true);
        check("h\\*llo", "hxllo", false);
        check("a*b*c", "axxbxxbxxc", true);
        check("a**", "a", true);
        check("*a", "ba", true);
        check("*a", "ab", false);
    }

    #[test]
    fn an_empty_text_matches_only_the_empty_pattern() {
        check("", "", true);
        check("*", "", false);
        check("", "a", false);
    }

    #[test]
    fn malformed_patterns_have_the_verdicts_of_redis() {
        check("[", "[", false);
        check("[^", "x", true);
        check("[abc", "b", true);
        check("[abc", "d", false);
        check("[a-", "-", true);
        check("[a-]", "^", true);
        check("[a-]", "-", false);
        check("[]a", "a", false);
        check("[\\]a]", "]", true);
        check("[\\", "\\", true);
        check("\\", "\\", true);
        check("a\\", "a\\", true);
    }

    #[test]
    fn case_is_ignored_on_request_but_not_behind_an_escape_in_a_class() {
        assert!(matches(b"aBc[x-z]", b"AbCY", Case::Ignored));
        assert!(matches(b"\\a", b"A", Case::Ignored));
        assert!(!matches(b"[\\a]", b"A", Case::Ignored));
        assert!(!matches(b"a", b"A", Case::Sensitive));
    }

    #[test]
    fn a_class_range_compares_signed_bytes() {
        assert!(matches(b"[\x80-\x01]", b"\xff", Case::Sensitive));
        assert!(!matches(b"[a-\xff]", b"z", Case::Sensitive));
    }

    #[test]
    fn a_thousand_stars_are_followed_and_no_more() {
        let text = b"a".repeat(1002);
        let pattern = |stars: usize| [b"a*".repeat(stars), b"a".to_vec()].concat();
        assert!(matches(&pattern(1000), &text, Case::Sensitive));
        assert!(!matches(&pattern(1001), &text, Case::Sensitive));
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let text = b"a".repeat(20_000);
        let pattern = [b"*a".repeat(500), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, Case::Sensitive));
    }

    /// The semantics as one would say them: every way to split the text at each star is tried.
    fn reference(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                rest.iter().all(|&element| element == b'*')
                    || (0..text.len()).any(|swallowed| reference(rest, &text[swallowed..], case))
            }
            (_, []) | ([], _) => false,
            ([b'?', rest @ ..], [_, text @ ..]) => reference(rest, text, case),
            ([b'[', ..], [byte, text @ ..]) => {
                let (member, rest) = reference_class(&pattern[1..], *byte, case);
                member && reference(rest, text, case)
            }
            (_, [byte, text @ ..]) => {
                let escaped = pattern[0] == b'\\' && pattern.len() > 1;
                let literal = pattern[usize::from(escaped)];
                let same = literal == *byte || (case == Case::Ignored && literal.eq_ignore_ascii_case(byte));
                same && reference(&pattern[1 + usize::from(escaped)..], text, case)
            }
        }
    }

    /// A class read by index, with the members collected before the byte is looked up.
    fn reference_class(pattern: &[u8], byte: u8, case: Case) -> (bool, &[u8]) {
        let negated = pattern.first() == Some(&b'^');
        let mut at = usize::from(negated);
        let mut members = Vec::new();
        while at < pattern.len() && pattern[at] != b']' {
            if pattern[at] == b'\\' && at + 1 < pattern.len() {
                members.push((pattern[at + 1], pattern[at + 1], Case::Sensitive));
                at += 2;
            } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
                members.push((pattern[at], pattern[at + 2], case));
                at += 3;
            } else {
                members.push((pattern[at], pattern[at], case));
                at += 1;
            }
        }
        let lower = |byte: u8, case| match case {
            Case::Ignored => i32::from(byte.to_ascii_lowercase() as i8),
            Case::Sensitive => i32::from(byte as i8),
        };
        let member = members.iter().any(|&(from, to, case)| {
            let (from, to) = if (from as i8) > (to as i8) { (to, from) } else { (from, to) };
            lower(from, case) <= lower(byte, case) && lower(byte, case) <= lower(to, case)
        });
        (member != negated, &pattern[(at + 1).min(pattern.len())..])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_loop_agrees_with_the_definition(
            pattern in proptest::collection::vec(prop::sample::select(&b"abB*?[]^-\\\xc3"[..]), 0..10),
            text in proptest::collection::vec(prop::sample::select(&b"abB]-^\\\xc3"[..]), 1..8),
            ignore: bool,
        ) {
            let case = if ignore { Case::Ignored } else { Case::Sensitive };
            prop_assert_eq!(matches(&pattern, &text, case), reference(&pattern, &text, case));
        }
    }
}
