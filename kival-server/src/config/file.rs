//! Configuration files of redis.conf's form: a setting and its values a line, `#` comments, `include`.
//!
//! Files of Redis can be read: what only Redis has is skipped with a warning, unless somebody relies on it (see
//! `foreign`).
//!
//! A file that is included counts as if its lines stood in place of the `include` line. Relative names are
//! looked up beside the file that includes them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ValueFault};
use super::fields::{Config, Warning};
use super::foreign::{self, Foreign};
use super::nearest::nearest;
use super::row::{Kind, Setting};
use super::settings::settings;
use super::source::{Place, Source};
use super::words;

/// The one line that is no setting.
const INCLUDE: &str = "include";

/// Characters of an unknown name that an error repeats.
const SHOWN_NAME: usize = 64;

/// Sets in `config` what the file sets, and tells what was skipped. Facts that are `overruled` may be contradicted:
/// the command line says again what they are.
pub(super) fn read(
    config: &mut Config,
    path: &Path,
    overruled: &[&str],
) -> Result<Vec<Warning>, ConfigError> {
    let mut reader = Reader { config, overruled, warnings: Vec::new(), open: Vec::new() };
    reader.file(path, None)?;
    Ok(reader.warnings)
}

struct Reader<'a> {
    config: &'a mut Config,
    overruled: &'a [&'a str],
    warnings: Vec<Warning>,
    /// The files being read, each including the next, as absolute paths: none may come twice.
    open: Vec<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, from: Option<&Place>) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { from: from.cloned(), file: path.into(), source };
        let absolute = fs::canonicalize(path).map_err(unreadable)?;
        if let Some(at) = from
            && self.open.contains(&absolute)
        {
            return Err(ConfigError::IncludeLoop { at: at.clone(), file: path.into() });
        }
        let text = fs::read(&absolute).map_err(unreadable)?;
        self.open.push(absolute);
        self.text(path, &text)?;
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, path: &Path, text: &[u8]) -> Result<(), ConfigError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let at = Place { file: path.into(), line: index + 1 };
            match words::split(line) {
                None => return Err(ConfigError::UnbalancedQuotes { at }),
                Some(words) => self.line(at, &words)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, at: Place, words: &[Vec<u8>]) -> Result<(), ConfigError> {
        let Some((name, values)) = words.split_first() else { return Ok(()) };
        if name.eq_ignore_ascii_case(INCLUDE.as_bytes()) {
            return self.include(at, values);
        }
        let Some(setting) = Setting::find(name) else { return self.foreign(at, name) };
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        match self.config.assign(setting, &values, Source::File(at.clone())) {
            Err(ValueFault::Fact { .. }) => self.contradiction(at, setting),
            Err(fault) => Err(ConfigError::BadValue { at: Source::File(at), name: setting.name, fault }),
            Ok(()) => Ok(()),
        }
    }

    /// A line that sets what is no setting here.
    fn foreign(&mut self, at: Place, name: &[u8]) -> Result<(), ConfigError> {
        match foreign::find(name) {
            None => Err(unknown(at, name)),
            Some(Foreign::Refused(why)) => Err(ConfigError::NotHere { at, name: printable(name), why }),
            Some(Foreign::Skipped) => {
                self.warnings.push(Warning::Skipped { at, name: printable(name) });
                Ok(())
            }
        }
    }

    /// A line that says of a fact that it is not so.
    fn contradiction(&mut self, at: Place, fact: &'static Setting) -> Result<(), ConfigError> {
        let Setting { name, default: value, help, .. } = *fact;
        if self.overruled.contains(&name) {
            return Ok(());
        }
        if matches!(fact.kind, Kind::Fact { insists: true }) {
            return Err(ConfigError::Contradicts { at, name, value, help });
        }
        self.warnings.push(Warning::Contradicted { at, name, help });
        Ok(())
    }

    fn include(&mut self, at: Place, values: &[Vec<u8>]) -> Result<(), ConfigError> {
        let [file] = values else { return Err(ConfigError::BadInclude { at }) };
        let beside = at.file.parent().unwrap_or(Path::new(""));
        self.file(&beside.join(OsStr::from_bytes(file)), Some(&at))
    }
}

fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.chars().filter(|c| !c.is_control()).take(SHOWN_NAME).collect()
}

