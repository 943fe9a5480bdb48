(function () {
  // A function and not a class, since what inherits in the old way calls it on itself.
  function EventEmitter() {
    this._events ??= Object.create(null);
  }

  const check = (listener) => {
    if (typeof listener !== 'function') throw new TypeError('The listener must be a function');
  };

  const eventsOf = (emitter) => {
    if (!Object.hasOwn(emitter, '_events') || !emitter._events) emitter._events = Object.create(null);
    return emitter._events;
  };

  const add = (emitter, name, listener, first) => {
    check(listener);
    const events = eventsOf(emitter);
    if (events.newListener) emitter.emit('newListener', name, listener.listener ?? listener);
    const listeners = events[name] ?? [];
    events[name] = first ? [listener, ...listeners] : [...listeners, listener];
    return emitter;
  };

  const once = (emitter, name, listener) => {
    check(listener);
    const wrapped = (...args) => {
      emitter.removeListener(name, wrapped);
      return listener.apply(emitter, args);
    };
    wrapped.listener = listener;
    return wrapped;
  };

  const methods = {
    on(name, listener) {
      return add(this, name, listener, false);
    },

    prependListener(name, listener) {
      return add(this, name, listener, true);
    },

    once(name, listener) {
      return this.on(name, once(this, name, listener));
    },

    prependOnceListener(name, listener) {
      return this.prependListener(name, once(this, name, listener));
    },

    off(name, listener) {
      check(listener);
      const events = eventsOf(this);
      const listeners = events[name] ?? [];
      const at = listeners.findLastIndex((known) => known === listener || known.listener === listener);
      if (at === -1) return this;
      // A new array, since an event under way goes through the old one.
      events[name] = listeners.toSpliced(at, 1);
      if (events[name].length === 0) delete events[name];
      if (events.removeListener) this.emit('removeListener', name, listener);
      return this;
    },

    removeAllListeners(name) {
      const events = eventsOf(this);
      for (const known of name === undefined ? Reflect.ownKeys(events) : [name]) {
        if (name === undefined && known === 'removeListener') continue;
        for (const listener of (events[known] ?? []).toReversed()) this.off(known, listener);
      }
      if (name === undefined) this._events = Object.create(null);
      return this;
    },

    emit(name, ...args) {
      const listeners = eventsOf(this)[name];
      if (listeners) {
        for (const listener of listeners) listener.apply(this, args);
        return true;
      }
      if (name !== 'error') return false;
      if (args[0] instanceof Error) throw args[0];
      const error = new Error(`Nobody listens for the error ${String(args[0])}`);
      error.context = args[0];
      throw error;
    },

    listeners(name) {
      return this.rawListeners(name).map((listener) => listener.listener ?? listener);
    },

    rawListeners(name) {
      return [...(eventsOf(this)[name] ?? [])];
    },

    listenerCount(name) {
      return this.rawListeners(name).length;
    },

    eventNames() {
      return Reflect.ownKeys(eventsOf(this));
    },

    // How many listeners an event has is not limited here, only remembered.
    setMaxListeners(most) {
      this._maxListeners = most;
      return this;
    },

    getMaxListeners() {
      return this._maxListeners ?? EventEmitter.defaultMaxListeners;
    },
  };
  methods.addListener = methods.on;
  methods.removeListener = methods.off;
  for (const name of Object.keys(methods)) {
    Object.defineProperty(EventEmitter.prototype, name, { value: methods[name], writable: true, configurable: true });
  }

  EventEmitter.defaultMaxListeners = 10;
  EventEmitter.EventEmitter = EventEmitter;
  EventEmitter.listenerCount = (emitter, name) => emitter.listenerCount(name);
  EventEmitter.once = (emitter, name) =>
    new Promise((resolve, reject) => {
      const settled = (...args) => {
        emitter.removeListener('error', failed);
        resolve(args);
      };
      const failed = (error) => {
        emitter.removeListener(name, settled);
        reject(error);
      };
      emitter.once(name, settled);
      if (name !== 'error') emitter.once('error', failed);
    });
  return EventEmitter;
})
