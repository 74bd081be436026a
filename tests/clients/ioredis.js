// Drives a server with ioredis: `ioredis.js PORT`. Run by tests/programs.rs.

"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const Redis = require("ioredis");
const { run, soon } = require("./checks.js");

const options = { port: Number(process.argv[2]), host: "127.0.0.1" };
const redis = new Redis(options);

const checks = {
  async strings() {
    assert.equal(await redis.set("k", "v"), "OK");
    assert.equal(await redis.get("k"), "v");
    assert.equal(await redis.get("none"), null);
    assert.equal(await redis.set("k", "w", "NX"), null);
    assert.equal(await redis.set("k", "w", "GET"), "v");
    assert.equal(await redis.append("k", "xyz"), 4);
    assert.equal(await redis.incrby("n", 42), 42);
    assert.deepEqual(await redis.mget("k", "none", "n"), ["wxyz", null, "42"]);
    assert.equal(await redis.del("k", "n", "none"), 2);
  },

  async buffers() {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await redis.set(bytes, bytes);
    assert.deepEqual(await redis.getBuffer(bytes), bytes);
    assert.equal(await redis.setbit("bits", 7, 1), 0);
    assert.deepEqual(await redis.getBuffer("bits"), Buffer.from([1]));
  },

  async expiry() {
    await redis.set("k", "v", "EX", 1000);
    const ttl = await redis.ttl("k");
    assert.ok(ttl > 0 && ttl <= 1000, `${ttl}`);
    assert.equal(await redis.persist("k"), 1);
    assert.equal(await redis.pexpire("k", 1), 1);
    while (await redis.exists("k"));
    assert.equal(await redis.ttl("k"), -2);
  },

  async pipelines() {
    const pipeline = redis.pipeline();
    for (let i = 0; i < 2500; i++) pipeline.set(`key:${i}`, i);
    const replies = await pipeline.exec();
    assert.ok(replies.length === 2500 && replies.every(([error, reply]) => !error && reply === "OK"));
    const keys = new Set();
    for await (const some of redis.scanStream({ match: "key:1*", count: 100 })) some.forEach((k) => keys.add(k));
    assert.equal(keys.size, 1 + 10 + 100 + 1000);
  },

  async transactions() {
    const replies = await redis.multi().set("k", "v").incr("k").get("k").exec();
    assert.deepEqual([replies[0][1], replies[2][1]], ["OK", "v"]);
    assert.match(replies[1][0].message, /not an integer/);
    const other = new Redis(options);
    await other.watch("k");
    await redis.set("k", "w");
    assert.equal(await other.multi().set("k", "lost").exec(), null);
    assert.equal(await other.get("k"), "w");
    other.disconnect();
  },

  async messages() {
    const listener = new Redis(options);
    assert.equal(await listener.subscribe("news", "sport"), 2);
    assert.equal(await listener.psubscribe("w*"), 3);
    const heard = once(listener, "message");
    const matched = once(listener, "pmessage");
    assert.equal(await redis.publish("news", "hello"), 1);
    assert.equal(await redis.publish("weather", "rain"), 1);
    assert.deepEqual(await soon("the message", heard), ["news", "hello"]);
    assert.deepEqual(await soon("the match", matched), ["w*", "weather", "rain"]);
    await listener.unsubscribe("news", "sport");
    await listener.punsubscribe("w*");
    assert.equal(await listener.ping(), "PONG");
    listener.disconnect();
  },

  async events() {
    const listener = new Redis(options);
    await redis.config("SET", "notify-keyspace-events", "KEA");
    await listener.subscribe("__keyevent@0__:set");
    const heard = once(listener, "message");
    await redis.set("noted", "1");
    assert.deepEqual(await soon("the event", heard), ["__keyevent@0__:set", "noted"]);
    await redis.config("SET", "notify-keyspace-events", "");
    listener.disconnect();
  },

  async monitor() {
    const monitor = await redis.monitor();
    const shown = once(monitor, "monitor");
    await redis.set("k", "v");
    assert.deepEqual((await soon("the line", shown))[1], ["set", "k", "v"]);
    monitor.disconnect();
  },

  async errors() {
    await redis.set("k", "v");
    await assert.rejects(redis.incr("k"), /ERR value is not an integer or out of range/);
    await assert.rejects(redis.call("NOSUCH"), /unknown command 'NOSUCH'/);
    assert.equal(await redis.get("k"), "v");
  },

  async server() {
    assert.match(await redis.info(), /redis_version:/);
    await redis.client("SETNAME", "me");
    assert.match(await redis.client("LIST"), / name=me /);
    assert.deepEqual(await redis.config("GET", "databases"), ["databases", "16"]);
    const other = new Redis({ ...options, db: 3 });
    await other.set("k", "3");
    assert.equal(await redis.get("k"), null);
    other.disconnect();
  },

  async lostConnections() {
    const other = new Redis(options);
    const id = await other.client("ID");
    const again = once(other, "ready");
    assert.equal(await redis.client("KILL", "ID", id), 1);
    await soon("the new connection", again);
    assert.equal(await other.ping(), "PONG");
    other.disconnect();
  },
};

run(() => redis.flushall(), checks).then(() => redis.disconnect());
