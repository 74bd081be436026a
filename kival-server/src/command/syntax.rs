//! What a row says of its arguments: a line in the notation of Redis's documentation, and the tree that is
//! read off it for COMMAND DOCS, from which clients make their hints.
//!
//! | written | means |
//! | --- | --- |
//! | `seconds` | an argument; its type follows from its name (see [`Kind::of`]) |
//! | `value:integer` | an argument of this type |
//! | `NX` | this word itself |
//! | `EX seconds` | this word, and an argument behind it |
//! | `[x]` | `x` may be left out |
//! | `key ...` | one or more |
//! | `KEYS key ...`, `(PREFIX prefix) ...` | one or more behind one word; each behind its own |
//! | `(x y)`, `TOKEN (x y)` | a block: all of these, in this order |
//! | `(x \| y)`, `TOKEN (x \| y)` | one of these |
//! | `[x y]`, `[x \| y]` | such a group, which may be left out |
//! | `name=(x y)`, `name=[x y]`, `name=TOKEN (x y)` | a group that has another name than `x_y` |
//!
//! Nothing here reads a request: handlers do that for themselves.

use std::fmt;
use std::iter::Peekable;

/// An argument, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    /// What it is called.
    pub name: String,
    /// What stands there.
    pub kind: Kind,
    /// The word in front of it, or that it is.
    pub token: Option<&'static str>,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether it may come several times.
    pub multiple: bool,
    /// Whether each time has its token.
    pub multiple_token: bool,
    /// What a group holds.
    pub parts: Vec<Argument>,
}

impl Argument {
    fn new(name: impl Into<String>, kind: Kind) -> Argument {
        Argument {
            name: name.into(),
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            parts: Vec::new(),
        }
    }

    /// A word of the notation that stands for an argument: a name, with or without a type.
    fn named(word: &str) -> Argument {
        let typed = word.rsplit_once(':').and_then(|(name, kind)| Some((name, Kind::named(kind)?)));
        let (name, kind) = typed.unwrap_or_else(|| (word, Kind::of(word)));
        Argument::new(name, kind)
    }

    /// A choice, or a block if there is none. It is called after its parts, if nothing else is said.
    fn group(name: Option<&str>, mut alternatives: Vec<Vec<Argument>>) -> Result<Argument, Mistake> {
        let (kind, parts) = if alternatives.len() == 1 {
            (Kind::Block, alternatives.remove(0))
        } else {
            let single = |mut sequence: Vec<Argument>| {
                let last = sequence.pop().filter(|_| sequence.is_empty());
                last.ok_or(Mistake::SeveralInOne)
            };
            (Kind::OneOf, alternatives.into_iter().map(single).collect::<Result<_, _>>()?)
        };
        if parts.is_empty() {
            return Err(Mistake::Missing("an argument"));
        }
        let joined = || parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("_");
        let name = name.map_or_else(joined, str::to_owned);
        Ok(Argument { parts, ..Argument::new(name, kind) })
    }

    /// What may be done with it, in the words of COMMAND DOCS.
    pub(super) fn flags(&self) -> Vec<&'static str> {
        let all = [
            (self.optional, "optional"),
            (self.multiple, "multiple"),
            (self.multiple_token, "multiple_token"),
        ];
        all.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect()
    }

    /// The fewest words that a request has for it.
    #[cfg(test)]
    pub(super) fn fewest_words(&self) -> usize {
        let parts = self.parts.iter().map(Argument::fewest_words);
        let own = match self.kind {
            _ if self.optional => return 0,
            Kind::PureToken => 0,
            Kind::Block => parts.sum(),
            Kind::OneOf => parts.min().unwrap_or(0).max(1),
            _ => 1,
        };
        own + usize::from(self.token.is_some())
    }
}

