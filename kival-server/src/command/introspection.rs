//! COMMAND: the table of commands, as clients ask for it, and the HELP of every container.
//!
//! Everything here is read off the rows; no command is known by its name.

use super::options::{SYNTAX_ERROR, is_word};
use super::syntax::{self, Argument, Kind};
use super::{
    Abort, Categories, Command, Context, Deprecated, Flags, Group, Keys, KeysBehind, Outcome, full_name,
};
use crate::glob::{Case, matches};
use crate::resp::{Args, Reply};

const NO_SUCH_COMMAND: &str = "ERR Invalid command specified";
const NO_KEYS: &str = "ERR The command has no key arguments";
const WRONG_COUNT: &str = "ERR Invalid number of arguments specified for command";
const WRONG_ARGUMENTS: &str = "ERR Invalid arguments specified for command";

/// What the subcommands have in common.
const SUBCOMMAND: Command = Command {
    arity: -2,
    flags: Flags::LOADING.and(Flags::STALE),
    categories: Categories::CONNECTION,
    group: Group::Server,
    since: "2.8.13",
    ..Command::BASE
};

/// The table of commands.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "command",
    handler: command,
    arity: -1,
    complexity: "O(N) with N commands",
    tips: &["nondeterministic_output_order"],
    summary: "Describes all commands, and holds the commands about commands.",
    subcommands: &[
        Command { name: "count", handler: count, arity: 2, summary: "Counts the commands.", ..SUBCOMMAND },
        Command {
            name: "docs",
            handler: docs,
            arguments: "[command-name ...]",
            since: "7.0.0",
            complexity: "O(N) with N names",
            tips: &["nondeterministic_output_order"],
            summary: "Documents the commands of these names, or all.",
            ..SUBCOMMAND
        },
        Command {
            name: "getkeys",
            handler: getkeys,
            arity: -4,
            complexity: "O(N) with N arguments",
            summary: "Picks the keys out of a whole command.",
            ..SUBCOMMAND
        },
        Command {
            name: "getkeysandflags",
            handler: getkeysandflags,
            arity: -4,
            since: "7.0.0",
            complexity: "O(N) with N arguments",
            summary: "Picks the keys out of a whole command, and tells what it does with each.",
            ..SUBCOMMAND
        },
        Command {
            name: "help",
            handler: help,
            arity: 2,
            since: "5.0.0",
            summary: "Lists the subcommands.",
            ..SUBCOMMAND
        },
        Command {
            name: "info",
            handler: info,
            arguments: "[command-name ...]",
            complexity: "O(N) with N names",
            tips: &["nondeterministic_output_order"],
            summary: "Describes the commands of these names, or all.",
            ..SUBCOMMAND
        },
        Command {
            name: "list",
            handler: list,
            arguments: "[filterby=FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern)]",
            since: "7.0.0",
            complexity: "O(N) with N clients or commands",
            tips: &["nondeterministic_output_order"],
            summary: "Names all commands, or those of a kind (FILTERBY MODULE name, ACLCAT category or \
                PATTERN pattern).",
            ..SUBCOMMAND
        },
    ],
    ..SUBCOMMAND
}];

/// A row, behind that of its container; a command without one is its own.
type Row = (&'static Command, &'static Command);

fn top_rows() -> impl Iterator<Item = Row> {
    super::all().map(|command| (command, command))
}

/// All commands, each with its subcommands behind it.
fn all_rows() -> impl Iterator<Item = Row> {
    super::all().flat_map(|command| std::iter::once((command, command)).chain(subcommands(command)))
}

fn subcommands(command: &'static Command) -> impl Iterator<Item = Row> {
    command.subcommands.iter().map(move |row| (command, row))
}

/// The row of a full name, such as `get` or `config|set`.
fn find(name: &[u8]) -> Option<Row> {
    let Some(bar) = name.iter().position(|&byte| byte == b'|') else {
        return super::find(name).map(|command| (command, command));
    };
    let container = super::find(&name[..bar])?;
    subcommands(container).find(|(_, row)| row.name.as_bytes().eq_ignore_ascii_case(&name[bar + 1..]))
}

/// What a row says of its arguments.
fn tree(row: &Command) -> Vec<Argument> {
    syntax::parse(row.arguments).expect("a test parses the arguments of every row")
}

/// The HELP of the container that the request names.
pub(super) fn help(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let container = super::find(args.name()).ok_or(NO_SUCH_COMMAND)?;
    let title =
        format!("{} <subcommand> [argument ...]. Its subcommands:", container.name.to_ascii_uppercase());
    let mut lines = vec![Reply::status(title)];
    for row in container.subcommands {
        let arguments = tree(row).iter().map(|argument| format!(" {argument}")).collect::<String>();
        lines.push(Reply::status(format!("{}{arguments}", row.name.to_ascii_uppercase())));
        lines.push(Reply::status(format!("    {}", row.summary)));
    }
    Ok(Reply::Array(lines))
}

