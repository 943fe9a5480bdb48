(function (native) {
  const enqueue = globalThis.queueMicrotask ?? ((task) => Promise.resolve().then(task));

  const hrtime = (since) => {
    const now = native.now();
    let seconds = Math.floor(now / 1000);
    let nanoseconds = Math.floor((now % 1000) * 1e6);
    if (since !== undefined) {
      seconds -= since[0];
      nanoseconds -= since[1];
      if (nanoseconds < 0) {
        seconds -= 1;
        nanoseconds += 1e9;
      }
    }
    return [seconds, nanoseconds];
  };
  hrtime.bigint = () => BigInt(Math.floor(native.now() * 1e6));

  // The environment of the server is none of a function's business, so `env` is empty.
  const process = {
    env: {},
    version: 'v10.18.1',
    versions: { node: '10.18.1' },
    hrtime,
    nextTick(callback, ...args) {
      if (typeof callback !== 'function') throw new TypeError('The callback must be a function');
      enqueue(() => callback(...args));
    },
  };

  return { process };
})
