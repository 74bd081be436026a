//! Messages: SUBSCRIBE, PUBLISH and what belongs to them. Who listens is kept in `engine_task/channels.rs`, how
//! messages leave in `engine_task/messages.rs`.

use super::introspection::help;
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::engine_task::ClientKey;
use crate::engine_task::channels::{Channels, Subscriptions};
use crate::resp::{Args, Reply};
use bytes::Bytes;

/// Redis lets the others begin inside a transaction, for the sake of old programs.
const SHARD_IN_EXEC: &str = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";

/// What the rows of this file have in common.
const PUBSUB: Command = Command {
    arity: -2,
    flags: Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE),
    categories: Categories::PUBSUB,
    group: Group::PubSub,
    since: "2.0.0",
    ..Command::BASE
};

/// What changes the subscriptions of the client that asks.
const SUBSCRIPTION: Command = Command {
    flags: PUBSUB.flags.and(Flags::NOSCRIPT).and(Flags::WHILE_SUBSCRIBED),
    complexity: "O(N) with N channels or patterns",
    ..PUBSUB
};

/// Messages.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "psubscribe",
        handler: psubscribe,
        arguments: "(pattern) ...",
        summary: "Listens to all channels that the patterns match.",
        ..SUBSCRIPTION
    },
    Command {
        name: "publish",
        handler: publish,
        arity: 3,
        arguments: "channel message",
        flags: PUBSUB.flags.and(Flags::FAST).and(Flags::MAY_REPLICATE),
        complexity: "O(N+M) with N clients that listen to the channel and M patterns of any client",
        summary: "Sends a message to all who listen to the channel, and answers how many that are.",
        ..PUBSUB
    },
    Command {
        name: "pubsub",
        flags: Flags::NONE,
        categories: Categories::NONE,
        since: "2.8.0",
        complexity: "That of the subcommand",
        summary: "Holds the commands that tell who listens.",
        subcommands: ABOUT,
        ..PUBSUB
    },
    Command {
        name: "punsubscribe",
        handler: punsubscribe,
        arity: -1,
        arguments: "[pattern ...]",
        summary: "Listens no more to channels that the patterns match; to any pattern if none is given.",
        ..SUBSCRIPTION
    },
    Command {
        name: "spublish",
        handler: spublish,
        arity: 3,
        arguments: "shardchannel message",
        flags: PUBSUB.flags.and(Flags::FAST).and(Flags::MAY_REPLICATE),
        keys: Keys::ONE,
        key_spec: KeySpec::NOT_KEYS,
        since: "7.0.0",
        complexity: "O(N) with N clients that listen to the channel",
        summary: "Sends a message to all who listen to the channel of a shard, and answers how many that are.",
        ..PUBSUB
    },
    Command {
        name: "ssubscribe",
        handler: ssubscribe,
        arguments: "shardchannel ...",
        keys: Keys::ALL,
        key_spec: KeySpec::NOT_KEYS,
        since: "7.0.0",
        summary: "Listens to channels of shards.",
        ..SUBSCRIPTION
    },
    Command {
        name: "subscribe",
        handler: subscribe,
        arguments: "channel ...",
        summary: "Listens to channels.",
        ..SUBSCRIPTION
    },
    Command {
        name: "sunsubscribe",
        handler: sunsubscribe,
        arity: -1,
        arguments: "[shardchannel ...]",
        keys: Keys::ALL,
        key_spec: KeySpec::NOT_KEYS,
        since: "7.0.0",
        summary: "Listens no more to channels of shards; to none at all if none is given.",
        ..SUBSCRIPTION
    },
    Command {
        name: "unsubscribe",
        handler: unsubscribe,
        arity: -1,
        arguments: "[channel ...]",
        summary: "Listens no more to channels; to none at all if none is given.",
        ..SUBSCRIPTION
    },
];

/// PUBSUB.
const ABOUT: &[Command] = &[
    Command {
        name: "channels",
        handler: channels,
        arguments: "[pattern]",
        since: "2.8.0",
        complexity: "O(N) with N channels",
        summary: "Lists the channels that someone listens to, all or those that match a pattern.",
        ..PUBSUB
    },
    Command {
        name: "help",
        handler: help,
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        categories: Categories::NONE,
        since: "6.2.0",
        summary: "Lists the subcommands.",
        ..PUBSUB
    },
    Command {
        name: "numpat",
        handler: num_pat,
        arity: 2,
        since: "2.8.0",
        summary: "Answers how many patterns clients listen by.",
        ..PUBSUB
    },
    Command {
        name: "numsub",
        handler: num_sub,
        arguments: "[channel ...]",
        since: "2.8.0",
        complexity: "O(N) with N channels asked for",
        summary: "Answers for each of the channels how many listen to it by its name.",
        ..PUBSUB
    },
    Command {
        name: "shardchannels",
        handler: shard_channels,
        arguments: "[pattern]",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        summary: "Lists the channels of shards that someone listens to, all or those that match a pattern.",
        ..PUBSUB
    },
    Command {
        name: "shardnumsub",
        handler: shard_num_sub,
        arguments: "[shardchannel ...]",
        since: "7.0.0",
        complexity: "O(N) with N channels asked for",
        summary: "Answers for each of the channels of shards how many listen to it.",
        ..PUBSUB
    },
];

