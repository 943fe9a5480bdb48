(function (native, load) {
  const { inspect } = load('inspect');
  const { isDeepEqual, isDeepStrictEqual, isLooselyEqual } = load('equality');

  class AssertionError extends Error {
    constructor(options) {
      const { message, actual, expected, operator } = options;
      super(message ?? `${inspect(actual)} ${operator} ${inspect(expected)}`);
      this.name = 'AssertionError';
      this.code = 'ERR_ASSERTION';
      this.generatedMessage = message === undefined;
      this.actual = actual;
      this.expected = expected;
      this.operator = operator;
    }
  }

  const refuse = (message, actual, expected, operator) => {
    if (message instanceof Error) throw message;
    throw new AssertionError({ message, actual, expected, operator });
  };

  const ok = (value, message) => {
    if (!value) refuse(message ?? `The value ${inspect(value)} is not truthy`, value, true, '==');
  };
  const assert = (value, message) => ok(value, message);

  const comparison = (operator, holds) => (actual, expected, message) => {
    if (!holds(actual, expected)) refuse(message, actual, expected, operator);
  };
  const not = (holds) => (actual, expected) => !holds(actual, expected);

  // Whether what was thrown is as expected: a class, a pattern, properties, or a function that decides.
  const check = (thrown, expected, message, operator) => {
    if (expected === undefined) return;
    if (expected instanceof RegExp) {
      if (!expected.test(String(thrown))) refuse(message, thrown, expected, operator);
    } else if (typeof expected === 'function') {
      if (expected.prototype !== undefined && thrown instanceof expected) return;
      if (expected === Error || Error.prototype.isPrototypeOf(expected.prototype)) throw thrown;
      if (expected.call({}, thrown) !== true) refuse(message, thrown, expected, operator);
    } else {
      for (const name of new Set([...Object.keys(expected), ...(expected instanceof Error ? ['name', 'message'] : [])])) {
        const fits =
          expected[name] instanceof RegExp && typeof thrown?.[name] === 'string'
            ? expected[name].test(thrown[name])
            : isDeepStrictEqual(thrown?.[name], expected[name]);
        if (!fits) refuse(message, thrown, expected, operator);
      }
    }
  };

  // The message may stand where what is expected does.
  const expectation = (expected, message) => (typeof expected === 'string' ? [undefined, expected] : [expected, message]);

  const promiseOf = (value) => (typeof value === 'function' ? value() : value);

  const methods = {
    ok,
    fail: (message = 'Failed') => refuse(message, undefined, undefined, 'fail'),
    equal: comparison('==', isLooselyEqual),
    notEqual: comparison('!=', not(isLooselyEqual)),
    strictEqual: comparison('strictEqual', Object.is),
    notStrictEqual: comparison('notStrictEqual', not(Object.is)),
    deepEqual: comparison('deepEqual', isDeepEqual),
    notDeepEqual: comparison('notDeepEqual', not(isDeepEqual)),
    deepStrictEqual: comparison('deepStrictEqual', isDeepStrictEqual),
    notDeepStrictEqual: comparison('notDeepStrictEqual', not(isDeepStrictEqual)),
    match: (string, pattern, message) => {
      if (typeof string !== 'string' || !pattern.test(string)) refuse(message, string, pattern, 'match');
    },

    doesNotMatch: (string, pattern, message) => {
      if (typeof string === 'string' && pattern.test(string)) refuse(message, string, pattern, 'doesNotMatch');
    },

    throws(block, ...rest) {
      const [expected, message] = expectation(...rest);
      let thrown;
      try {
        block();
      } catch (error) {
        thrown = { error };
      }
      if (!thrown) refuse(message ?? 'Nothing was thrown', undefined, expected, 'throws');
      check(thrown.error, expected, message, 'throws');
    },

    doesNotThrow(block, ...rest) {
      const [, message] = expectation(...rest);
      try {
        block();
      } catch (error) {
        refuse(message ?? `Something was thrown: ${inspect(error)}`, error, undefined, 'doesNotThrow');
      }
    },

    async rejects(promise, ...rest) {
      const [expected, message] = expectation(...rest);
      let thrown;
      try {
        await promiseOf(promise);
      } catch (error) {
        thrown = { error };
      }
      if (!thrown) refuse(message ?? 'The promise was not rejected', undefined, expected, 'rejects');
      check(thrown.error, expected, message, 'rejects');
    },

    async doesNotReject(promise, ...rest) {
      const [, message] = expectation(...rest);
      try {
        await promiseOf(promise);
      } catch (error) {
        refuse(message ?? `The promise was rejected: ${inspect(error)}`, error, undefined, 'doesNotReject');
      }
    },

    ifError(value) {
      if (value === null || value === undefined) return;
      throw value instanceof Error ? value : new AssertionError({ actual: value, expected: null, operator: 'ifError' });
    },
    AssertionError,
  };
  Object.assign(assert, methods);

  const strict = (value, message) => ok(value, message);
  Object.assign(strict, methods, {
    equal: methods.strictEqual,
    notEqual: methods.notStrictEqual,
    deepEqual: methods.deepStrictEqual,
    notDeepEqual: methods.notDeepStrictEqual,
  });
  strict.strict = strict;
  assert.strict = strict;
  return assert;
})
