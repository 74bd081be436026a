//! The nearest name to one that does not exist, for "did you mean".

/// Most edits a name may be away and still be offered.
const MAX_EDITS: usize = 2;

/// The candidate with the fewest edits from `name` (the first such); none if all are too far, or would be
/// reached by replacing most of a short name.
pub(super) fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = MAX_EDITS.min(name.chars().count() / 2);
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let replaced = last[j] + usize::from(from[i] != to[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        let names = ["port", "timeout", "databases", "requirepass", "hz"];
        assert_eq!(nearest(name, names.into_iter()), expected, "{name:?}");
    }

    #[test]
    fn slips_find_their_setting_and_strangers_find_none() {
        check("prot", Some("port"));
        check("timout", Some("timeout"));
        check("database", Some("databases"));
        check("requirepas", Some("requirepass"));
        check("require-pass", Some("requirepass"));
        check("hzz", Some("hz"));
        check("maxmemory", None);
        check("x", None);
        check("", None);
    }
}