/// As people read it, without the names of groups: `[NX | XX]`, `<ON | OFF>`, `key [key ...]`.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |between| self.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(between);
        let body = match self.kind {
            Kind::PureToken => String::new(),
            Kind::Block => parts(" "),
            Kind::OneOf if self.optional && self.token.is_none() => parts(" | "),
            Kind::OneOf => format!("<{}>", parts(" | ")),
            _ => self.name.clone(),
        };
        let token = self.token.map(|token| if token.is_empty() { "\"\"" } else { token });
        let first = match token {
            Some(token) if body.is_empty() => token.to_owned(),
            Some(token) => format!("{token} {body}"),
            None => body.clone(),
        };
        let again = if self.multiple_token { &first } else { &body };
        let all = if self.multiple { format!("{first} [{again} ...]") } else { first.clone() };
        if self.optional { write!(f, "[{all}]") } else { f.write_str(&all) }
    }
}

/// What stands at the place of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any bytes.
    String,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Double,
    /// The name of a key.
    Key,
    /// A pattern with `*` and `?`.
    Pattern,
    /// A time since 1970.
    UnixTime,
    /// A word of the command itself.
    PureToken,
    /// One of its parts.
    OneOf,
    /// All of its parts.
    Block,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::String,
        Kind::Integer,
        Kind::Double,
        Kind::Key,
        Kind::Pattern,
        Kind::UnixTime,
        Kind::PureToken,
        Kind::OneOf,
        Kind::Block,
    ];

    /// Its name in COMMAND DOCS.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }

    fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What an argument of this name is, in all commands that do not say otherwise.
    fn of(name: &str) -> Kind {
        match name {
            "source" | "destination" | "key1" | "key2" => Kind::Key,
            "pattern" => Kind::Pattern,
            "client-id" | "count" | "cursor" | "db" | "decrement" | "destination-db" | "end"
            | "frequency" | "increment" | "index" | "index1" | "index2" | "len" | "milliseconds"
            | "numlocal" | "numreplicas" | "offset" | "port" | "protover" | "seconds" | "start"
            | "timeout" | "ttl" => Kind::Integer,
            _ if name.ends_with("key") => Kind::Key,
            _ if name.starts_with("unix-time-") => Kind::UnixTime,
            _ => Kind::String,
        }
    }
}

/// Why a line is not in the notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mistake {
    /// This stands where it cannot.
    Unexpected(&'static str),
    /// The line ends where this should stand.
    Missing(&'static str),
    /// An alternative is not one argument, nor a group of them.
    SeveralInOne,
    /// This name is given to what has one.
    NeedlessName(&'static str),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Unexpected(word) => write!(f, "`{word}` cannot stand there"),
            Mistake::Missing(what) => write!(f, "{what} is missing"),
            Mistake::SeveralInOne => write!(f, "several arguments without brackets are one alternative"),
            Mistake::NeedlessName(name) => write!(f, "`{name}=` stands before what has a name"),
        }
    }
}

impl std::error::Error for Mistake {}

/// The arguments that a line tells.
///
/// # Errors
/// A line that is not in the notation.
pub(super) fn parse(line: &'static str) -> Result<Vec<Argument>, Mistake> {
    let mut parser = Parser { symbols: Symbols { rest: line }.peekable() };
    let arguments = parser.sequence()?;
    match parser.symbols.next() {
        None => Ok(arguments),
        Some(symbol) => Err(Mistake::Unexpected(symbol)),
    }
}

/// The symbols of a line: words, `name=`, and the marks between them.
struct Symbols {
    rest: &'static str,
}

impl Iterator for Symbols {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        let length = if "[]()|".contains(first) {
            1
        } else {
            let end = self.rest.find([' ', '[', ']', '(', ')', '|', '=']).unwrap_or(self.rest.len());
            end + usize::from(self.rest[end..].starts_with('='))
        };
        let (symbol, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(symbol)
    }
}

