//! Who may connect, from where, and by which word.

use super::{INT_MAX, fit};
use crate::config::row::Change::{RunTime, Start};
use crate::config::row::Heading::{Network, Security};
use crate::config::row::{Kind, Setting};
use crate::config::values::DebugCommand;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "port",
        heading: Network,
        kind: Kind::Integer { min: 0, max: 65_535, get: |c| c.port.into(), set: |c, n| c.port = fit(n) },
        default: "6380",
        unit: "",
        change: RunTime,
        help: "TCP port to listen on; 0 lets the system choose a free one",
    },
    Setting {
        name: "bind",
        heading: Network,
        kind: Kind::Addresses { get: |c| &c.bind, set: |c, addresses| c.bind = addresses },
        default: "127.0.0.1 -::1",
        unit: "",
        change: RunTime,
        help: "Addresses to listen on; one with a leading - may be missing on this machine, \
               * is all of IPv4, ::* all of IPv6",
    },
    Setting {
        name: "protected-mode",
        heading: Network,
        kind: Kind::Bool { get: |c| c.protected_mode, set: |c, on| c.protected_mode = on },
        default: "yes",
        unit: "",
        change: RunTime,
        help: "Refuse clients of other machines as long as there is no password",
    },
    Setting {
        name: "tcp-backlog",
        heading: Network,
        kind: Kind::Integer {
            min: 0,
            max: INT_MAX,
            get: |c| c.tcp_backlog.into(),
            set: |c, n| c.tcp_backlog = fit(n),
        },
        default: "511",
        unit: "connections",
        change: Start,
        help: "Connections that may wait to be accepted; the system's own bound counts too",
    },
    Setting {
        name: "tcp-keepalive",
        heading: Network,
        kind: Kind::Seconds { max: INT_MAX, get: |c| c.tcp_keepalive, set: |c, time| c.tcp_keepalive = time },
        default: "300",
        unit: "seconds",
        change: RunTime,
        help: "Silence after which a client is probed, to find connections that are dead; 0 is never",
    },
    Setting {
        name: "timeout",
        heading: Network,
        kind: Kind::Seconds { max: INT_MAX, get: |c| c.timeout, set: |c, time| c.timeout = time },
        default: "0",
        unit: "seconds",
        change: RunTime,
        help: "Idle time after which a client is disconnected; 0 is never",
    },
    Setting {
        name: "shutdown-timeout",
        heading: Network,
        kind: Kind::Seconds {
            max: INT_MAX,
            get: |c| c.shutdown_timeout,
            set: |c, time| c.shutdown_timeout = time,
        },
        default: "10",
        unit: "seconds",
        change: RunTime,
        help: "How long a stop waits for what is under way",
    },
    Setting {
        name: "requirepass",
        heading: Security,
        kind: Kind::Secret { get: |c| &c.requirepass, set: |c, secret| c.requirepass = secret },
        default: "",
        unit: "",
        change: RunTime,
        help: "Password that clients must give with AUTH or HELLO; empty is none",
    },
    Setting {
        name: "enable-debug-command",
        heading: Security,
        kind: Kind::Word {
            words: DebugCommand::WORDS,
            get: |c| c.enable_debug_command.word(),
            set: |c, index| c.enable_debug_command = DebugCommand::ALL[index],
        },
        default: "no",
        unit: "",
        change: Start,
        help: "Who may call DEBUG: nobody, everybody, or clients of this machine",
    },
];
