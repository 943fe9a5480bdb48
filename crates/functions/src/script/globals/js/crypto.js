(function (native, load) {
  const { bytesOf, concat, text } = load('bytes');
  const { Buffer, adopt } = load('buffer');
  const { StringDecoder } = load('string_decoder');
  const { crypto: webcrypto } = load('webcrypto');

  const output = (bytes, encoding) => {
    const buffer = adopt(bytes);
    return encoding === undefined || encoding === 'buffer' ? buffer : buffer.toString(encoding);
  };

  class Hash {
    #hasher;

    constructor(hasher) {
      this.#hasher = hasher;
    }

    update(data, encoding) {
      this.#hasher.update(bytesOf(data, 'The data', encoding));
      return this;
    }

    digest(encoding) {
      return output(this.#hasher.finish(), encoding);
    }
  }

  class Hmac extends Hash {}

  class Cipher {
    #cipher;
    #decoder;

    constructor(cipher) {
      this.#cipher = cipher;
    }

    // Text is given out in whole characters, or whole groups of Base64, across all calls.
    #give(bytes, encoding, last) {
      if (encoding === undefined || encoding === 'buffer') return adopt(bytes);
      this.#decoder ??= new StringDecoder(encoding);
      return last ? this.#decoder.end(bytes) : this.#decoder.write(bytes);
    }

    update(data, inputEncoding, outputEncoding) {
      return this.#give(this.#cipher.update(bytesOf(data, 'The data', inputEncoding)), outputEncoding, false);
    }

    final(outputEncoding) {
      return this.#give(this.#cipher.finish(), outputEncoding, true);
    }
  }

  class Decipher extends Cipher {}

  const cipher = (Class, encrypts) => (algorithm, key, iv) =>
    new Class(native.cipher(text(algorithm), bytesOf(key, 'The key'), bytesOf(iv, 'The initialization vector'), encrypts));

  const SIGNATURES = {
    __proto__: null,
    'rsa-sha256': 'RS256',
    sha256: 'RS256',
    'rsa-sha384': 'RS384',
    sha384: 'RS384',
    'rsa-sha512': 'RS512',
    sha512: 'RS512',
  };

  const signature = (algorithm) => {
    const method = SIGNATURES[String(algorithm).toLowerCase()];
    if (method) return method;
    const known = Object.keys(SIGNATURES).join(', ');
    throw new TypeError(`There is no signature ${JSON.stringify(String(algorithm))}; known are ${known}`);
  };

  const pem = (key) => {
    const given = key !== null && typeof key === 'object' && 'key' in key ? key.key : key;
    return native.utf8Decode(bytesOf(given, 'The key'));
  };

  class Sign {
    #method;
    #parts = [];

    constructor(algorithm) {
      this.#method = signature(algorithm);
    }

    update(data, encoding) {
      // A copy, since what was given may change before it is signed.
      this.#parts.push(Uint8Array.from(bytesOf(data, 'The data', encoding)));
      return this;
    }

    sign(privateKey, encoding) {
      return output(native.sign(this.#method, pem(privateKey), concat(this.#parts)), encoding);
    }
  }

  class Verify {
    #method;
    #parts = [];

    constructor(algorithm) {
      this.#method = signature(algorithm);
    }

    update(data, encoding) {
      this.#parts.push(Uint8Array.from(bytesOf(data, 'The data', encoding)));
      return this;
    }

    verify(publicKey, signed, encoding) {
      return native.verify(this.#method, pem(publicKey), concat(this.#parts), bytesOf(signed, 'The signature', encoding));
    }
  }

  const answer = (callback, make) => {
    if (callback === undefined) return make();
    if (typeof callback !== 'function') throw new TypeError('The callback must be a function');
    const made = make();
    load('process').process.nextTick(callback, null, made);
    return undefined;
  };

  const randomBytes = (size, callback) =>
    answer(callback, () => {
      const bytes = Buffer.alloc(size);
      native.fillRandom(bytes);
      return bytes;
    });

  // The least integer is part of the range, the greatest is not.
  const randomInt = (first, second, third) => {
    const ranged = typeof second === 'number';
    const [least, most, callback] = ranged ? [first, second, third] : [0, first, second];
    if (!Number.isSafeInteger(least) || !Number.isSafeInteger(most)) throw new TypeError('The range must be of integers');
    const range = most - least;
    if (!(range > 0 && range <= 2 ** 48)) throw new RangeError('The range must hold from 1 to 2^48 integers');
    return answer(callback, () => {
      // What is beyond the last whole range would favour small numbers.
      const end = 2 ** 48 - (2 ** 48 % range);
      for (;;) {
        const drawn = randomBytes(6).readUIntBE(0, 6);
        if (drawn < end) return least + (drawn % range);
      }
    });
  };

  const randomFillSync = (target, offset = 0, size = undefined) => {
    const bytes = bytesOf(target, 'The target');
    native.fillRandom(bytes.subarray(offset, size === undefined ? undefined : offset + size));
    return target;
  };

  const timingSafeEqual = (one, other) => {
    const [left, right] = [bytesOf(one, 'The first argument'), bytesOf(other, 'The second argument')];
    if (left.length !== right.length) throw new RangeError('The arguments must have the same length');
    return native.equalInConstantTime(left, right);
  };

  return {
    createHash: (algorithm) => new Hash(native.hasher(text(algorithm))),
    createHmac: (algorithm, key) => new Hmac(native.keyedHasher(text(algorithm), bytesOf(key, 'The key'))),
    createCipheriv: cipher(Cipher, true),
    createDecipheriv: cipher(Decipher, false),
    createSign: (algorithm) => new Sign(algorithm),
    createVerify: (algorithm) => new Verify(algorithm),
    getHashes: () => [...native.digestNames],
    getCiphers: () => [...native.cipherNames],
    randomBytes,
    randomInt,
    randomFillSync,
    randomUUID: webcrypto.randomUUID,
    timingSafeEqual,
    getRandomValues: webcrypto.getRandomValues,
    subtle: webcrypto.subtle,
    webcrypto,
    Hash,
    Hmac,
  };
})