/// Whether a symbol is a word that a request has as it stands here; `""` is the empty one.
fn is_token(word: &str) -> bool {
    word == "\"\"" || word.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Whether it is the name of an argument.
fn is_argument(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.ends_with('=')
}

/// Reads symbols from left to right.
struct Parser {
    symbols: Peekable<Symbols>,
}

impl Parser {
    /// Arguments up to a mark that ends them.
    fn sequence(&mut self) -> Result<Vec<Argument>, Mistake> {
        let mut all = Vec::new();
        while self.symbols.peek().is_some_and(|symbol| !["]", ")", "|"].contains(symbol)) {
            all.push(self.item()?);
        }
        Ok(all)
    }

    /// What stands between brackets, up to the closing one: sequences with bars between them.
    fn alternatives(&mut self, close: &'static str) -> Result<Vec<Vec<Argument>>, Mistake> {
        let mut all = vec![self.sequence()?];
        loop {
            match self.symbols.next() {
                Some("|") => all.push(self.sequence()?),
                Some(symbol) if symbol == close => return Ok(all),
                Some(symbol) => return Err(Mistake::Unexpected(symbol)),
                None => return Err(Mistake::Missing(close)),
            }
        }
    }

    fn item(&mut self) -> Result<Argument, Mistake> {
        let name = self.symbols.next_if(|symbol| symbol.ends_with('=')).map(|name| &name[..name.len() - 1]);
        let symbol = self.symbols.next().ok_or(Mistake::Missing("an argument"))?;
        let mut argument = match symbol {
            "[" => self.optional(name)?,
            "(" => self.group(name)?,
            word if is_token(word) => self.behind_token(name, word)?,
            word if is_argument(word) => match name {
                Some(name) => return Err(Mistake::NeedlessName(name)),
                None => Argument::named(word),
            },
            other => return Err(Mistake::Unexpected(other)),
        };
        argument.multiple |= self.symbols.next_if_eq(&"...").is_some();
        Ok(argument)
    }

    /// What may be left out: the one argument in the brackets, or the group that they make.
    fn optional(&mut self, name: Option<&str>) -> Result<Argument, Mistake> {
        let mut alternatives = self.alternatives("]")?;
        let argument = match alternatives.as_mut_slice() {
            [alone] if alone.len() == 1 && name.is_none() => alone.remove(0),
            _ => Argument::group(name, alternatives)?,
        };
        Ok(Argument { optional: true, ..argument })
    }

    /// The group in the brackets; or an argument that takes its token with it when it comes again.
    fn group(&mut self, name: Option<&str>) -> Result<Argument, Mistake> {
        let mut alternatives = self.alternatives(")")?;
        match alternatives.as_mut_slice() {
            [alone] if alone.len() == 1 && alone[0].token.is_some() && name.is_none() => {
                Ok(Argument { multiple_token: true, ..alone.remove(0) })
            }
            _ => Argument::group(name, alternatives),
        }
    }

    /// A token: by itself, or with the argument or the group behind it.
    fn behind_token(&mut self, name: Option<&'static str>, token: &'static str) -> Result<Argument, Mistake> {
        let token = token.trim_matches('"');
        let argument = if self.symbols.next_if_eq(&"(").is_some() {
            Argument::group(name, self.alternatives(")")?)?
        } else if let Some(word) = self.symbols.next_if(|symbol| is_argument(symbol)) {
            if let Some(name) = name {
                return Err(Mistake::NeedlessName(name));
            }
            Argument::named(word)
        } else {
            let name = name.map_or_else(|| token.to_ascii_lowercase(), str::to_owned);
            Argument::new(name, Kind::PureToken)
        };
        Ok(Argument { token: Some(token), ..argument })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An argument as a line: what it is, and what it holds.
    fn shown(argument: &Argument) -> String {
        let mut text = format!("{}:{}", argument.name, argument.kind.name());
        text.extend(argument.token.map(|token| format!(" {token:?}")));
        text.extend(argument.flags().iter().map(|flag| format!(" {flag}")));
        if !argument.parts.is_empty() {
            let parts: Vec<String> = argument.parts.iter().map(shown).collect();
            text += &format!(" ({})", parts.join(", "));
        }
        text
    }

    #[track_caller]
    fn check(line: &'static str, expected: &[&str]) {
        let read: Vec<String> = parse(line).expect(line).iter().map(shown).collect();
        assert_eq!(read, expected, "{line}");
    }

    #[test]
    fn arguments_have_the_type_of_their_name_or_one_of_their_own() {
        check("", &[]);
        check("key seconds value", &["key:key", "seconds:integer", "value:string"]);
        check(
            "destkey unix-time-seconds pattern",
            &["destkey:key", "unix-time-seconds:unix-time", "pattern:pattern"],
        );
        check(
            "value:integer increment:double ip:port",
            &["value:integer", "increment:double", "ip:port:string"],
        );
    }

    #[test]
    fn words_of_the_command_stand_alone_or_before_an_argument() {
        check(
            "[NX] SINCE sequence [COUNT count]",
            &[
                "nx:pure-token \"NX\" optional",
                "sequence:string \"SINCE\"",
                "count:integer \"COUNT\" optional",
            ],
        );
        check(
            "change=CH [empty_string=\"\"]",
            &["change:pure-token \"CH\"", "empty_string:pure-token \"\" optional"],
        );
    }

    #[test]
    fn what_may_come_again_says_whether_its_word_does() {
        check("key ...", &["key:key multiple"]);
        check("[KEYS key ...]", &["key:key \"KEYS\" optional multiple"]);
        check("[(PREFIX prefix) ...]", &["prefix:string \"PREFIX\" optional multiple multiple_token"]);
        check("(pattern) ...", &["pattern:block multiple (pattern:pattern)"]);
    }

    #[test]
    fn groups_are_blocks_or_choices_and_can_be_named() {
        check("(key value) ...", &["key_value:block multiple (key:key, value:string)"]);
        check(
            "index=[start [BIT]]",
            &["index:block optional (start:integer, bit:pure-token \"BIT\" optional)"],
        );
        check(
            "when=[EX seconds | KEEPTTL]",
            &["when:oneof optional (seconds:integer \"EX\", keepttl:pure-token \"KEEPTTL\")"],
        );
        check(
            "[AUTH (username password)] kind=TYPE (A | B)",
            &[
                "username_password:block \"AUTH\" optional (username:string, password:string)",
                "kind:oneof \"TYPE\" (a:pure-token \"A\", b:pure-token \"B\")",
            ],
        );
    }

    #[test]
    fn people_read_it_as_in_the_documentation() {
        for (line, read) in [
            ("key value:integer", "key value"),
            ("filter=[NX | XX] (ON | OFF) [GET]", "[NX | XX] <ON | OFF> [GET]"),
            ("key ... (key value) ...", "key [key ...] key value [key value ...]"),
            (
                "[(PREFIX prefix) ...] [id=ID (client-id ...)]",
                "[PREFIX prefix [PREFIX prefix ...]] [ID client-id [client-id ...]]",
            ),
            ("[kind=TYPE (A | B)] [empty=\"\"] SINCE sequence", "[TYPE <A | B>] [\"\"] SINCE sequence"),
        ] {
            let arguments: Vec<String> = parse(line).expect(line).iter().map(Argument::to_string).collect();
            assert_eq!(arguments.join(" "), read, "{line}");
        }
    }

    #[test]
    fn the_fewest_words_of_a_request_are_counted() {
        let fewest = |line| parse(line).expect(line).iter().map(Argument::fewest_words).sum::<usize>();
        assert_eq!(fewest("key [NX] value"), 2);
        assert_eq!(fewest("SINCE sequence (ON | OFF) (key value) ..."), 5);
        assert_eq!(fewest("(ip:port | new=([ID client-id] | [USER username]) ...)"), 1);
    }

    #[test]
    fn what_is_not_in_the_notation_is_refused() {
        for (line, mistake) in [
            ("[key", Mistake::Missing("]")),
            ("(key value", Mistake::Missing(")")),
            ("(key]", Mistake::Unexpected("]")),
            ("key | value", Mistake::Unexpected("|")),
            ("... key", Mistake::Unexpected("...")),
            ("name=", Mistake::Missing("an argument")),
            ("()", Mistake::Missing("an argument")),
            ("(key value | NX)", Mistake::SeveralInOne),
            ("(key |)", Mistake::SeveralInOne),
            ("name=key", Mistake::NeedlessName("name")),
            ("name=DB index", Mistake::NeedlessName("name")),
        ] {
            assert_eq!(parse(line), Err(mistake), "{line}");
        }
    }
}