fn command(_: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(top_rows().map(describe).collect())
}

fn count(_: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(super::all().count() as i64))
}

fn info(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names = args.tail(2);
    if names.is_empty() {
        return command(ctx, args);
    }
    Ok(names.iter().map(|name| find(name).map(describe)).collect())
}

/// The ten elements of COMMAND INFO.
fn describe((container, row): Row) -> Reply {
    let Keys { first, last, step } = row.keys;
    Reply::Array(vec![
        Reply::bulk(full_name(container, row)),
        Reply::Integer(row.arity.into()),
        statuses(row.flags.names().filter(|name| !name.is_empty())),
        Reply::Integer(first as i64),
        Reply::Integer(last.into()),
        Reply::Integer(step as i64),
        statuses(categories(row).names()),
        Reply::Set(row.tips.iter().map(|tip| Reply::bulk(*tip)).collect()),
        Reply::Set(key_specs(row)),
        // A row that is its own container; those of subcommands have none below them.
        Reply::Set(subcommands(row).map(describe).collect()),
    ])
}

fn statuses(names: impl Iterator<Item = &'static str>) -> Reply {
    Reply::Set(names.map(Reply::status).collect())
}

/// The categories that a row names and those that follow from its flags, by the rules of Redis.
fn categories(row: &Command) -> Categories {
    const FOLLOWING: &[(Flags, Categories)] = &[
        (Flags::WRITE, Categories::WRITE),
        (Flags::READONLY, Categories::READ),
        (Flags::ADMIN, Categories::ADMIN.and(Categories::DANGEROUS)),
        (Flags::PUBSUB, Categories::PUBSUB),
        (Flags::FAST, Categories::FAST),
        (Flags::BLOCKING, Categories::BLOCKING),
    ];
    let following = FOLLOWING.iter().filter(|(flag, _)| row.flags.has(*flag));
    let all = following.fold(row.categories, |all, (_, category)| all.and(*category));
    if all.has(Categories::FAST) { all } else { all.and(Categories::SLOW) }
}

/// One specification for all keys, or one for the first and one for the others, if they are used differently. One
/// more for those behind a word.
fn key_specs(row: &Command) -> Vec<Reply> {
    let Keys { first, last, step } = row.keys;
    let (first, spec) = (first as i64, row.key_spec);
    if first == 0 {
        return Vec::new();
    }
    if !spec.second.is_empty() {
        let one = |flags, index, last| key_spec(flags, spec.notes, at(index), last, 1);
        return vec![one(spec.first, first, 0), one(spec.second, first + 1, i64::from(last.min(0)))];
    }
    // The last key counts from the first one, unless it counts from the end.
    let last = i64::from(last);
    let last = if last < 0 { last } else { last - first };
    let mut specs = vec![key_spec(spec.first, spec.notes, at(first), last, step as i64)];
    if let Some(KeysBehind { word, from, .. }) = row.keys_behind {
        // It may be another argument that is the same word.
        let flags: Vec<&str> = spec.first.iter().copied().chain(["incomplete"]).collect();
        let fields = [("keyword", word.into()), ("startfrom", from.into())];
        specs.push(key_spec(&flags, spec.notes, search("keyword", Reply::fields(fields)), -1, 1));
    }
    specs
}

/// How a key, or the keys from it on, are found.
fn search(kind: &'static str, spec: Reply) -> Reply {
    Reply::fields([("type", kind.into()), ("spec", spec)])
}

/// By the first key's index.
fn at(index: i64) -> Reply {
    search("index", Reply::fields([("index", index.into())]))
}

