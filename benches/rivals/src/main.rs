//! kival's engine and its rivals, embedded in one process, under the same load: 16-byte keys in random
//! order, 100-byte values. Here: the command line and the rounds; `load` has the work, `stores` the
//! rivals and how each is set up, `table` the output.

mod load;
mod stores;
mod table;

use clap::Parser;
use load::{Load, Rates};
use std::path::PathBuf;
use stores::{Error, STORES};

/// Measures put and get of embedded stores: medians of interleaved rounds, as Markdown.
#[derive(Parser)]
struct Arguments {
    /// Keys in each store
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Puts that are synced one by one
    #[arg(long, default_value_t = 2_000)]
    synced: u64,
    /// Rounds; every store has its turn in each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Budget of each store's cache in MiB: all values fit
    #[arg(long, default_value_t = 256)]
    cache: u64,
    /// Budget for the gets that mostly miss the cache, in MiB
    #[arg(long, default_value_t = 16)]
    small_cache: u64,
    /// Directory for the stores; the disk under it is what is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Only these stores
    #[arg(long = "store")]
    stores: Vec<String>,
    /// Prints JSON instead of Markdown
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let chosen: Vec<_> = STORES
        .iter()
        .filter(|store| arguments.stores.is_empty() || arguments.stores.iter().any(|name| name == store.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = STORES.iter().map(|store| store.name).collect();
        return Err(format!("no such store; there are {}", names.join(", ")).into());
    }
    let load = Load {
        keys: arguments.keys,
        synced: arguments.synced,
        cache: arguments.cache << 20,
        small_cache: arguments.small_cache << 20,
        dir: arguments.dir,
    };
    let mut runs: Vec<(&str, Vec<Rates>)> = chosen.iter().map(|store| (store.name, Vec::new())).collect();
    for round in 0..arguments.rounds.max(1) {
        for (store, (_, rates)) in chosen.iter().zip(&mut runs) {
            eprintln!("round {}: {}", round + 1, store.name);
            rates.push(load.run(store)?);
        }
    }
    let medians = table::medians(&runs);
    if arguments.json {
        println!("{}", table::json(&medians));
    } else {
        print!("{}", table::markdown(&medians));
    }
    Ok(())
}
