(function (native, load) {
  const { domError } = load('bytes');

  const ERRORS = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

  const uncloneable = (what) => domError('DataCloneError', `${what} cannot be cloned`);

  // `copies` has what was cloned already, so that what refers to itself still does.
  const clone = (value, copies) => {
    if (typeof value === 'symbol') throw uncloneable(String(value));
    if (typeof value === 'function') throw uncloneable(`The function ${value.name || '(anonymous)'}`);
    if (value === null || typeof value !== 'object') return value;
    if (copies.has(value)) return copies.get(value);
    const remember = (copy) => {
      copies.set(value, copy);
      return copy;
    };
    if (Array.isArray(value)) return properties(value, remember(new Array(value.length)), copies);
    if (value instanceof Date) return remember(new Date(value.getTime()));
    if (value instanceof RegExp) return remember(new RegExp(value.source, value.flags));
    if (value instanceof ArrayBuffer) return remember(value.slice(0));
    if (ArrayBuffer.isView(value)) {
      const buffer = clone(value.buffer, copies);
      const length = value instanceof DataView ? value.byteLength : value.length;
      return remember(new (viewClass(value))(buffer, value.byteOffset, length));
    }
    if (value instanceof Map) {
      const copy = remember(new Map());
      for (const [key, item] of [...value]) copy.set(clone(key, copies), clone(item, copies));
      return copy;
    }
    if (value instanceof Set) {
      const copy = remember(new Set());
      for (const item of [...value]) copy.add(clone(item, copies));
      return copy;
    }
    if (value instanceof Error) return cloneError(value, remember, copies);
    for (const Boxed of [Boolean, Number, String, BigInt]) {
      if (value instanceof Boxed) return remember(Object(value.valueOf()));
    }
    for (const Uncloneable of [Promise, WeakMap, WeakSet, WeakRef]) {
      if (value instanceof Uncloneable) throw uncloneable(`A ${Uncloneable.name}`);
    }
    // A BSON value stays one.
    if (typeof value._bsontype === 'string') {
      const copy = remember(Object.create(Object.getPrototypeOf(value)));
      for (const key of Object.getOwnPropertySymbols(value)) copy[key] = clone(value[key], copies);
      return properties(value, copy, copies);
    }
    return properties(value, remember({}), copies);
  };

  const properties = (value, copy, copies) => {
    for (const key of Object.keys(value)) {
      // Not by assignment, which would take `__proto__` for the prototype.
      Object.defineProperty(copy, key, {
        value: clone(value[key], copies),
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
    return copy;
  };

  // The standard's class of a view: a Buffer is cloned as the Uint8Array that it is.
  const viewClass = (value) => {
    if (value instanceof DataView) return DataView;
    return globalThis[value[Symbol.toStringTag]];
  };

  const cloneError = (value, remember, copies) => {
    const Class = ERRORS[value.name] ?? Error;
    const copy = remember(Object.create(Class.prototype));
    const hidden = (name, item) =>
      Object.defineProperty(copy, name, { value: item, writable: true, enumerable: false, configurable: true });
    hidden('stack', String(value.stack ?? ''));
    hidden('message', String(value.message));
    if (Object.hasOwn(value, 'cause')) hidden('cause', clone(value.cause, copies));
    return copy;
  };

  const structuredClone = (...args) => {
    if (args.length === 0) throw new TypeError('structuredClone needs a value');
    const [value, options] = args;
    const transferred = [...(options?.transfer ?? [])];
    for (const buffer of transferred) {
      if (!(buffer instanceof ArrayBuffer)) throw domError('DataCloneError', 'Only an ArrayBuffer can be transferred');
    }
    const copy = clone(value, new Map());
    for (const buffer of transferred) buffer.transfer();
    return copy;
  };

  return { structuredClone };
})