fn key_spec(flags: &[&'static str], notes: &'static str, begin: Reply, last: i64, step: i64) -> Reply {
    let range = [("lastkey", last.into()), ("keystep", step.into()), ("limit", 0.into())];
    let mut fields = Vec::with_capacity(4);
    if !notes.is_empty() {
        fields.push(("notes", Reply::bulk(notes)));
    }
    fields.push(("flags", statuses(flags.iter().copied())));
    fields.push(("begin_search", begin));
    fields.push(("find_keys", search("range", Reply::fields(range))));
    Reply::fields(fields)
}

fn docs(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names = args.tail(2);
    if names.is_empty() {
        return Ok(documents(top_rows()));
    }
    Ok(documents(names.iter().filter_map(find)))
}

/// Documentation by full name.
fn documents(rows: impl Iterator<Item = Row>) -> Reply {
    Reply::fields(rows.map(|(container, row)| (full_name(container, row), document(row))))
}

fn document(row: &'static Command) -> Reply {
    let mut fields = vec![
        ("summary", Reply::bulk(row.summary)),
        ("since", Reply::bulk(row.since)),
        ("group", Reply::bulk(row.group.name())),
        ("complexity", Reply::bulk(row.complexity)),
    ];
    if row.flags.has(Flags::PROTECTED) {
        fields.push(("doc_flags", statuses(std::iter::once("syscmd"))));
    }
    if let Some(Deprecated { since, replaced_by }) = row.deprecated {
        fields.push(("doc_flags", statuses(std::iter::once("deprecated"))));
        fields.push(("deprecated_since", Reply::bulk(since)));
        fields.push(("replaced_by", Reply::bulk(replaced_by)));
    }
    if !row.arguments.is_empty() {
        let mut keys = KeyCount { seen: 0, specs: key_specs(row).len() as i64 };
        fields.push(("arguments", arguments(&tree(row), &mut keys)));
    }
    if !row.subcommands.is_empty() {
        fields.push(("subcommands", documents(subcommands(row))));
    }
    Reply::fields(fields)
}

/// What says by which of its key specifications a command finds a key among its arguments: the specifications
/// stand in the order of the keys, and the last is for all that are left.
struct KeyCount {
    seen: i64,
    specs: i64,
}

impl KeyCount {
    fn next(&mut self) -> i64 {
        let index = self.seen.min(self.specs - 1);
        self.seen += 1;
        index
    }
}

fn arguments(tree: &[Argument], keys: &mut KeyCount) -> Reply {
    Reply::Array(tree.iter().map(|argument| describe_argument(argument, keys)).collect())
}

fn describe_argument(argument: &Argument, keys: &mut KeyCount) -> Reply {
    let kind = argument.kind;
    let mut fields = vec![("name", Reply::bulk(argument.name.clone())), ("type", Reply::bulk(kind.name()))];
    if kind == Kind::Key {
        fields.push(("key_spec_index", Reply::Integer(keys.next())));
    }
    if let Some(token) = argument.token {
        fields.push(("token", Reply::bulk(token)));
    }
    let flags = argument.flags();
    if !flags.is_empty() {
        fields.push(("flags", statuses(flags.into_iter())));
    }
    if !argument.parts.is_empty() {
        fields.push(("arguments", arguments(&argument.parts, keys)));
    }
    Reply::fields(fields)
}

fn getkeys(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let request = args.tail(2);
    let (_, keys) = keys_of(request)?;
    Ok(keys.into_iter().map(|index| request.bytes(index)).collect())
}

fn getkeysandflags(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let request = args.tail(2);
    let (row, keys) = keys_of(request)?;
    let one = |(number, index)| {
        let flags = row.key_flags(request, number).iter().copied();
        Reply::Array(vec![Reply::bulk(request.bytes(index)), statuses(flags)])
    };
    Ok(keys.into_iter().enumerate().map(one).collect())
}

/// The row of a request, and where its keys stand.
fn keys_of(request: Args<'_>) -> Result<(&'static Command, Vec<usize>), Abort> {
    let row = super::resolve(request).map_err(|_| NO_SUCH_COMMAND)?.command;
    if !row.has_keys() {
        return Err(NO_KEYS.into());
    }
    if !row.takes(request.len()) {
        return Err(WRONG_COUNT.into());
    }
    let keys: Vec<usize> = row.key_indices(request).collect();
    // Each specification has to find a key.
    let fewest = if row.key_spec.second.is_empty() { 1 } else { 2 };
    if keys.len() < fewest { Err(WRONG_ARGUMENTS.into()) } else { Ok((row, keys)) }
}

fn list(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let filter = Filter::parse(args)?;
    Ok(all_rows()
        .filter(|row| filter.takes(*row))
        .map(|(container, row)| full_name(container, row))
        .collect())
}

/// What COMMAND LIST is narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter<'a> {
    Everything,
    /// A module, of which there are none.
    Module,
    /// A category, named without its `@`.
    Category(&'a [u8]),
    /// A pattern that the full name matches in whatever case.
    Pattern(&'a [u8]),
}

impl<'a> Filter<'a> {
    fn parse(args: Args<'a>) -> Result<Filter<'a>, Abort> {
        match (args.get(2), args.get(3), args.get(4)) {
            (None, ..) => Ok(Filter::Everything),
            (Some(option), Some(kind), Some(value)) if args.len() == 5 && is_word(option, "filterby") => {
                match () {
                    () if is_word(kind, "module") => Ok(Filter::Module),
                    () if is_word(kind, "aclcat") => Ok(Filter::Category(value)),
                    () if is_word(kind, "pattern") => Ok(Filter::Pattern(value)),
                    () => Err(SYNTAX_ERROR.into()),
                }
            }
            _ => Err(SYNTAX_ERROR.into()),
        }
    }

    fn takes(self, (container, row): Row) -> bool {
        match self {
            Filter::Everything => true,
            Filter::Module => false,
            Filter::Category(category) => categories(row)
                .names()
                .any(|name| name.trim_start_matches('@').as_bytes().eq_ignore_ascii_case(category)),
            Filter::Pattern(pattern) => matches(pattern, full_name(container, row).as_bytes(), Case::Ignored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Batch, Protocol, encode};
    use bytes::BytesMut;
    use std::collections::HashSet;

    fn listed(words: &str) -> Option<Vec<String>> {
        let batch = Batch::from_args(words.split(' '));
        let filter = Filter::parse(batch.command(0)).ok()?;
        Some(all_rows().filter(|row| filter.takes(*row)).map(|(outer, row)| full_name(outer, row)).collect())
    }

    #[track_caller]
    fn check_list(words: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(listed(words), expected, "{words}");
    }

    #[test]
    fn the_list_can_be_narrowed() {
        let config =
            ["config", "config|get", "config|help", "config|resetstat", "config|rewrite", "config|set"];
        check_list("command list filterby PATTERN CONFIG*", Some(&config));
        check_list("command list filterby pattern p?ng", Some(&["ping"]));
        check_list("command list filterby aclcat blocking", Some(&["kival|changes", "waitaof"]));
        check_list("command list filterby aclcat @blocking", Some(&[]));
        check_list("command list filterby module x", Some(&[]));
        for wrong in ["x", "filterby", "filterby pattern", "filterby x y", "filterby pattern a b"] {
            check_list(&format!("command list {wrong}"), None);
        }
        assert_eq!(listed("command list").map(|names| names.len()), Some(all_rows().count()));
    }

    #[test]
    fn commands_are_found_by_their_full_names() {
        assert!(find(b"GET").is_some() && find(b"Config|SET").is_some());
        for wrong in ["nosuch", "config|nosuch", "config|get|x", "get|x", "|", ""] {
            assert!(find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_unique_and_rows_have_a_summary() {
        let mut seen = HashSet::new();
        for (container, row) in all_rows() {
            let name = full_name(container, row);
            assert!(row.summary.ends_with('.'), "{name}");
            assert_eq!(row.name, row.name.to_ascii_lowercase());
            assert!(seen.insert(name.clone()), "{name} twice");
        }
    }

    /// COMMAND GETKEYS and its like take any command, DEBUG what its HELP says; PFMERGE may come without a source, which
    /// Redis 7.0 does not tell.
    const ODD: [&str; 4] = ["command|getkeys", "command|getkeysandflags", "debug", "pfmerge"];

    #[test]
    fn arguments_are_as_many_as_the_arity_says() {
        for (container, row) in all_rows().filter(|(_, row)| row.subcommands.is_empty()) {
            let name = full_name(container, row);
            let tree = syntax::parse(row.arguments).unwrap_or_else(|mistake| panic!("{name}: {mistake}"));
            let words = 1 + usize::from(name.contains('|'));
            let fewest = words + tree.iter().map(Argument::fewest_words).sum::<usize>();
            let agrees = row.takes(fewest) && !row.takes(fewest - 1);
            assert_eq!(agrees, !ODD.contains(&name.as_str()), "{name}: {fewest}, {}", row.arity);
        }
    }

    /// What redis-server 7.0.15 answers to COMMAND INFO CONFIG|GET and COMMAND INFO GET.
    #[test]
    fn a_row_is_described_as_redis_describes_it() {
        let encoded = |name: &str, protocol| {
            let mut out = BytesMut::new();
            encode(&describe(find(name.as_bytes()).unwrap()), protocol, &mut out);
            String::from_utf8(out.to_vec()).unwrap().replace("\r\n", " ")
        };
        assert_eq!(
            encoded("config|get", Protocol::Resp2),
            "*10 $10 config|get :-3 *4 +admin +noscript +loading +stale :0 :0 :0 \
             *3 +@admin +@slow +@dangerous *0 *0 *0 "
        );
        assert_eq!(
            encoded("get", Protocol::Resp3),
            "*10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@read +@string +@fast ~0 \
             ~1 %3 $5 flags ~2 +RO +access \
             $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 \
             $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 ~0 "
        );
    }
}
