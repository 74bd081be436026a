//! The table of settings as the README shows it.

use std::fmt::Write;

use super::row::{Change, Heading, Setting};
use super::settings::settings;

/// One Markdown table of all settings, ordered by heading, ending with a line feed.
pub fn markdown_table() -> String {
    let mut table =
        String::from("| setting | values | default | changes | meaning |\n| --- | --- | --- | --- | --- |\n");
    for heading in Heading::ALL {
        writeln!(table, "| **{}** | | | | |", heading.title()).expect("a String takes all that is written");
        for setting in settings().filter(|setting| setting.heading == *heading) {
            table.push_str(&row(setting));
        }
    }
    table
}

fn row(setting: &Setting) -> String {
    let default = if setting.default.is_empty() { "\"\"" } else { setting.default };
    let values = setting.value_name().to_lowercase().replace('_', " ").replace('|', "\\|");
    let change = match setting.change {
        Change::RunTime => "any time",
        Change::Start | Change::Protected => "at start",
        Change::Never => "never",
    };
    format!("| `{}` | {values} | `{default}` | {change} | {} |\n", setting.name, cell(setting.help))
}

/// Text that Markdown shows as it stands, in one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}
