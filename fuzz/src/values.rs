//! Values and files in Redis's forms, from anybody: RDB payloads and files, HyperLogLogs.

use bytes::Bytes;
use kival_server::hll::{HyperLogLog, Registers};
use kival_server::rdb::{self, file::RdbFile};

/// Longest string that is taken: far more than the inputs can hold, unless they are compressed.
const MOST: u64 = 1 << 20;
/// As `hll-sparse-max-bytes` is by default.
const SPARSE_MOST: u64 = 3000;

/// A payload of DUMP, its end made right: what RESTORE takes DUMP makes again, for RESTORE to take.
pub fn payload(data: &[u8]) {
    let _ = rdb::restore(data, MOST);
    let body = rdb::seal(data.to_vec());
    if let Ok(value) = rdb::restore(&body, MOST) {
        assert!(value.len() as u64 <= MOST, "a string over its limit");
        assert_eq!(rdb::restore(&rdb::dump(&value), MOST), Ok(value));
    }
}

/// A file, behind a sound head: it ends or is refused, and no key or string is over its limit.
pub fn rdb_file(data: &[u8]) {
    let whole = [b"REDIS0012", data].concat();
    let Ok(mut file) = RdbFile::new(&whole[..], MOST) else { return };
    let mut before = file.offset();
    while let Ok(Some(item)) = file.next_item() {
        let longest = item.value.map_or(0, |value| value.len()).max(item.key.len());
        assert!(longest as u64 <= MOST, "a string over its limit");
        assert!(file.offset() > before, "each key takes bytes");
        before = file.offset();
    }
    assert!(file.offset() <= whole.len() as u64);
}

/// A value that PFADD, PFCOUNT and PFMERGE are given: it is refused, or behaves as a HyperLogLog.
pub fn hll(data: &[u8]) {
    let Ok(mut counter) = HyperLogLog::from_bytes(Bytes::copy_from_slice(data)) else { return };
    let mut registers = Registers::new();
    let sound = registers.merge(&counter).is_ok();
    let count = registers.count();
    if counter.add(b"an element", SPARSE_MOST).is_err() || !sound {
        return;
    }
    let mut with_one_more = Registers::new();
    with_one_more.merge(&counter).expect("what can be added to can be counted");
    assert!(with_one_more.count() >= count, "adding makes no less");
    let changed = counter.add(b"an element", SPARSE_MOST).expect("it has taken it before");
    assert!(!changed, "the same again changes nothing");
    counter.make_dense().expect("a sound one can be made dense");
    let mut dense = Registers::new();
    dense.merge(&counter).expect("a dense one is sound");
    assert_eq!(dense.count(), with_one_more.count(), "the form makes no difference");
}
