//! Tests of the table with chosen hashes, most of all those that a good hash never gives.

use super::*;

fn found(table: &Table, hash: u32, handle: Handle) -> Option<Position> {
    table.find(hash, |other| other == handle).map(|(position, _)| position)
}

/// Inserts, checks, scans and removes one entry a hash.
fn check(hashes: &[u32]) {
    let mut table = Table::default();
    let handle = |n: usize| Handle(n as u64 + 1);
    for (n, hash) in hashes.iter().enumerate() {
        table.insert(*hash, handle(n));
    }
    table.check(|handle| hashes[handle.0 as usize - 1]);
    assert!(table.directory.len() <= table.buckets.len() * PLACES_A_BUCKET * 2);
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        cursor = table.scan(cursor, 10, &mut |handle| seen.push(handle));
        if cursor == 0 {
            break;
        }
    }
    assert!(seen.is_sorted_by_key(|handle| hashes[handle.0 as usize - 1]), "a scan is in hash order");
    seen.sort();
    assert!(seen.into_iter().eq((0..hashes.len()).map(handle)), "a scan visits each entry once");
    for (n, hash) in hashes.iter().enumerate() {
        let position = found(&table, *hash, handle(n)).unwrap();
        table.remove(*hash, position);
        assert_eq!(found(&table, *hash, handle(n)), None);
    }
    table.check(|_| 0);
    assert_eq!(table.len(), 0);
}

const TOP: u32 = (1 << HASH_BITS) - 1;

#[test]
fn any_distribution_of_hashes_is_kept() {
    check(&[]);
    check(&[0]);
    check(&[TOP]);
    check(&(0..20_000).map(|n: u32| n.wrapping_mul(0x9e37_79b1) >> 2).collect::<Vec<_>>());
    check(&(0..5_000).collect::<Vec<_>>());
    check(&(0..5_000).map(|n| TOP - n).collect::<Vec<_>>());
    check(&[0; 3_000]);
    check(&[TOP; 3_000]);
    check(&(0..3_000).map(|n| if n % 2 == 0 { 0 } else { TOP }).collect::<Vec<_>>());
}

#[test]
fn a_call_of_a_scan_is_bounded_when_there_is_nothing_to_visit() {
    let mut table = Table::default();
    for n in 0..100_000_u32 {
        table.insert(n.wrapping_mul(0x9e37_79b1) >> 2, Handle(u64::from(n) + 1));
    }
    // The buckets stay large: nothing but the slots is emptied.
    for bucket in &mut table.buckets {
        while let Some(position) = (0..bucket.size()).find(|position| bucket.at(*position).is_some()) {
            bucket.remove(position);
        }
    }
    let (mut calls, mut cursor) = (0, 0);
    loop {
        cursor = table.scan(cursor, 1, &mut |_| panic!("there is nothing to visit"));
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(calls >= table.slots / (SCAN_SLACK + 2 * FULL_SLOTS), "{calls} calls");
}

#[test]
fn any_cursor_is_taken() {
    let mut table = Table::default();
    assert_eq!(table.scan(0, 10, &mut |_| ()), 0);
    table.insert(5, Handle(1));
    for cursor in [6, u64::from(TOP), 1 << HASH_BITS, u64::MAX] {
        assert_eq!(table.scan(cursor, usize::MAX, &mut |_| panic!("nothing is there")), 0);
    }
    let mut seen = 0;
    assert_eq!(table.scan(5, 0, &mut |_| seen += 1), 0);
    assert_eq!(seen, 1);
}

#[test]
fn buckets_join_again_when_their_entries_are_gone() {
    let mut table = Table::default();
    let hash = |n: u32| n.wrapping_mul(0x9e37_79b1) >> 2;
    for n in 0..200_000 {
        table.insert(hash(n), Handle(u64::from(n) + 1));
    }
    let (before, buckets) = (table.memory(), table.buckets.len());
    for n in 2_000..200_000 {
        let position = found(&table, hash(n), Handle(u64::from(n) + 1)).unwrap();
        table.remove(hash(n), position);
    }
    table.check(|handle| hash(handle.0 as u32 - 1));
    assert!(table.memory() * 10 < before, "{} of {before}", table.memory());
    assert!((buckets - table.unused_buckets.len()) * 8 < buckets);
}
