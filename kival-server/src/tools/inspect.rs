//! `kival-server inspect`: a line a structure, for people or as JSON.

use super::args::{Format, Inspect};
use super::{FINE, Failure, time};
use kival_engine::format::group::Position;
use kival_engine::format::record::{Header, Kind};
use kival_engine::fs::RealFs;
use kival_engine::offline::{Item, inspect_dir, inspect_file};
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shows a directory or files.
pub(super) fn run(args: &Inspect, out: &mut dyn Write) -> Result<u8, Failure> {
    let mut out = BufWriter::new(out);
    let mut heading = None;
    let mut show = |file: &Path, item: Item<'_>| match args.format {
        Format::Json => {
            let mut line = json(&item);
            line["file"] = json!(file.display().to_string());
            writeln!(out, "{line}")
        }
        Format::Text => {
            if heading.as_deref() != Some(file) {
                writeln!(out, "{}", file.display())?;
                heading = Some(PathBuf::from(file));
            }
            text(&mut out, &item)
        }
    };
    match &args.dir {
        Some(dir) => inspect_dir(Arc::new(RealFs), dir, &mut show)?,
        None => args.files.iter().try_for_each(|file| inspect_file(Arc::new(RealFs), file, &mut show))?,
    }
    out.flush()?;
    Ok(FINE)
}

fn kind(header: &Header) -> &'static str {
    match header.kind {
        Kind::Value => "value",
        Kind::Tombstone => "tombstone",
        Kind::Expiry => "expiry",
        Kind::Root => "root",
        Kind::Element => "element",
        Kind::ElementTombstone => "element-tombstone",
        Kind::Namespaces => "namespaces",
        Kind::Page => "page",
    }
}

fn position(at: Position) -> Value {
    json!({ "segment": at.segment, "offset": at.offset })
}

fn record(name: &str, offset: u64, header: &Header, key: &[u8]) -> Value {
    json!({
        "type": name,
        "offset": offset,
        "kind": kind(header),
        "namespace": header.namespace,
        "key": key.escape_ascii().to_string(),
        "value_size": header.value_size,
        "sequence": header.sequence,
        "expiry": header.expiry,
        "data_type": header.data_type,
    })
}

fn json(item: &Item<'_>) -> Value {
    match *item {
        Item::Manifest(manifest) => json!({
            "type": "manifest",
            "store": format!("{:016x}", manifest.store),
            "incarnation": format!("{:016x}", manifest.incarnation),
            "generation": manifest.generation,
            "next_segment": manifest.next_segment,
            "sequence_limit": manifest.sequence_limit,
            "feed_floor": manifest.feed_floor,
            "restore_floor": manifest.restore_floor,
            "watermark": position(manifest.watermark),
            "chain": manifest.chain,
            "segments": manifest.segments.iter().map(|entry| json!({
                "id": entry.id,
                "merged": entry.merged,
                "sealed": entry.sealed.map(|sealed| json!({
                    "length": sealed.length,
                    "records": sealed.records,
                    "lowest": sealed.lowest,
                    "highest": sealed.highest,
                })),
            })).collect::<Vec<_>>(),
        }),
        Item::Segment(header) => json!({
            "type": "segment",
            "store": format!("{:016x}", header.store),
            "id": header.id,
            "created_ms": header.created_ms,
            "merged": header.merged,
            "inputs": header.inputs,
        }),
        Item::Group(group) => json!({
            "type": "group",
            "offset": group.at.offset,
            "merged": group.merged,
            "records": group.records,
            "bytes": group.body_size,
            "first_sequence": group.first_sequence,
            "previous_sequence": group.previous_sequence,
            "time_ms": group.time_ms,
            "watermark": position(group.watermark),
        }),
        Item::Record { offset, header, key } => record("record", offset, header, key),
        Item::Hint(header) => json!({
            "type": "hint",
            "store": format!("{:016x}", header.store),
            "segment": header.segment,
            "covered": header.covered,
            "records": header.records,
            "lowest": header.lowest,
            "highest": header.highest,
        }),
        Item::HintEntry { offset, header, key } => record("hint-entry", offset, header, key),
        Item::Filter { offset, bytes } => json!({ "type": "filter", "offset": offset, "bytes": bytes }),
        Item::Zeros { offset, end } => json!({ "type": "zeros", "offset": offset, "end": end }),
        Item::Damage { offset, end, damage } => {
            json!({ "type": "damage", "offset": offset, "end": end, "what": damage.to_string() })
        }
    }
}

fn text(out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
    match *item {
        Item::Manifest(manifest) => {
            writeln!(
                out,
                "  manifest of store {:016x}, incarnation {:016x}, generation {}",
                manifest.store, manifest.incarnation, manifest.generation
            )?;
            writeln!(
                out,
                "  next segment {}, sequence limit {}, feed floor {}, restore floor {}, chain {}, watermark {}:{}",
                manifest.next_segment,
                manifest.sequence_limit,
                manifest.feed_floor,
                manifest.restore_floor,
                manifest.chain,
                manifest.watermark.segment,
                manifest.watermark.offset
            )?;
            manifest.segments.iter().try_for_each(|entry| {
                let what = if entry.merged { "merge output" } else { "log" };
                match entry.sealed {
                    Some(sealed) => writeln!(
                        out,
                        "  segment {}: {what}, sealed, {} bytes, {} records, sequences {} to {}",
                        entry.id, sealed.length, sealed.records, sealed.lowest, sealed.highest
                    ),
                    None => writeln!(out, "  segment {}: {what}, open", entry.id),
                }
            })
        }
        Item::Segment(header) => {
            let created = time::text(header.created_ms);
            write!(out, "  segment {} of store {:016x}, created {created}", header.id, header.store)?;
            if header.merged { writeln!(out, ", merged from {:?}", header.inputs) } else { writeln!(out) }
        }
        Item::Group(group) => writeln!(
            out,
            "  {:>10}  group of {} records, {} bytes, from sequence {}, after {}, {}, watermark {}:{}{}",
            group.at.offset,
            group.records,
            group.body_size,
            group.first_sequence,
            group.previous_sequence,
            time::text(group.time_ms),
            group.watermark.segment,
            group.watermark.offset,
            if group.merged { ", merged" } else { "" }
        ),
        Item::Record { offset, header, key } => record_text(out, "", offset, header, key),
        Item::Hint(header) => writeln!(
            out,
            "  hint of segment {}, {} bytes, {} records, sequences {} to {}",
            header.segment, header.covered, header.records, header.lowest, header.highest
        ),
        Item::HintEntry { offset, header, key } => record_text(out, "hint: ", offset, header, key),
        Item::Filter { offset, bytes } => writeln!(out, "  {offset:>10}  filter of {bytes} bytes"),
        Item::Zeros { offset, end } => writeln!(out, "  {offset:>10}  zeros to {end}"),
        Item::Damage { offset, end, damage } => writeln!(out, "  {offset:>10}  DAMAGED to {end}: {damage}"),
    }
}

fn record_text(out: &mut dyn Write, what: &str, offset: u64, header: &Header, key: &[u8]) -> io::Result<()> {
    let (kind, key) = (kind(header), key.escape_ascii());
    let Header { namespace, sequence, value_size, expiry, .. } = header;
    write!(out, "  {offset:>10}    {what}{kind} #{sequence} {namespace}:{key}, {value_size} bytes")?;
    if *expiry > 0 { writeln!(out, ", expires {}", time::text(*expiry)) } else { writeln!(out) }
}
