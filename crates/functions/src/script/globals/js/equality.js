(function () {
  const same = (one, other, strict) => {
    if (strict) return Object.is(one, other);
    // The loose comparison is what is asked for.
    return one == other || (Number.isNaN(one) && Number.isNaN(other));
  };

  const isObject = (value) => value !== null && typeof value === 'object';

  // `pairs` has what is being compared already: where a cycle comes back to it, nothing differs by that.
  const equal = (one, other, strict, pairs) => {
    if (Object.is(one, other)) return true;
    if (!isObject(one) || !isObject(other)) return !isObject(one) && !isObject(other) && same(one, other, strict);
    if (strict && Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) return false;
    const kind = Object.prototype.toString.call(one);
    if (kind !== Object.prototype.toString.call(other) || Array.isArray(one) !== Array.isArray(other)) return false;
    if (pairs.get(one)?.has(other)) return true;
    if (!pairs.has(one)) pairs.set(one, new Set());
    pairs.get(one).add(other);
    return contents(one, other, strict, pairs) && properties(one, other, strict, pairs);
  };

  // What an object holds besides its properties.
  const contents = (one, other, strict, pairs) => {
    if (one instanceof Date) return other instanceof Date && Object.is(one.getTime(), other.getTime());
    if (one instanceof RegExp) return other instanceof RegExp && String(one) === String(other);
    if (one instanceof Error) return other instanceof Error && one.message === other.message && one.name === other.name;
    for (const Boxed of [Boolean, Number, String, BigInt, Symbol]) {
      if (one instanceof Boxed) return other instanceof Boxed && Object.is(one.valueOf(), other.valueOf());
    }
    if (ArrayBuffer.isView(one)) return ArrayBuffer.isView(other) && sameBytes(one, other);
    if (one instanceof ArrayBuffer) return other instanceof ArrayBuffer && sameBytes(new DataView(one), new DataView(other));
    if (one instanceof Map) return other instanceof Map && sameEntries([...one], [...other], strict, pairs);
    if (one instanceof Set) return other instanceof Set && sameEntries([...one], [...other], strict, pairs);
    if (Array.isArray(one)) return one.length === other.length;
    return true;
  };

  const sameBytes = (one, other) => {
    if (one.byteLength !== other.byteLength) return false;
    const [left, right] = [one, other].map((view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    return left.every((byte, at) => byte === right[at]);
  };

  // Whether each entry has its like, in any order.
  const sameEntries = (one, other, strict, pairs) => {
    if (one.length !== other.length) return false;
    const rest = [...other];
    return one.every((entry) => {
      const at = rest.findIndex((candidate) => equal(entry, candidate, strict, new Map(pairs)));
      if (at !== -1) rest.splice(at, 1);
      return at !== -1;
    });
  };

  const properties = (one, other, strict, pairs) => {
    // The elements of a view were compared as bytes.
    if (ArrayBuffer.isView(one)) return true;
    const keys = (value) => {
      // What a BSON value holds is under symbols, and counts in the loose comparison too.
      if (!strict && typeof value._bsontype !== 'string') return Object.keys(value);
      const symbols = Object.getOwnPropertySymbols(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));
      return [...Object.keys(value), ...symbols];
    };
    const names = keys(one);
    if (names.length !== keys(other).length) return false;
    return names.every((name) => Object.hasOwn(other, name) && equal(one[name], other[name], strict, pairs));
  };

  return {
    isDeepEqual: (one, other) => equal(one, other, false, new Map()),
    isDeepStrictEqual: (one, other) => equal(one, other, true, new Map()),
    isLooselyEqual: (one, other) => same(one, other, false),
  };
})
