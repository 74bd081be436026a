//! What an inspection shows.

use crate::common::{DIR, flip, groups, segment_path};
use crate::shared::{checked, closed, ids};
use kival_engine::format::record::Kind;
use kival_engine::fs::MemoryFs;
use kival_engine::offline::{Item, inspect_dir};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

#[test]
fn inspect_shows_every_structure_and_goes_on_behind_damage() {
    let (_, fs, _) = closed();
    let (id, total) = (ids(&fs)[0], checked(&fs).records);
    let shown = |fs: &MemoryFs| {
        let (mut records, mut entries, mut damaged, mut kinds) = (0, 0, Vec::new(), BTreeSet::new());
        inspect_dir(Arc::new(fs.clone()), Path::new(DIR), &mut |file, item| {
            match item {
                Item::Record { header, .. } => {
                    records += 1;
                    kinds.insert(header.kind as u8);
                }
                Item::HintEntry { .. } => entries += 1,
                Item::Damage { offset, .. } => damaged.push((file.to_owned(), offset)),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        (records, entries, damaged, kinds)
    };
    let kinds = [Kind::Value, Kind::Tombstone, Kind::Expiry, Kind::Namespaces].map(|kind| kind as u8);
    assert_eq!(shown(&fs), (total, total, vec![], BTreeSet::from(kinds)));
    let (first, records) = groups(&fs, id).remove(0);
    flip(&fs, &segment_path(id), first.at.offset + 100);
    let (seen, entries, damaged, _) = shown(&fs);
    assert_eq!((seen, entries), (total - records.len() as u64, total));
    assert_eq!(damaged, [(segment_path(id), first.at.offset)]);
}
