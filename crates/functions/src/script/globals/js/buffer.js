(function (native, load) {
  const { text, view, isBinary, encode, decode, isEncoding } = load('bytes');

  const sizeOf = (size) => {
    if (typeof size !== 'number') throw new TypeError('The size of a buffer must be a number');
    if (!(size >= 0 && size <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`A buffer cannot have ${size} bytes`);
    return Math.trunc(size);
  };

  // Where a range of a buffer starts or ends: at most at its end.
  const within = (position, length, missing) => {
    if (position === undefined) return missing;
    const at = Math.trunc(Number(position)) || 0;
    return Math.min(Math.max(at, 0), length);
  };

  const order = (one, other) => {
    const length = Math.min(one.length, other.length);
    for (let at = 0; at < length; at++) {
      if (one[at] !== other[at]) return one[at] < other[at] ? -1 : 1;
    }
    return Math.sign(one.length - other.length);
  };

  const bytesArgument = (value, what) => {
    const bytes = view(value);
    if (!bytes) throw new TypeError(`The ${what} must be a Buffer or a Uint8Array`);
    return bytes;
  };

  class Buffer extends Uint8Array {
    constructor(value, encodingOrOffset, length) {
      if (typeof value === 'string') {
        const bytes = encode(value, encodingOrOffset);
        super(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      } else {
        super(value, encodingOrOffset, length);
      }
    }

    static from(value, encodingOrOffset, length) {
      if (typeof value === 'string') return new Buffer(value, encodingOrOffset);
      if (value instanceof ArrayBuffer) return new Buffer(value, encodingOrOffset, length);
      if (isBinary(value)) return new Buffer(Uint8Array.from(view(value)).buffer);
      if (value !== null && typeof value === 'object') {
        if (value.type === 'Buffer' && Array.isArray(value.data)) return new Buffer(value.data);
        const primitive = value.valueOf?.();
        if (typeof primitive === 'string') return Buffer.from(primitive, encodingOrOffset);
        if (value instanceof Uint8Array) return new Buffer(value);
        if (ArrayBuffer.isView(value) || typeof value.length === 'number') return new Buffer(Array.from(value));
      }
      throw new TypeError('A buffer is made from a string, an array, an ArrayBuffer, a Buffer or a BSON.Binary');
    }

    static alloc(size, fill, encoding) {
      const buffer = new Buffer(sizeOf(size));
      return fill === undefined ? buffer : buffer.fill(fill, encoding);
    }

    static allocUnsafe(size) {
      return new Buffer(sizeOf(size));
    }

    static allocUnsafeSlow(size) {
      return new Buffer(sizeOf(size));
    }

    static byteLength(value, encoding) {
      if (typeof value !== 'string') return bytesArgument(value, 'value').length;
      if (encoding === undefined || /^utf-?8$/i.test(encoding)) return native.utf8Length(text(value));
      return encode(value, encoding).length;
    }

    static isBuffer(value) {
      return value instanceof Buffer;
    }

    static isEncoding(name) {
      return isEncoding(name);
    }

    static compare(one, other) {
      return order(bytesArgument(one, 'first argument'), bytesArgument(other, 'second argument'));
    }

    static concat(list, total) {
      if (!Array.isArray(list)) throw new TypeError('The buffers to concatenate must be an array');
      const parts = list.map((part) => bytesArgument(part, 'element'));
      const buffer = Buffer.alloc(total ?? parts.reduce((length, part) => length + part.length, 0));
      let at = 0;
      for (const part of parts) {
        if (at >= buffer.length) break;
        const fitting = part.subarray(0, buffer.length - at);
        buffer.set(fitting, at);
        at += fitting.length;
      }
      return buffer;
    }

    get parent() {
      return this.buffer;
    }

    toString(encoding, start, end) {
      if (start === undefined && end === undefined) return decode(this, encoding);
      const from = within(start, this.length, 0);
      return decode(this.subarray(from, Math.max(from, within(end, this.length, this.length))), encoding);
    }

    toLocaleString(encoding, start, end) {
      return this.toString(encoding, start, end);
    }

    toJSON() {
      return { type: 'Buffer', data: Array.from(this) };
    }

    equals(other) {
      return order(this, bytesArgument(other, 'other buffer')) === 0;
    }

    compare(target, targetStart, targetEnd, sourceStart, sourceEnd) {
      const other = bytesArgument(target, 'target');
      return order(
        this.subarray(within(sourceStart, this.length, 0), within(sourceEnd, this.length, this.length)),
        other.subarray(within(targetStart, other.length, 0), within(targetEnd, other.length, other.length)),
      );
    }

    slice(start, end) {
      return this.subarray(start, end);
    }

    copy(target, targetStart, sourceStart, sourceEnd) {
      const to = bytesArgument(target, 'target');
      const at = within(targetStart, to.length, 0);
      const source = this.subarray(within(sourceStart, this.length, 0), within(sourceEnd, this.length, this.length));
      const fitting = source.subarray(0, to.length - at);
      to.set(fitting, at);
      return fitting.length;
    }

    write(string, offset, length, encoding) {
      if (typeof string !== 'string') throw new TypeError('What is written must be a string');
      if (typeof offset === 'string') return this.write(string, 0, undefined, offset);
      if (typeof length === 'string') return this.write(string, offset, undefined, length);
      const at = offset ?? 0;
      if (!Number.isInteger(at) || at < 0 || at > this.length) {
        throw new RangeError(`The offset ${at} is outside of the buffer of ${this.length} bytes`);
      }
      const room = Math.min(length ?? Infinity, this.length - at);
      let bytes = encode(string, encoding);
      if (bytes.length > room) {
        let end = room;
        // A character is written whole or not at all.
        const name = (encoding ?? 'utf8').toLowerCase();
        if (name === 'utf8' || name === 'utf-8') end -= native.utf8Unfinished(bytes.subarray(0, room));
        else if (name.startsWith('utf') || name.startsWith('ucs')) end -= room % 2;
        bytes = bytes.subarray(0, end);
      }
      this.set(bytes, at);
      return bytes.length;
    }

    fill(value, offset, end, encoding) {
      if (typeof offset === 'string') return this.fill(value, 0, undefined, offset);
      if (typeof end === 'string') return this.fill(value, offset, undefined, end);
      const from = within(offset, this.length, 0);
      const to = within(end, this.length, this.length);
      if (typeof value !== 'string' && !view(value)) {
        super.fill(Number(value) & 0xff, from, to);
        return this;
      }
      const pattern = typeof value === 'string' ? encode(value, encoding) : view(value);
      if (pattern.length === 0) {
        if (value.length > 0) throw new TypeError('What a buffer is filled with has no bytes in this encoding');
        super.fill(0, from, to);
      }
      for (let at = from; at < to && pattern.length > 0; at += pattern.length) {
        this.set(pattern.subarray(0, to - at), at);
      }
      return this;
    }

    indexOf(value, byteOffset, encoding) {
      if (typeof byteOffset === 'string') return this.indexOf(value, 0, byteOffset);
      const start = startOf(byteOffset, this.length, 0);
      if (typeof value === 'number') return super.indexOf(value & 0xff, start);
      const sought = typeof value === 'string' ? encode(value, encoding) : bytesArgument(value, 'value');
      if (sought.length === 0) return Math.min(start, this.length);
      for (let at = super.indexOf(sought[0], start); at !== -1; at = super.indexOf(sought[0], at + 1)) {
        if (at + sought.length > this.length) break;
        if (order(this.subarray(at, at + sought.length), sought) === 0) return at;
      }
      return -1;
    }

    lastIndexOf(value, byteOffset, encoding) {
      if (typeof byteOffset === 'string') return this.lastIndexOf(value, undefined, byteOffset);
      const end = startOf(byteOffset, this.length, this.length);
      const sought =
        typeof value === 'number'
          ? Uint8Array.of(value)
          : typeof value === 'string'
            ? encode(value, encoding)
            : bytesArgument(value, 'value');
      for (let at = Math.min(end, this.length - sought.length); at >= 0; at--) {
        if (order(this.subarray(at, at + sought.length), sought) === 0) return at;
      }
      return -1;
    }

    includes(value, byteOffset, encoding) {
      return this.indexOf(value, byteOffset, encoding) !== -1;
    }

    readUIntBE(offset, byteLength) {
      const at = place(this, offset, lengthOf(byteLength));
      let value = 0;
      for (let next = 0; next < byteLength; next++) value = value * 256 + this[at + next];
      return value;
    }

    readUIntLE(offset, byteLength) {
      const at = place(this, offset, lengthOf(byteLength));
      let value = 0;
      for (let next = byteLength - 1; next >= 0; next--) value = value * 256 + this[at + next];
      return value;
    }

    readIntBE(offset, byteLength) {
      return signed(this.readUIntBE(offset, byteLength), byteLength);
    }

    readIntLE(offset, byteLength) {
      return signed(this.readUIntLE(offset, byteLength), byteLength);
    }

    writeUIntBE(value, offset, byteLength) {
      const number = fitting(value, 0, 256 ** lengthOf(byteLength) - 1);
      return writeDigits(this, number, offset, byteLength, true);
    }

    writeUIntLE(value, offset, byteLength) {
      const number = fitting(value, 0, 256 ** lengthOf(byteLength) - 1);
      return writeDigits(this, number, offset, byteLength, false);
    }

    writeIntBE(value, offset, byteLength) {
      const half = 256 ** lengthOf(byteLength) / 2;
      const number = fitting(value, -half, half - 1);
      return writeDigits(this, number < 0 ? number + half * 2 : number, offset, byteLength, true);
    }

    writeIntLE(value, offset, byteLength) {
      const half = 256 ** lengthOf(byteLength) / 2;
      const number = fitting(value, -half, half - 1);
      return writeDigits(this, number < 0 ? number + half * 2 : number, offset, byteLength, false);
    }

    [Symbol.for('nodejs.util.inspect.custom')]() {
      const shown = Array.from(this.subarray(0, 50), (byte) => byte.toString(16).padStart(2, '0'));
      if (this.length > 50) shown.push(`... ${this.length - 50} more bytes`);
      return `<Buffer${shown.map((byte) => ` ${byte}`).join('')}>`;
    }
  }

  // Where a search starts; a negative position counts from the end.
  const startOf = (position, length, missing) => {
    const at = Number(position);
    if (position === undefined || Number.isNaN(at)) return missing;
    return at < 0 ? Math.max(length + Math.trunc(at), 0) : Math.min(Math.trunc(at), length);
  };

  const lengthOf = (byteLength) => {
    if (Number.isInteger(byteLength) && byteLength >= 1 && byteLength <= 6) return byteLength;
    throw new RangeError(`A number has 1 to 6 bytes, not ${String(byteLength)}`);
  };

  const place = (buffer, offset, size) => {
    if (typeof offset !== 'number') throw new TypeError('The offset must be a number');
    if (!Number.isInteger(offset) || offset < 0 || offset + size > buffer.length) {
      throw new RangeError(`${size} bytes at the offset ${offset} are outside of the buffer of ${buffer.length} bytes`);
    }
    return offset;
  };

  const fitting = (value, least, most) => {
    const number = typeof least === 'bigint' ? value : Number(value);
    if (typeof number !== typeof least) throw new TypeError('The value must be a BigInt');
    if (number < least || number > most) throw new RangeError(`The value must be from ${least} to ${most}`);
    return number;
  };

  const signed = (value, byteLength) => {
    const half = 256 ** byteLength / 2;
    return value >= half ? value - half * 2 : value;
  };

  const writeDigits = (buffer, value, offset, byteLength, big) => {
    const at = place(buffer, offset, byteLength);
    let rest = Math.trunc(value);
    for (let digit = 0; digit < byteLength; digit++) {
      buffer[big ? at + byteLength - 1 - digit : at + digit] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    return at + byteLength;
  };

  // The methods for numbers of each kind that a DataView knows.
  const numbers = [
    ['UInt8', 'Uint8', 1, 0, 0xff],
    ['Int8', 'Int8', 1, -0x80, 0x7f],
    ['UInt16', 'Uint16', 2, 0, 0xffff],
    ['Int16', 'Int16', 2, -0x8000, 0x7fff],
    ['UInt32', 'Uint32', 4, 0, 0xffffffff],
    ['Int32', 'Int32', 4, -0x80000000, 0x7fffffff],
    ['BigUInt64', 'BigUint64', 8, 0n, 2n ** 64n - 1n],
    ['BigInt64', 'BigInt64', 8, -(2n ** 63n), 2n ** 63n - 1n],
    ['Float', 'Float32', 4],
    ['Double', 'Float64', 8],
  ];
  for (const [name, kind, size, least, most] of numbers) {
    for (const ending of size === 1 ? [''] : ['LE', 'BE']) {
      const little = ending === 'LE';
      const read = function (offset = 0) {
        const at = place(this, offset, size);
        return new DataView(this.buffer, this.byteOffset, this.length)[`get${kind}`](at, little);
      };
      const write = function (value, offset = 0) {
        const number = least === undefined ? Number(value) : fitting(value, least, most);
        const at = place(this, offset, size);
        new DataView(this.buffer, this.byteOffset, this.length)[`set${kind}`](at, number, little);
        return at + size;
      };
      for (const spelling of new Set([name, name.replace('UInt', 'Uint')])) {
        const method = (value) => ({ value, writable: true, configurable: true });
        Object.defineProperty(Buffer.prototype, `read${spelling}${ending}`, method(read));
        Object.defineProperty(Buffer.prototype, `write${spelling}${ending}`, method(write));
      }
    }
  }

  // Bytes that nothing else refers to, as a Buffer.
  const adopt = (bytes) => new Buffer(bytes.buffer, bytes.byteOffset, bytes.byteLength);

  return { Buffer, adopt };
})
