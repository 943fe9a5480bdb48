(function () {
  // As the global ones are when they are called.
  const timers = {};
  for (const name of ['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate']) {
    Object.defineProperty(timers, name, { get: () => globalThis[name], enumerable: true, configurable: true });
  }
  return timers;
})
