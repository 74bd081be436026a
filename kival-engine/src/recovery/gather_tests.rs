//! Tests of gathering: records in any order, and how much memory that takes.

use super::*;
use crate::format::record::Header;

const NAMESPACE: u32 = 3;

/// A record by its number; its offset is a hundred times that.
fn record(key: &[u8], sequence: u64, kind: Kind, expiry: u64) -> HintEntry<'_> {
    let value_size = if matches!(kind, Kind::Value | Kind::Page) { 10 } else { 0 };
    let header = Header {
        key_size: key.len() as u32,
        value_size,
        namespace: NAMESPACE,
        sequence,
        expiry,
        kind,
        data_type: 0,
    };
    HintEntry { header, offset: sequence * 100, key }
}

fn gatherer(least_waiting: usize) -> Gatherer<'static> {
    let mut gatherer = Gatherer::new(&[], &[0], OnCorruption::Refuse);
    (gatherer.least_waiting, gatherer.most_waiting) = (least_waiting, least_waiting);
    gatherer
}

fn finish(gatherer: Gatherer<'_>) -> Space {
    let (mut databases, _) = gatherer.finish(4, Vec::new()).expect("there is no map to be read");
    databases.spaces.swap_remove(NAMESPACE as usize)
}

/// What is left of the records, whatever the order they come in and however often they are merged.
fn check(records: &[HintEntry<'_>], expected: Option<(u64, u64, Option<u64>)>) {
    let bytes = |sequence: u64| records.iter().find(|record| record.header.sequence == sequence);
    let live = expected.map_or(0, |(value, _, change)| {
        let of = |sequence| bytes(sequence).map_or(0, |record| record.header.record_size());
        of(value) + change.map_or(0, of)
    });
    for least_waiting in [0, 150, 1 << 20] {
        for order in orders(records.len()) {
            let mut gatherer = gatherer(least_waiting);
            let records = order.iter().map(|&n| records[n]);
            gatherer.add_all(0, records).expect("all kinds are known");
            let space = finish(gatherer);
            let found = space.keydir.get(b"key");
            let told = found.map(|entry| (entry.sequence, entry.expiry, entry.change.map(|c| c.sequence)));
            assert_eq!(told, expected, "in the order {order:?}, merged at {least_waiting}");
            assert_eq!(found.map(|entry| entry.place.offset()), expected.map(|(value, ..)| value * 100));
            assert_eq!(space.live_bytes(), live, "in the order {order:?}, merged at {least_waiting}");
        }
    }
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        let with = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, next);
                longer
            })
        };
        orders = orders.into_iter().flat_map(with).collect();
    }
    orders
}

#[test]
fn the_order_of_records_makes_no_difference() {
    let value = |sequence, expiry| record(b"key", sequence, Kind::Value, expiry);
    let gone = |sequence| record(b"key", sequence, Kind::Tombstone, 0);
    let expiry = |sequence, expiry| record(b"key", sequence, Kind::Expiry, expiry);
    check(&[value(1, 0), value(2, 0), value(3, 7)], Some((3, 7, None)));
    check(&[value(1, 0), gone(2)], None);
    check(&[value(1, 0), gone(2), value(3, 0), gone(4)], None);
    check(&[value(1, 0), gone(2), value(3, 5), expiry(4, 9)], Some((3, 9, Some(4))));
    check(&[value(1, 0), expiry(2, 5), value(3, 0)], Some((3, 0, None)));
    check(&[value(1, 0), expiry(2, 5), expiry(3, 0), expiry(4, 6)], Some((1, 6, Some(4))));
    check(&[value(1, 0), expiry(2, 5), gone(3), value(4, 0), expiry(5, 8)], Some((4, 8, Some(5))));
    check(&[value(1, 0), value(2, 0), expiry(3, 5), expiry(4, 6), value(5, 1)], Some((5, 1, None)));
    check(&[expiry(3, 5), gone(2)], None);
}

#[test]
fn pages_count_over_the_value_that_they_came_after() {
    let value = |sequence| record(b"key", sequence, Kind::Value, 0);
    let gone = |sequence| record(b"key", sequence, Kind::Tombstone, 0);
    let page = |sequence, number: u64| record(b"key", sequence, Kind::Page, number * 4096);
    let change = |sequence| record(b"key", sequence, Kind::Expiry, 7);
    let check = |records: &[HintEntry<'_>], expected: Option<&[(u32, u64)]>, size| {
        for order in orders(records.len()) {
            let mut gatherer = gatherer(0);
            gatherer.add_all(0, order.iter().map(|&n| records[n])).expect("all kinds are known");
            let space = finish(gatherer);
            let entry = space.keydir.get(b"key");
            let pages = entry.and_then(|entry| space.pages_of(&entry));
            let found: Option<Vec<_>> =
                pages.map(|pages| pages.iter().map(|(n, page)| (n, page.sequence)).collect());
            assert_eq!(found.as_deref(), expected, "in the order {order:?}");
            assert_eq!(entry.map_or(0, |entry| entry.value_size), size, "in the order {order:?}");
        }
    };
    check(&[value(1), page(2, 0), page(3, 5)], Some(&[(0, 2), (5, 3)]), 5 * 4096 + 2);
    check(&[value(1), page(2, 1), page(3, 1), change(4)], Some(&[(1, 3)]), 4096 + 2);
    check(&[value(1), page(2, 1), value(3)], None, 10);
    check(&[value(1), page(2, 1), value(3), page(4, 0)], Some(&[(0, 4)]), 10);
    check(&[value(1), page(2, 1), gone(3)], None, 0);
    check(&[value(1), gone(2), page(3, 1)], None, 0);
}

#[test]
fn a_record_that_comes_twice_counts_once() {
    let value = record(b"key", 5, Kind::Value, 0);
    let expiry = record(b"key", 6, Kind::Expiry, 9);
    let records = [value, value, expiry, expiry, record(b"key", 1, Kind::Value, 0)];
    check(&records, Some((5, 9, Some(6))));
}

#[test]
fn what_waits_takes_half_as_much_as_what_is_there() {
    let mut gatherer = gatherer(1 << 20);
    let keys: Vec<[u8; 16]> = (0..200_000_u128).map(u128::to_le_bytes).collect();
    let (mut most, mut sequence) = (0, 0);
    // Three records of each key, block by block.
    for block in keys.chunks(1_000).cycle().take(3 * keys.len() / 1_000) {
        let entries = block.iter().map(|key| {
            sequence += 1;
            record(key, sequence, Kind::Value, 0)
        });
        gatherer.add_all(0, entries).expect("all kinds are known");
        let held: usize = gatherer.spaces.values().map(|loading| loading.bulk.memory()).sum();
        most = most.max(held);
    }
    let space = finish(gatherer);
    assert_eq!(space.keydir.len(), keys.len());
    let memory = space.keydir.memory();
    assert!(most < memory * 3 / 2 + (1 << 20), "{most} at times, {memory} in the end");
}
