// Runs named checks one after the other, each on an empty server, and says how many were done.

"use strict";

/** Waits for a promise, and fails with `what` if it does not come in time. */
exports.soon = (what, promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} does not come`)), 120_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

exports.run = async (flush, checks) => {
  for (const [name, check] of Object.entries(checks)) {
    await flush();
    try {
      await exports.soon("its end", check());
    } catch (error) {
      console.error(name, error);
      process.exit(1);
    }
  }
  console.log(Object.keys(checks).length, "checks done");
};