/// A kind of subscription: its words, how it begins and ends, and what counts with it.
struct Kind {
    begun: &'static str,
    ended: &'static str,
    begin: fn(&mut Channels, ClientKey, &mut Subscriptions, Bytes) -> bool,
    end: fn(&mut Channels, ClientKey, &mut Subscriptions, &[u8]),
    all: fn(&Subscriptions) -> Vec<Bytes>,
    count: fn(&Subscriptions) -> usize,
}

const CHANNELS: Kind = Kind {
    begun: "subscribe",
    ended: "unsubscribe",
    begin: Channels::subscribe,
    end: Channels::unsubscribe,
    all: |own| own.channels.iter().cloned().collect(),
    count: Subscriptions::count,
};

const PATTERNS: Kind = Kind {
    begun: "psubscribe",
    ended: "punsubscribe",
    begin: Channels::subscribe_pattern,
    end: Channels::unsubscribe_pattern,
    all: |own| own.patterns.clone(),
    count: Subscriptions::count,
};

const SHARDS: Kind = Kind {
    begun: "ssubscribe",
    ended: "sunsubscribe",
    begin: Channels::subscribe_shard,
    end: Channels::unsubscribe_shard,
    all: |own| own.shards.iter().cloned().collect(),
    count: |own| own.shards.len(),
};

fn subscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    begin(ctx, args, &CHANNELS)
}

fn psubscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    begin(ctx, args, &PATTERNS)
}

fn ssubscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if ctx.session.is_executing() {
        return Err(SHARD_IN_EXEC.into());
    }
    begin(ctx, args, &SHARDS)
}

fn unsubscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    end(ctx, args, &CHANNELS)
}

fn punsubscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    end(ctx, args, &PATTERNS)
}

fn sunsubscribe(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    end(ctx, args, &SHARDS)
}

fn told(what: &'static str, name: Reply, count: usize) -> Reply {
    Reply::Push(vec![what.into(), name, Reply::Integer(count as i64)])
}

fn begin(ctx: &mut Context<'_>, args: Args<'_>, kind: &Kind) -> Outcome {
    let client = ctx.client;
    let own = ctx.session.subscriptions.get_or_insert_default();
    let replies = (1..args.len()).map(|index| {
        // Not the bytes of the request: they would keep all of it.
        let name = Bytes::copy_from_slice(&args[index]);
        (kind.begin)(&mut ctx.store.channels, client, own, name.clone());
        told(kind.begun, Reply::Bulk(name), (kind.count)(own))
    });
    Ok(Reply::Sequence(replies.collect()))
}

fn end(ctx: &mut Context<'_>, args: Args<'_>, kind: &Kind) -> Outcome {
    let client = ctx.client;
    let own = ctx.session.subscriptions.get_or_insert_default();
    let names = if args.len() > 1 {
        (1..args.len()).map(|index| args.bytes(index)).collect()
    } else {
        (kind.all)(own)
    };
    let mut replies = Vec::with_capacity(names.len().max(1));
    for name in names {
        (kind.end)(&mut ctx.store.channels, client, own, &name);
        replies.push(told(kind.ended, Reply::Bulk(name), (kind.count)(own)));
    }
    if replies.is_empty() {
        replies.push(told(kind.ended, Reply::Null, (kind.count)(own)));
    }
    if own.is_empty() {
        ctx.session.subscriptions = None;
    }
    Ok(Reply::Sequence(replies))
}

/// Ends all subscriptions of a client.
pub(super) fn forget(ctx: &mut Context<'_>) {
    if let Some(own) = ctx.session.subscriptions.take() {
        ctx.store.channels.forget(ctx.client, &own);
    }
}

fn publish(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let receivers = ctx.store.channels.publish(&args.bytes(1), &args.bytes(2));
    Ok(published(ctx, receivers))
}

fn spublish(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let receivers = ctx.store.channels.publish_to_shard(&args.bytes(1), &args.bytes(2));
    Ok(published(ctx, receivers))
}

/// Who gets a message may conclude that what was written before it is there.
fn published(ctx: &mut Context<'_>, receivers: usize) -> Reply {
    if receivers > 0 {
        ctx.store.depend_on_all();
    }
    Reply::Integer(receivers as i64)
}

/// The pattern of PUBSUB CHANNELS and its like.
fn pattern<'a>(args: &'a Args<'_>) -> Result<Option<&'a [u8]>, Abort> {
    if args.len() > 3 {
        let text =
            [b"ERR unknown subcommand or wrong number of arguments for '", &args[1], b"'. Try PUBSUB HELP."];
        return Err(Abort::Error(text.concat().into()));
    }
    Ok(args.get(2))
}

fn channels(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names = ctx.store.channels.active(pattern(&args)?);
    Ok(names.cloned().map(Reply::Bulk).collect())
}

fn shard_channels(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names = ctx.store.channels.active_shards(pattern(&args)?);
    Ok(names.cloned().map(Reply::Bulk).collect())
}

fn num_pat(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(ctx.store.channels.counts().1 as i64))
}

fn num_sub(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(counted(args, |channel| ctx.store.channels.listeners(channel)))
}

fn shard_num_sub(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(counted(args, |channel| ctx.store.channels.shard_listeners(channel)))
}

fn counted(args: Args<'_>, listeners: impl Fn(&[u8]) -> usize) -> Reply {
    let each = |index| [Reply::Bulk(args.bytes(index)), Reply::Integer(listeners(&args[index]) as i64)];
    Reply::Array((2..args.len()).flat_map(each).collect())
}
