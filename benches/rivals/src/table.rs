//! Medians of the rounds, and the table made of them.

use crate::load::{MEASURES, Rates, is_synced};
use crate::stores::STORES;
use serde_json::{Value, json};

/// For each store the median of its rounds.
pub fn medians<'a>(runs: &[(&'a str, Vec<Rates>)]) -> Vec<(&'a str, Rates)> {
    let median = |rounds: &Vec<Rates>, measure: usize| {
        let mut rates: Vec<f64> = rounds.iter().map(|round| round[measure]).collect();
        rates.sort_by(f64::total_cmp);
        (rates[(rates.len() - 1) / 2] + rates[rates.len() / 2]) / 2.0
    };
    runs.iter()
        .map(|(name, rounds)| (*name, std::array::from_fn(|measure| median(rounds, measure))))
        .collect()
}

/// Whether a store's figure counts: at syncs only one that makes them.
fn counts(name: &str, measure: usize) -> bool {
    !is_synced(measure) || !STORES.iter().any(|store| store.name == name && !store.syncs)
}

/// The fastest rival in a measure; none if only kival ran.
fn best<'a>(medians: &[(&'a str, Rates)], measure: usize) -> Option<(&'a str, f64)> {
    let rivals = medians.iter().filter(|(name, _)| *name != "kival" && counts(name, measure));
    rivals.map(|(name, rates)| (*name, rates[measure])).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The ratio of kival's rate to the best rival's.
fn ratio(medians: &[(&str, Rates)], measure: usize) -> Option<f64> {
    let (_, kival) = medians.iter().find(|(name, _)| *name == "kival")?;
    Some(kival[measure] / best(medians, measure)?.1)
}

/// A row for each measure, a column for each store. What does not count stands in brackets.
pub fn markdown(medians: &[(&str, Rates)]) -> String {
    let names: Vec<&str> = medians.iter().map(|(name, _)| *name).collect();
    let mut text = format!("| thousands a second | {} | kival / best rival |\n", names.join(" | "));
    text += &format!("| --- |{} --- |\n", " --- |".repeat(names.len()));
    for (measure, title) in MEASURES.iter().enumerate() {
        let shown = |(name, rates): &(&str, Rates)| {
            let rate = thousands(rates[measure]);
            if counts(name, measure) { rate } else { format!("({rate})") }
        };
        let rates: Vec<String> = medians.iter().map(shown).collect();
        let ratio = ratio(medians, measure).map_or("-".into(), |ratio| format!("{ratio:.2}"));
        text += &format!("| {title} | {} | {ratio} |\n", rates.join(" | "));
    }
    text
}

fn thousands(rate: f64) -> String {
    if rate < 10_000.0 { format!("{:.2}", rate / 1000.0) } else { format!("{:.0}", rate / 1000.0) }
}

/// The same for programs: for each measure the rates in operations a second, the best rival and the ratio.
pub fn json(medians: &[(&str, Rates)]) -> String {
    let rows = MEASURES.iter().enumerate().map(|(measure, title)| {
        let rates: serde_json::Map<String, Value> =
            medians.iter().map(|(name, rates)| ((*name).to_owned(), json!(rates[measure]))).collect();
        json!({
            "what": title,
            "rates": rates,
            "best rival": best(medians, measure).map(|(name, _)| name),
            "ratio": ratio(medians, measure),
        })
    });
    format!("{:#}", Value::Array(rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_each_measure_and_the_ratio_to_the_best_rival() {
        let rounds = |rates: &[f64]| rates.iter().map(|rate| [*rate; MEASURES.len()]).collect();
        let runs =
            [("kival", rounds(&[9.0, 1.0, 6.0])), ("slow", rounds(&[1.0])), ("fast", rounds(&[2.0, 4.0]))];
        let medians = medians(&runs);
        assert_eq!(medians.iter().map(|(_, rates)| rates[0]).collect::<Vec<_>>(), [6.0, 1.0, 3.0]);
        assert_eq!(ratio(&medians, 0), Some(2.0));
        assert_eq!(best(&medians, 0), Some(("fast", 3.0)));
    }

    #[test]
    fn a_store_that_only_says_that_it_syncs_is_not_the_best_at_it() {
        let medians = [("fjall", [1.0; MEASURES.len()]), ("sled", [2.0; MEASURES.len()])];
        for (measure, title) in MEASURES.iter().enumerate() {
            let expected = if title.ends_with("a sync each") { ("fjall", 1.0) } else { ("sled", 2.0) };
            assert_eq!(best(&medians, measure), Some(expected), "{title}");
        }
    }
}
