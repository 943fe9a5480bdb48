(function (native) {
  // Native text is UTF-8, in which half a surrogate pair cannot be written.
  const text = (value) => String(value).toWellFormed();

  const isBinary = (value) => {
    const Binary = globalThis.BSON?.Binary;
    return typeof Binary === 'function' && value instanceof Binary;
  };

  // The bytes of a view, an ArrayBuffer or a BSON.Binary, without a copy; undefined for anything else.
  const view = (value) => {
    if (value instanceof Uint8Array) return value;
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    if (isBinary(value)) return view(value.buffer);
    return undefined;
  };

  const encodeUtf16 = (string) => {
    const bytes = new Uint8Array(string.length * 2);
    for (let at = 0; at < string.length; at++) {
      const unit = string.charCodeAt(at);
      bytes[at * 2] = unit & 0xff;
      bytes[at * 2 + 1] = unit >> 8;
    }
    return bytes;
  };

  const decodeUtf16 = (bytes) => {
    const pieces = [];
    const end = bytes.length - (bytes.length % 2);
    for (let start = 0; start < end; start += 4096) {
      const units = [];
      for (let at = start; at < Math.min(start + 4096, end); at += 2) units.push(bytes[at] | (bytes[at + 1] << 8));
      pieces.push(String.fromCharCode(...units));
    }
    return pieces.join('');
  };

  const encodeLatin1 = (string) => {
    // Half a surrogate pair is a unit like any other here, but would not pass into native text.
    if (string.isWellFormed()) return native.latin1Encode(string);
    return Uint8Array.from(string.split(''), (unit) => unit.charCodeAt(0));
  };

  const utf8 = { encode: (string) => native.utf8Encode(text(string)), decode: native.utf8Decode };
  const utf16 = { encode: encodeUtf16, decode: decodeUtf16 };
  const latin1 = { encode: encodeLatin1, decode: native.latin1Decode };
  const encodings = {
    __proto__: null,
    utf8,
    'utf-8': utf8,
    hex: { encode: (string) => native.hexDecode(text(string)), decode: native.hexEncode },
    base64: {
      encode: (string) => native.base64Decode(text(string)),
      decode: (bytes) => native.base64Encode(bytes, false),
    },
    base64url: {
      encode: (string) => native.base64Decode(text(string)),
      decode: (bytes) => native.base64Encode(bytes, true),
    },
    latin1,
    binary: latin1,
    ascii: { encode: encodeLatin1, decode: (bytes) => native.latin1Decode(bytes.map((byte) => byte & 0x7f)) },
    utf16le: utf16,
    'utf-16le': utf16,
    ucs2: utf16,
    'ucs-2': utf16,
  };
  const known = (name) => encodings[String(name).toLowerCase()];
  const encoding = (name = 'utf8') => {
    const found = known(name ?? 'utf8');
    if (found) return found;
    throw new TypeError(`Unknown encoding: ${String(name)}; known are ${Object.keys(encodings).join(', ')}`);
  };

  // The bytes of what may also be a string, in an encoding.
  const bytesOf = (value, what, name) => {
    if (typeof value === 'string') return encoding(name).encode(value);
    const bytes = view(value);
    if (bytes) return bytes;
    throw new TypeError(`${what} must be a string, a Buffer, a typed array, an ArrayBuffer or a BSON.Binary`);
  };

  const concat = (list) => {
    let length = 0;
    for (const bytes of list) length += bytes.length;
    const all = new Uint8Array(length);
    let at = 0;
    for (const bytes of list) {
      all.set(bytes, at);
      at += bytes.length;
    }
    return all;
  };

  // How many bytes at the end of UTF-16 wait for more: half a unit, half a pair.
  const utf16Unfinished = (bytes) => {
    const odd = bytes.length % 2;
    const last = bytes.length - odd - 1;
    return odd + (last > 0 && bytes[last] >= 0xd8 && bytes[last] <= 0xdb ? 2 : 0);
  };

  const domError = (name, message) => {
    if (typeof DOMException === 'function') {
      const error = new DOMException(message, name);
      error.stack = `${name}: ${message}\n${error.stack}`.trimEnd();
      return error;
    }
    const error = new Error(message);
    error.name = name;
    return error;
  };

  return {
    text,
    view,
    isBinary,
    bytesOf,
    concat,
    utf16Unfinished,
    domError,
    encode: (string, name) => encoding(name).encode(string),
    decode: (bytes, name) => encoding(name).decode(bytes),
    isEncoding: (name) => typeof name === 'string' && known(name) !== undefined,
  };
})
