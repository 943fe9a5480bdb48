(function (native, load) {
  const { bytesOf, isBinary, text, view } = load('bytes');

  const binary = (bytes) => globalThis.BSON.Binary.fromBase64(native.base64Encode(bytes, false), 0);

  const string = (value, what) => {
    if (typeof value === 'string') return text(value);
    throw new TypeError(`${what} must be a string`);
  };

  const binaryBytes = (value, what) => {
    if (isBinary(value)) return view(value);
    throw new TypeError(`${what} must be a BSON.Binary`);
  };

  const only = (what, given, known) => {
    if (given === known) return;
    throw new TypeError(`There is no encryption type ${JSON.stringify(given)} to ${what} with; known is ${known}`);
  };

  const object = (value, what) => {
    const json = value !== null && typeof value === 'object' && !Array.isArray(value) ? JSON.stringify(value) : '';
    if (json?.startsWith('{')) return text(json);
    throw new TypeError(`${what} must be an object`);
  };

  const SCHEMES = { __proto__: null, pss: 'PS256', pkcs1v15: 'RS256' };

  const scheme = (name) => {
    const method = SCHEMES[name];
    if (method) return method;
    const known = Object.keys(SCHEMES).join(', ');
    throw new TypeError(`There is no signature scheme ${JSON.stringify(name)}; known are ${known}`);
  };

  const finish = (hasher, input) => {
    hasher.update(bytesOf(input, 'The input'));
    return hasher.finish();
  };

  const jwt = {
    encode(signingMethod, payload, secret, customHeaderFields) {
      return native.jwtEncode(
        string(signingMethod, 'The signing method'),
        object(payload, 'The payload'),
        string(secret, 'The secret'),
        object(customHeaderFields ?? {}, 'The custom header fields'),
      );
    },

    decode(jwtString, key, returnHeader = false, acceptedSigningMethods = undefined) {
      const token = string(jwtString, 'The token');
      const secret = string(key, 'The key');
      let sections;
      if (acceptedSigningMethods === undefined || acceptedSigningMethods === null) {
        sections = native.jwtDecode(token, secret);
      } else {
        if (!Array.isArray(acceptedSigningMethods)) {
          throw new TypeError('The accepted signing methods must be an array of strings');
        }
        const accepted = acceptedSigningMethods.map((method) => string(method, 'An accepted signing method'));
        sections = native.jwtDecode(token, secret, accepted);
      }
      const [header, payload] = sections.map((section) => JSON.parse(section));
      return returnHeader ? { header, payload } : payload;
    },
  };

  const crypto = {
    encrypt(encryptionType, message, key) {
      only('encrypt', encryptionType, 'aes');
      return binary(native.seal(bytesOf(string(key, 'The key')), bytesOf(string(message, 'The message'))));
    },

    decrypt(encryptionType, encryptedMessage, key) {
      only('decrypt', encryptionType, 'aes');
      const sealed = binaryBytes(encryptedMessage, 'The encrypted message');
      return binary(native.open(bytesOf(string(key, 'The key')), sealed));
    },

    sign(encryptionType, message, privateKey, signatureScheme = 'pss') {
      only('sign', encryptionType, 'rsa');
      const method = scheme(signatureScheme);
      const bytes = bytesOf(string(message, 'The message'));
      return binary(native.sign(method, string(privateKey, 'The private key'), bytes));
    },

    verify(encryptionType, message, publicKey, signature, signatureScheme = 'pss') {
      only('verify', encryptionType, 'rsa');
      const method = scheme(signatureScheme);
      const bytes = bytesOf(string(message, 'The message'));
      const signed = binaryBytes(signature, 'The signature');
      return native.verify(method, string(publicKey, 'The public key'), bytes, signed);
    },

    hmac(input, secret, hashFunction, outputFormat) {
      if (outputFormat !== 'hex' && outputFormat !== 'base64') {
        throw new TypeError(`There is no output format ${JSON.stringify(outputFormat)}; known are hex, base64`);
      }
      const hasher = native.keyedHasher(string(hashFunction, 'The hash function'), bytesOf(secret, 'The secret'));
      const digest = finish(hasher, input);
      return outputFormat === 'hex' ? native.hexEncode(digest) : native.base64Encode(digest, false);
    },

    hash(hashFunction, input) {
      return binary(finish(native.hasher(string(hashFunction, 'The hash function')), input));
    },
  };

  return { utils: { jwt, crypto } };
})
