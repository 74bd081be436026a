//! CLIENT TRACKING and what belongs to it. Who is told what is decided in `engine_task/tracking.rs`.

use super::super::options::{SYNTAX_ERROR, integer, is_word};
use super::super::{Abort, Command, Context, Outcome};
use super::SUBCOMMAND;
use crate::engine_task::ClientKey;
use crate::engine_task::tracking::{Choice, Tracker};
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;

const TWO_REDIRECTS: &str = "ERR A client can only redirect to a single other client";
const NO_SUCH_CLIENT: &str = "ERR The client ID you want redirect to does not exist";
const PREFIX_WITHOUT_BCAST: &str = "ERR PREFIX option requires BCAST mode to be enabled";
const OTHER_BCAST: &str = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and \
    then re-enabling it with a different mode.";
const BCAST_AND_OPT: &str = "ERR OPTIN and OPTOUT are not compatible with BCAST";
const BOTH_OPTS: &str = "ERR You can't specify both OPTIN mode and OPTOUT mode";
const OTHER_OPT: &str = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
    re-enabling it with a different mode.";
const NOT_TRACKING: &str = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
    OPTOUT mode enabled";
const NOT_OPTIN: &str = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
const NOT_OPTOUT: &str = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";

pub(super) const CACHING: Command = Command {
    name: "caching",
    handler: caching,
    arity: 3,
    arguments: "mode=(YES | NO)",
    since: "6.0.0",
    summary: "Says of the next command whether what it reads is tracked (YES with OPTIN, NO with OPTOUT).",
    ..SUBCOMMAND
};

pub(super) const GETREDIR: Command = Command {
    name: "getredir",
    handler: getredir,
    since: "6.0.0",
    summary: "Answers whom invalidations of this connection are sent to: an id, 0 for itself, -1 for nobody.",
    ..SUBCOMMAND
};

pub(super) const TRACKING: Command = Command {
    name: "tracking",
    handler: tracking,
    arity: -3,
    arguments: "status=(ON | OFF) [REDIRECT client-id] [(PREFIX prefix) ...] [BCAST] [OPTIN] [OPTOUT] \
        [NOLOOP]",
    since: "6.0.0",
    complexity: "O(N) with N prefixes",
    summary: "Has this connection be told when keys that it has read are changed (ON, OFF; REDIRECT id, OPTIN, \
        OPTOUT, NOLOOP), or keys with certain prefixes (BCAST, PREFIX prefix).",
    ..SUBCOMMAND
};

pub(super) const TRACKINGINFO: Command = Command {
    name: "trackinginfo",
    handler: trackinginfo,
    since: "6.2.0",
    summary: "Tells what is tracked for this connection.",
    ..SUBCOMMAND
};

/// What a request wants.
#[derive(Debug, Default)]
struct Wanted {
    redirect: Option<i64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<Bytes>,
}

fn tracking(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (wanted, redirect) = parse(ctx, args)?;
    if is_word(&args[2], "on") {
        let tracker = judge(ctx.store.tracking.look(ctx.client), wanted, redirect)?;
        ctx.store.start_tracking(ctx.client, tracker);
    } else if is_word(&args[2], "off") {
        ctx.store.stop_tracking(ctx.client);
    } else {
        return Err(SYNTAX_ERROR.into());
    }
    Ok(Reply::Ok)
}

fn parse(ctx: &Context<'_>, args: Args<'_>) -> Result<(Wanted, Option<ClientKey>), Abort> {
    let mut wanted = Wanted::default();
    let mut redirect = None;
    let mut at = 3;
    while let Some(word) = args.get(at) {
        at += 1;
        if is_word(word, "redirect") && at < args.len() {
            if wanted.redirect.is_some() {
                return Err(TWO_REDIRECTS.into());
            }
            let id = integer(&args[at])?;
            wanted.redirect = Some(id);
            redirect = Some(find(ctx, id).ok_or(NO_SUCH_CLIENT)?);
            at += 1;
        } else if is_word(word, "prefix") && at < args.len() {
            wanted.prefixes.push(args.bytes(at));
            at += 1;
        } else if is_word(word, "bcast") {
            wanted.broadcast = true;
        } else if is_word(word, "optin") {
            wanted.opt_in = true;
        } else if is_word(word, "optout") {
            wanted.opt_out = true;
        } else if is_word(word, "noloop") {
            wanted.no_loop = true;
        } else {
            return Err(SYNTAX_ERROR.into());
        }
    }
    Ok((wanted, redirect))
}

fn find(ctx: &Context<'_>, id: i64) -> Option<ClientKey> {
    let id = u64::try_from(id).ok()?;
    if id == ctx.client.id {
        return Some(ctx.client);
    }
    ctx.clients.slots_where(|session| session.id == id).first().map(|&slot| ClientKey { slot, id })
}