fn unknown(at: Place, name: &[u8]) -> ConfigError {
    let name = printable(name);
    let names = settings().map(|setting| setting.name).chain([INCLUDE]).chain(foreign::names());
    let nearest = nearest(&name.to_lowercase(), names);
    ConfigError::Unknown { at, name, nearest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::AppendFsync;

    fn read_text(text: &[u8]) -> Result<Config, ConfigError> {
        Ok(read_with(text, &[])?.0)
    }

    fn read_with(text: &[u8], overruled: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
        let mut config = Config::default();
        let mut reader = Reader { config: &mut config, overruled, warnings: Vec::new(), open: Vec::new() };
        reader.text(Path::new("kival.conf"), text)?;
        let warnings = reader.warnings.iter().map(ToString::to_string).collect();
        Ok((config, warnings))
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = read_text(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), format!("kival.conf:{expected}"), "{text:?}");
    }

    #[test]
    fn lines_set_what_they_name() {
        let text = b"# comment\r\n\n  PORT\t7000\r\nappendfsync Everysec\nrequirepass \"a \\x41#b\" \n\
                     bind 10.0.0.1 -::1\nsave \"\"\nappendonly yes\nsegment-size 64kb\nport 7001";
        let config = read_text(text).unwrap();
        assert_eq!(config.port, 7001);
        assert_eq!(config.appendfsync, AppendFsync::EverySec);
        assert_eq!(config.requirepass.expose(), b"a A#b");
        assert_eq!(config.bind.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "-::1"]);
        assert_eq!(config.segment_size, 65_536);
        let source = config.sources.of("port");
        assert_eq!(*source, Source::File(Place { file: "kival.conf".into(), line: 10 }));
        assert_eq!(*config.sources.of("hz"), Source::Default);
    }

    #[test]
    fn output_limits_add_up_over_lines() {
        let text = b"client-output-buffer-limit normal 1mb 2k 3\nclient-output-buffer-limit replica 5 6 7\n";
        let limits = read_text(text).unwrap().client_output_buffer_limit.to_string();
        assert_eq!(limits, "normal 1048576 2000 3 slave 5 6 7 pubsub 33554432 8388608 60");
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_setting() {
        check_error("\n\nprot 1", "3: unknown setting 'prot', did you mean 'port'?");
        check_error(
            "rdbcompresion yes",
            "1: unknown setting 'rdbcompresion', did you mean 'rdbcompression'?",
        );
        check_error("inclued x", "1: unknown setting 'inclued', did you mean 'include'?");
        check_error("port 70000", "1: port: argument must be between 0 and 65535 inclusive");
        check_error("port", "1: port: wrong number of arguments");
        check_error("port 1 # two", "1: port: wrong number of arguments");
        check_error("requirepass \"abc", "1: unbalanced quotes");
        check_error("include", "1: include needs exactly one file name");
        check_error("dir ''", "1: dir: argument must be a path");
        check_error("bind", "1: bind: argument must name at least one address");
        check_error(
            "enable-debug-command foo",
            "1: enable-debug-command: argument(s) must be one of the following: no, yes, local",
        );
    }

    /// What is relied on is refused, by the words that help.
    #[test]
    fn a_promise_of_redis_that_cannot_be_kept_is_an_error() {
        check_error(
            "\nmaxmemory 1gb",
            "2: maxmemory cannot be set (always 0: nothing is evicted, all keys stay in memory; values need not): \
             remove the line, or overrule it on the command line by --maxmemory 0",
        );
        check_error(
            "rename-command CONFIG \"\"",
            "1: kival has no 'rename-command' (the command would go on under its own name), and does not start as if \
             it had: remove the line",
        );
        for line in [
            "daemonize yes",
            "supervised systemd",
            "replicaof 10.0.0.1 6379",
            "slaveof 10.0.0.1 6379",
            "min-replicas-to-write 1",
            "cluster-enabled yes",
            "tls-port 6390",
            "unixsocket /run/redis.sock",
            "aclfile /etc/redis/users.acl",
            "USER alice on >pw ~* +@all",
            "loadmodule /x.so",
            "maxmemory-clients 5%",
        ] {
            let error = read_text(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains("remove the line"), "{line}: {error}");
        }
    }

    #[test]
    fn what_only_redis_has_is_skipped_with_a_warning() {
        let (config, warnings) =
            read_with(b"hz 20\nRDBcompression yes\nsave 900 1\nappendonly no\nmaxmemory 0\nport 7", &[])
                .unwrap();
        assert_eq!((config.hz, config.port), (20, 7));
        assert_eq!(
            warnings,
            [
                "kival.conf:2: skipped: RDBcompression is a setting of Redis that kival does not have",
                "kival.conf:3: skipped: save cannot be set (always empty: there are no snapshots to schedule, the log is \
                 all there is)",
                "kival.conf:4: skipped: appendonly cannot be set (always yes: every write goes to the log)",
            ]
        );
    }

    #[test]
    fn the_command_line_overrules_what_a_file_says_of_a_fact() {
        let (_, warnings) = read_with(b"daemonize yes\nappendonly no", &["daemonize", "appendonly"]).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert!(read_with(b"daemonize yes", &["appendonly"]).is_err());
    }

    #[test]
    fn an_include_stands_for_its_lines_and_is_found_beside_its_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let main = dir.path().join("main.conf");
        fs::write(&main, "port 1\ninclude sub/a.conf\nhz 20\n").unwrap();
        fs::write(dir.path().join("sub/a.conf"), "include b.conf\ninclude b.conf\nport 2\nhz 30\n").unwrap();
        fs::write(dir.path().join("sub/b.conf"), "timeout 9\n").unwrap();
        let mut config = Config::default();
        read(&mut config, &main, &[]).unwrap();
        assert_eq!((config.port, config.hz, config.timeout.as_secs()), (2, 20, 9));
    }

    #[test]
    fn an_include_loop_is_told_where_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.conf"), dir.path().join("b.conf"));
        fs::write(&a, "include b.conf\n").unwrap();
        fs::write(&b, "\ninclude ./a.conf\n").unwrap();
        let error = read(&mut Config::default(), &a, &[]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}:2: include loop: ", b.display())), "{error}");
    }

    #[test]
    fn a_missing_include_is_told_with_the_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main.conf");
        fs::write(&main, "include gone.conf\n").unwrap();
        let error = read(&mut Config::default(), &main, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:1: cannot read configuration file ", main.display())),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_text(&text);
        }

        #[test]
        fn no_value_makes_a_setting_panic(
            index in 0..settings().count(),
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[-+]?[0-9]{0,20}(b|kb|mb|gb|x| )?".prop_map(String::into_bytes),
                "(normal|slave|pubsub|x)( [0-9kmb]{0,5}){0,4}".prop_map(String::into_bytes),
            ],
        ) {
            let line = [settings().nth(index).expect("it is in range").name.as_bytes(), b" ", &value].concat();
            let _ = read_text(&line);
        }
    }
}
