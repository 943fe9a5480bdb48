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

  const whole = (value, least, what) => {
    if (typeof value !== 'number') throw new TypeError(`${what} must be a number`);
    if (!Number.isInteger(value) || value < least || value > 0xffffffff) {
      throw new RangeError(`${what} must be a whole number from ${least} to 4294967295`);
    }
    return value;
  };

  const pbkdf2Sync = (password, salt, iterations, keyLength, digest) => {
    if (typeof digest !== 'string') throw new TypeError('The digest must be its name');
    const times = whole(iterations, 1, 'The number of iterations');
    const length = whole(keyLength, 0, 'The length of the key');
    return adopt(native.pbkdf2(bytesOf(password, 'The password'), bytesOf(salt, 'The salt'), times, length, text(digest)));
  };

  const scryptSync = (password, salt, keyLength, options = {}) => {
    const cost = whole(options.N ?? options.cost ?? 16384, 2, 'The cost');
    const blockSize = whole(options.r ?? options.blockSize ?? 8, 1, 'The size of blocks');
    const parallelization = whole(options.p ?? options.parallelization ?? 1, 1, 'The parallelization');
    const memory = whole(options.maxmem ?? 32 * 1024 * 1024, 0, 'The most memory');
    const length = whole(keyLength, 0, 'The length of the key');
    const parameters = [cost, blockSize, parallelization, memory];
    return adopt(native.scrypt(bytesOf(password, 'The password'), bytesOf(salt, 'The salt'), parameters, length));
  };

  // The form of a function that answers by the callback that is its last argument.
  const called = (make) => (...args) => {
    const callback = args.pop();
    if (typeof callback !== 'function') throw new TypeError('The callback must be a function');
    return answer(callback, () => make(...args));
  };

  const constants = { RSA_PKCS1_PADDING: 1, RSA_PKCS1_OAEP_PADDING: 4 };

  // By RSA, with the padding that is given beside the key.
  const rsa = (work) => (key, message) => {
    const { padding = constants.RSA_PKCS1_OAEP_PADDING, oaepHash = 'sha1', oaepLabel } = Object(key);
    if (!Object.values(constants).includes(padding)) {
      throw new TypeError('The padding must be RSA_PKCS1_PADDING or RSA_PKCS1_OAEP_PADDING of the constants');
    }
    const digest = padding === constants.RSA_PKCS1_OAEP_PADDING ? text(oaepHash) : '';
    const label = oaepLabel === undefined ? new Uint8Array(0) : bytesOf(oaepLabel, 'The label');
    return adopt(work(pem(key), digest, bytesOf(message, 'The message'), label));
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
    pbkdf2: called(pbkdf2Sync),
    pbkdf2Sync,
    scrypt: called(scryptSync),
    scryptSync,
    publicEncrypt: rsa(native.rsaEncrypt),
    privateDecrypt: rsa(native.rsaDecrypt),
    constants,
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
