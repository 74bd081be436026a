// Drives a server with node-redis: `node_redis.js PORT PROTOCOL`. Run by tests/programs.rs.

"use strict";

const assert = require("node:assert/strict");
const { createClient, RESP_TYPES } = require("redis");
const { run, soon } = require("./checks.js");

const [port, RESP] = process.argv.slice(2).map(Number);

const connect = async (settings = {}) => {
  const client = createClient({ socket: { port, host: "127.0.0.1" }, RESP, ...settings });
  client.on("error", () => {});
  return client.connect();
};

const main = async () => {
  const client = await connect();

  const checks = {
    async strings() {
      assert.equal(await client.set("k", "v"), "OK");
      assert.equal(await client.get("k"), "v");
      assert.equal(await client.get("none"), null);
      assert.equal(await client.set("k", "w", { condition: "NX" }), null);
      assert.equal(await client.set("k", "w", { GET: true }), "v");
      assert.equal(await client.append("k", "xyz"), 4);
      assert.equal(await client.getRange("k", 1, -2), "xy");
      assert.equal(await client.incrBy("n", 42), 42);
      assert.equal(await client.incrByFloat("n", 0.5), "42.5");
      assert.deepEqual(await client.mGet(["k", "none"]), ["wxyz", null]);
      assert.equal(await client.del(["k", "n", "none"]), 2);
    },

    async buffers() {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      const binary = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
      await client.set("bytes", bytes);
      assert.deepEqual(await binary.get("bytes"), bytes);
    },

    async expiry() {
      await client.set("k", "v", { expiration: { type: "EX", value: 1000 } });
      const ttl = await client.ttl("k");
      assert.ok(ttl > 0 && ttl <= 1000, `${ttl}`);
      assert.equal(await client.persist("k"), 1);
      assert.equal(await client.pExpire("k", 1), 1);
      while (await client.exists("k"));
      assert.equal(await client.ttl("k"), -2);
    },

    async pipelines() {
      // Commands of one tick leave together.
      const replies = await Promise.all(Array.from({ length: 2500 }, (_, i) => client.set(`key:${i}`, `${i}`)));
      assert.ok(replies.every((reply) => reply === "OK"));
      const keys = new Set();
      for await (const some of client.scanIterator({ MATCH: "key:1?", COUNT: 7 })) some.forEach((k) => keys.add(k));
      assert.equal(keys.size, 10);
    },

    async transactions() {
      assert.deepEqual(await client.multi().set("k", "1").incr("k").get("k").exec(), ["OK", 2, "2"]);
      const other = await connect();
      await other.watch("k");
      await client.set("k", "w");
      await assert.rejects(other.multi().set("k", "lost").exec(), /watched/);
      assert.equal(await other.get("k"), "w");
      other.destroy();
    },

    async messages() {
      const listener = await connect();
      const heard = new Promise((resolve) => listener.subscribe("news", resolve));
      const matched = new Promise((resolve) => listener.pSubscribe("w*", (...heard) => resolve(heard)));
      // Behind the subscriptions on the same connection.
      await listener.ping();
      assert.equal(await client.publish("news", "hello"), 1);
      assert.equal(await client.publish("weather", "rain"), 1);
      assert.equal(await soon("the message", heard), "hello");
      assert.deepEqual(await soon("the match", matched), ["rain", "weather"]);
      await listener.unsubscribe();
      await listener.pUnsubscribe();
      assert.equal(await client.publish("news", "unheard"), 0);
      listener.destroy();
    },

    async errors() {
      await client.set("k", "v");
      await assert.rejects(client.incr("k"), /ERR value is not an integer or out of range/);
      await assert.rejects(client.sendCommand(["NOSUCH"]), /unknown command 'NOSUCH'/);
      assert.equal(await client.get("k"), "v");
    },

    async bits() {
      await client.setBit("bits", 7, 1);
      assert.equal(await client.bitCount("bits"), 1);
      assert.deepEqual(await client.bitField("bits", [{ operation: "GET", encoding: "u8", offset: 0 }]), [1]);
      await client.pfAdd("visitors", ["a", "b", "a"]);
      assert.equal(await client.pfCount("visitors"), 2);
    },

    async server() {
      assert.match(await client.info(), /redis_version:/);
      await client.clientSetName("me");
      assert.ok((await client.clientList()).some(({ name }) => name === "me"));
      assert.equal((await client.configGet("databases")).databases, "16");
      const other = await connect({ database: 3 });
      await other.set("k", "3");
      assert.equal(await client.get("k"), null);
      other.destroy();
    },
  };

  await run(() => client.flushAll(), checks);
  client.destroy();
};

main();
