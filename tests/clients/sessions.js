// A web server whose sessions are kept by connect-redis, and a visitor: `sessions.js PORT`. Run by tests/programs.rs.

"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");
const { run } = require("./checks.js");

const main = async () => {
  const client = await createClient({ socket: { port: Number(process.argv[2]), host: "127.0.0.1" } }).connect();
  const store = new RedisStore({ client, prefix: "session:", ttl: 1000 });
  const app = express();
  app.use(session({ store, secret: "of this test", resave: false, saveUninitialized: false }));
  app.get("/visit", (request, response) => {
    request.session.visits = (request.session.visits || 0) + 1;
    response.json(request.session.visits);
  });
  app.get("/leave", (request, response) => request.session.destroy(() => response.json("left")));
  const web = app.listen(0, "127.0.0.1");
  await once(web, "listening");

  const visitor = () => {
    let cookie = "";
    return async (path) => {
      const response = await fetch(`http://127.0.0.1:${web.address().port}${path}`, { headers: { cookie } });
      cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
      return response.json();
    };
  };

  const checks = {
    async sessions_are_kept_apart() {
      const [first, second] = [visitor(), visitor()];
      assert.equal(await first("/visit"), 1);
      assert.equal(await first("/visit"), 2);
      assert.equal(await second("/visit"), 1);
      assert.equal(await first("/visit"), 3);
      assert.equal((await client.keys("session:*")).length, 2);
      assert.equal(await store.length(), 2);
    },

    async sessions_expire_and_end() {
      const visit = visitor();
      await visit("/visit");
      const [key] = await client.keys("session:*");
      const ttl = await client.ttl(key);
      assert.ok(ttl > 900 && ttl <= 1000, `${ttl}`);
      assert.equal(await visit("/leave"), "left");
      assert.equal(await client.exists(key), 0);
      assert.equal(await visit("/visit"), 1);
    },
  };

  await run(() => client.flushAll(), checks);
  web.close();
  web.closeAllConnections();
  client.destroy();
};

main();
