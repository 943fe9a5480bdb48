(function (native, load) {
  const { inspect, format } = load('inspect');
  const { isDeepStrictEqual } = load('equality');
  const { TextEncoder, TextDecoder } = load('text');
  const { Buffer } = load('buffer');

  const PROMISIFIED = Symbol.for('nodejs.util.promisify.custom');

  const callable = (value, what) => {
    if (typeof value !== 'function') throw new TypeError(`${what} must be a function`);
  };

  const promisify = (original) => {
    callable(original, 'What is promisified');
    if (original[PROMISIFIED]) return original[PROMISIFIED];
    const promisified = function (...args) {
      return new Promise((resolve, reject) => {
        original.call(this, ...args, (error, value) => (error ? reject(error) : resolve(value)));
      });
    };
    Object.setPrototypeOf(promisified, Object.getPrototypeOf(original));
    return Object.defineProperties(promisified, {
      ...Object.getOwnPropertyDescriptors(original),
      [PROMISIFIED]: { value: promisified, configurable: true },
    });
  };
  promisify.custom = PROMISIFIED;

  const callbackify = (original) => {
    callable(original, 'What is callbackified');
    return function (...args) {
      const callback = args.pop();
      callable(callback, 'The last argument');
      const { nextTick } = load('process').process;
      original.apply(this, args).then(
        (value) => nextTick(callback, null, value),
        (reason) => nextTick(callback, reason || Object.assign(new Error('Promise was rejected with a falsy value'), { reason })),
      );
    };
  };

  const inherits = (constructor, parent) => {
    callable(constructor, 'The constructor');
    callable(parent, 'The parent');
    Object.defineProperty(constructor, 'super_', { value: parent, writable: true, configurable: true });
    Object.setPrototypeOf(constructor.prototype, parent.prototype);
  };

  const deprecate = (original, message) => {
    let warned = false;
    return function (...args) {
      if (!warned) globalThis.console?.warn?.(`DeprecationWarning: ${message}`);
      warned = true;
      return new.target ? Reflect.construct(original, args, new.target) : original.apply(this, args);
    };
  };

  const tagged = (value, tag) => Object.prototype.toString.call(value) === `[object ${tag}]`;
  const instance = (Class) => (value) => value instanceof Class;
  const boxed = [Boolean, Number, String, BigInt, Symbol].map(instance);

  const types = {
    isAnyArrayBuffer: instance(ArrayBuffer),
    isArrayBuffer: instance(ArrayBuffer),
    isArrayBufferView: ArrayBuffer.isView,
    isAsyncFunction: (value) => typeof value === 'function' && /^Async/.test(value[Symbol.toStringTag] ?? ''),
    isBoxedPrimitive: (value) => boxed.some((is) => is(value)),
    isDataView: instance(DataView),
    isDate: instance(Date),
    isGeneratorFunction: (value) => typeof value === 'function' && /GeneratorFunction$/.test(value[Symbol.toStringTag] ?? ''),
    isGeneratorObject: (value) => tagged(value, 'Generator') || tagged(value, 'AsyncGenerator'),
    isMap: instance(Map),
    isNativeError: instance(Error),
    isPromise: instance(Promise),
    isRegExp: instance(RegExp),
    isSet: instance(Set),
    isTypedArray: (value) => ArrayBuffer.isView(value) && !(value instanceof DataView),
    isUint8Array: instance(Uint8Array),
    isWeakMap: instance(WeakMap),
    isWeakSet: instance(WeakSet),
  };

  return {
    format,
    inspect,
    promisify,
    callbackify,
    inherits,
    deprecate,
    types,
    isDeepStrictEqual,
    TextEncoder,
    TextDecoder,
    isArray: Array.isArray,
    isBoolean: (value) => typeof value === 'boolean',
    isBuffer: Buffer.isBuffer,
    isDate: types.isDate,
    isError: types.isNativeError,
    isFunction: (value) => typeof value === 'function',
    isNull: (value) => value === null,
    isNullOrUndefined: (value) => value === null || value === undefined,
    isNumber: (value) => typeof value === 'number',
    isObject: (value) => value !== null && typeof value === 'object',
    isPrimitive: (value) => value === null || (typeof value !== 'object' && typeof value !== 'function'),
    isRegExp: types.isRegExp,
    isString: (value) => typeof value === 'string',
    isSymbol: (value) => typeof value === 'symbol',
    isUndefined: (value) => value === undefined,
  };
})