/// What becomes of a client that tracks as `before`, in Redis's order of refusals.
fn judge(
    before: Option<&Tracker>,
    wanted: Wanted,
    redirect: Option<ClientKey>,
) -> Result<Tracker, ErrorReply> {
    let Wanted { broadcast, opt_in, opt_out, no_loop, prefixes, .. } = wanted;
    if !broadcast && !prefixes.is_empty() {
        return Err(PREFIX_WITHOUT_BCAST.into());
    }
    if before.is_some_and(|own| own.broadcast != broadcast) {
        return Err(OTHER_BCAST.into());
    }
    if broadcast && (opt_in || opt_out) {
        return Err(BCAST_AND_OPT.into());
    }
    if opt_in && opt_out {
        return Err(BOTH_OPTS.into());
    }
    let was = before.map_or(Choice::All, |own| own.choice);
    if (opt_in && was == Choice::OptOut) || (opt_out && was == Choice::OptIn) {
        return Err(OTHER_OPT.into());
    }
    let mut all = before.map(|own| own.prefixes.clone()).unwrap_or_default();
    if broadcast {
        collide(&prefixes, all.iter())?;
        if prefixes.is_empty() {
            all.insert(Bytes::new());
        }
        all.extend(prefixes);
    }
    let choice = match (opt_in, opt_out) {
        (true, _) => Choice::OptIn,
        (_, true) => Choice::OptOut,
        _ => Choice::All,
    };
    let caching = before.is_some_and(|own| own.caching);
    Ok(Tracker { redirect, broken: false, broadcast, prefixes: all, choice, caching, no_loop })
}

/// Refuses prefixes that are prefixes of each other, or of those there are.
fn collide<'a>(new: &[Bytes], old: impl Iterator<Item = &'a Bytes> + Clone) -> Result<(), ErrorReply> {
    let overlap = |one: &Bytes, other: &Bytes| one.starts_with(other) || other.starts_with(one);
    let refuse = |one: &Bytes, what: &[u8], other: &Bytes| {
        let end = b"'. Prefixes for a single client must not overlap.";
        ErrorReply::from([b"ERR Prefix '", &one[..], b"' overlaps with ", what, b" '", other, end].concat())
    };
    for (index, one) in new.iter().enumerate() {
        if let Some(other) = old.clone().find(|other| overlap(one, other)) {
            return Err(refuse(one, b"an existing prefix", other));
        }
        if let Some(other) = new[index + 1..].iter().find(|other| overlap(one, other)) {
            return Err(refuse(one, b"another provided prefix", other));
        }
    }
    Ok(())
}

fn caching(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let tracker = ctx.store.tracking.tracker(ctx.client).ok_or(NOT_TRACKING)?;
    if is_word(&args[2], "yes") {
        if tracker.choice != Choice::OptIn {
            return Err(NOT_OPTIN.into());
        }
    } else if is_word(&args[2], "no") {
        if tracker.choice != Choice::OptOut {
            return Err(NOT_OPTOUT.into());
        }
    } else {
        return Err(SYNTAX_ERROR.into());
    }
    tracker.caching = true;
    Ok(Reply::Ok)
}

/// The id that invalidations go to instead, as Redis tells it.
pub(super) fn redirection(tracker: Option<&Tracker>) -> i64 {
    tracker.map_or(-1, |own| own.redirect.map_or(0, |other| other.id.cast_signed()))
}

fn getredir(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(redirection(ctx.store.tracking.look(ctx.client))))
}

fn trackinginfo(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let tracker = ctx.store.tracking.look(ctx.client);
    let mut flags = vec![if tracker.is_some() { "on" } else { "off" }];
    if let Some(own) = tracker {
        let opt_in = own.choice == Choice::OptIn;
        let opt_out = own.choice == Choice::OptOut;
        let all = [
            (own.broadcast, "bcast"),
            (opt_in, "optin"),
            (opt_in && own.caching, "caching-yes"),
            (opt_out, "optout"),
            (opt_out && own.caching, "caching-no"),
            (own.no_loop, "noloop"),
            (own.broken, "broken_redirect"),
        ];
        flags.extend(all.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
    }
    let prefixes = tracker.map(|own| own.prefixes.iter().cloned().map(Reply::Bulk).collect());
    Ok(Reply::fields([
        ("flags", Reply::Set(flags.into_iter().map(Reply::from).collect())),
        ("redirect", redirection(tracker).into()),
        ("prefixes", Reply::Array(prefixes.unwrap_or_default())),
    ]))
}
