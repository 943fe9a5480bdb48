// The console, the timers, and what else belongs to the run whose code executes.
(function (host, { format, inspect }) {
  const console = {};
  for (const level of ["log", "info", "warn", "error", "debug"]) {
    console[level] = (...args) => host.print(level, format(...args));
  }
  console.dir = (value) => host.print("log", inspect(value));
  console.trace = (...args) => host.print("debug", `Trace: ${format(...args)}\n${host.userStack(new Error().stack)}`);
  console.assert = (condition, ...args) => {
    if (!condition) host.print("error", args.length === 0 ? "Assertion failed" : `Assertion failed: ${format(...args)}`);
  };

  const timers = new Map();

  function start(callback, delay, repeats, args) {
    if (typeof callback !== "function") throw new TypeError("the callback of a timer must be a function");
    const id = host.timer(Number(delay), repeats);
    timers.set(id, { callback, args, repeats });
    return id;
  }

  function clear(id) {
    if (timers.delete(id)) host.clearTimer(id);
  }

  const globals = {
    console,
    global: globalThis,
    setTimeout: (callback, delay, ...args) => start(callback, delay, false, args),
    setInterval: (callback, delay, ...args) => start(callback, delay, true, args),
    setImmediate: (callback, ...args) => start(callback, 0, false, args),
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: clear,
    // An error of the callback is an unhandled rejection.
    queueMicrotask: (callback) => {
      if (typeof callback !== "function") throw new TypeError("the callback must be a function");
      Promise.resolve().then(() => callback());
    },
    process: {
      env: {},
      argv: [],
      platform: "linux",
      nextTick: (callback, ...args) => void Promise.resolve().then(() => callback(...args)),
    },
  };
  // `util.promisify` makes of them what is awaited.
  const PROMISIFIED = Symbol.for("nodejs.util.promisify.custom");
  const promised = {
    setTimeout: (delay, value) => new Promise((resolve) => start(resolve, delay, false, [value])),
    setImmediate: (value) => new Promise((resolve) => start(resolve, 0, false, [value])),
  };
  for (const [name, value] of Object.entries(promised)) {
    Object.defineProperty(globals[name], PROMISIFIED, { value, configurable: true });
  }
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }
  Error.stackTraceLimit = 30;

  return {
    fire(id) {
      const timer = timers.get(id);
      if (timer === undefined) return;
      if (!timer.repeats) timers.delete(id);
      timer.callback(...timer.args);
    },
    forgetTimers: () => timers.clear(),
  };
})
