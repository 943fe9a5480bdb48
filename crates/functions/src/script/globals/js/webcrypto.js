(function (native, load) {
  const { view, domError } = load('bytes');

  const MOST = 65536;
  const DIGESTS = { __proto__: null, 'SHA-1': 'sha1', 'SHA-256': 'sha256', 'SHA-384': 'sha384', 'SHA-512': 'sha512' };

  const getRandomValues = (array) => {
    const integers = ArrayBuffer.isView(array) && !(array instanceof DataView) && !/^Float/.test(array[Symbol.toStringTag]);
    if (!integers) throw domError('TypeMismatchError', 'Random values need an array of integers');
    if (array.byteLength > MOST) {
      throw domError('QuotaExceededError', `At most ${MOST} random bytes are given at once, not ${array.byteLength}`);
    }
    native.fillRandom(view(array));
    return array;
  };

  const subtle = {
    async digest(algorithm, data) {
      const name = String(typeof algorithm === 'object' ? algorithm?.name : algorithm).toUpperCase();
      const digest = DIGESTS[name];
      if (!digest) {
        const known = Object.keys(DIGESTS).join(', ');
        throw domError('NotSupportedError', `There is no digest ${JSON.stringify(name)}; known are ${known}`);
      }
      const bytes = view(data);
      if (!bytes) throw new TypeError('The data must be an ArrayBuffer or a view of one');
      const hasher = native.hasher(digest);
      hasher.update(bytes);
      return hasher.finish().buffer;
    },
  };

  return { crypto: { getRandomValues, randomUUID: () => native.randomUuid(), subtle } };
})
