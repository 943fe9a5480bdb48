(function (native, global, builtins) {
  const parts = Object.create(null);
  const load = (name) => (parts[name] ??= native.source(name)(native, load));

  // A property that gets its value when it is first read, or is simply set.
  const later = (target, name, enumerable, make) => {
    const settle = (value) => {
      Object.defineProperty(target, name, { value, enumerable, writable: true, configurable: true });
      return value;
    };
    Object.defineProperty(target, name, { get: () => settle(make()), set: settle, enumerable, configurable: true });
  };

  const globals = {
    url: ['URL', 'URLSearchParams'],
    text: ['TextEncoder', 'TextDecoder', 'atob', 'btoa'],
    clone: ['structuredClone'],
    buffer: ['Buffer'],
    webcrypto: ['crypto'],
    atlas: ['utils'],
    process: ['process'],
  };
  for (const part of Object.keys(globals)) {
    for (const name of globals[part]) later(global, name, false, () => load(part)[name]);
  }
  Object.defineProperty(global, 'global', { value: global, writable: true, configurable: true });
  if (typeof global.performance?.now !== 'function') {
    const performance = { now: native.now, timeOrigin: Date.now() };
    Object.defineProperty(global, 'performance', { value: performance, writable: true, configurable: true });
  }

  const modules = {
    assert: () => load('assert'),
    buffer: () => ({ Buffer: load('buffer').Buffer, atob: load('text').atob, btoa: load('text').btoa }),
    crypto: () => load('crypto'),
    events: () => load('events'),
    os: () => load('os'),
    path: () => load('path'),
    process: () => load('process').process,
    querystring: () => load('querystring'),
    string_decoder: () => load('string_decoder'),
    timers: () => load('timers'),
    url: () => load('url').module,
    util: () => load('util'),
  };
  for (const name of Object.keys(modules)) later(builtins, name, true, modules[name]);

  // What the network is reached by in Node is told from a file that is missing.
  for (const name of ['http', 'https', 'http2', 'net', 'tls', 'dgram', 'dns']) {
    const refuse = () => {
      const error = new Error(`Cannot find module '${name}': functions reach others by context.http`);
      error.code = 'MODULE_NOT_FOUND';
      throw error;
    };
    Object.defineProperty(builtins, name, { get: refuse, enumerable: false, configurable: true });
  }
})
