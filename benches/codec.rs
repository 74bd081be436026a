//! The wire: requests decoded, replies encoded.

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kival_server::resp::{Codec, Limits, Output, Protocol, Reply, encode};
use std::hint::black_box;

const PIPELINE: usize = 16;

fn decode(c: &mut Criterion) {
    let one = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$10\r\n0123456789\r\n";
    let stream = one.repeat(PIPELINE);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    group.bench_function("decode SET, pipeline 16", |b| {
        let mut codec = Codec::new(Limits::default());
        b.iter(|| {
            let mut input = BytesMut::from(&stream[..]);
            let batch = codec.read(&mut input).expect("sound").expect("whole");
            assert_eq!(batch.len(), PIPELINE);
            batch
        });
    });
    let value = Reply::Bulk(Bytes::from_static(&[b'v'; 100]));
    group.bench_function("encode bulk, pipeline 16", |b| {
        b.iter(|| {
            let mut output = Output::new();
            for _ in 0..PIPELINE {
                encode(black_box(&value), Protocol::Resp2, &mut output);
            }
            output
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
