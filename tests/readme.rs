//! The README says what the program does: its tables hold the settings and the commands that there are.

use std::path::PathBuf;

use kival_server::{command, config};

const BEGIN: &str = "<!-- settings: made by config::markdown_table -->\n";
const END: &str = "<!-- end of settings -->";

fn readme() -> (PathBuf, String) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// `KIVAL_UPDATE_README=1` writes the table instead of comparing it.
#[test]
fn it_holds_the_table_of_settings() {
    let (path, text) = readme();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (table, tail) = rest.split_once(END).unwrap();
    let wanted = config::markdown_table();
    if std::env::var_os("KIVAL_UPDATE_README").is_some() {
        std::fs::write(path, [head, BEGIN, &wanted, END, tail].concat()).unwrap();
    } else {
        assert!(table == wanted, "run this test with KIVAL_UPDATE_README=1");
    }
}

#[test]
fn it_names_every_command() {
    let (_, text) = readme();
    let (_, section) = text.split_once("## Commands").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let words: Vec<&str> =
        section.split(|c: char| !c.is_ascii_uppercase() && !['_', '-'].contains(&c)).collect();
    for command in command::all() {
        let name = command.name.to_ascii_uppercase();
        assert!(words.contains(&name.as_str()), "{name} is missing");
        for subcommand in command.subcommands.iter().filter(|row| row.name != "help") {
            let name = subcommand.name.to_ascii_uppercase();
            assert!(words.contains(&name.as_str()), "{name} of {} is missing", command.name);
        }
    }
}
