// The classes of BSON values. What a value holds is kept under symbols, which neither `for…in` nor `Object.keys`
// nor JSON shows, while whoever compares or copies objects finds it; the native side makes and reads values by them.
(function (host) {
  const FIRST = Symbol("bson.first");
  const SECOND = Symbol("bson.second");
  const INSPECT = Symbol.for("nodejs.util.inspect.custom");

  function hold(target, first, second) {
    target[FIRST] = first;
    if (second !== undefined) target[SECOND] = second;
  }

  // Functions written for Atlas construct BSON values with and without `new`.
  function callable(type) {
    const proxy = new Proxy(type, { apply: (target, _this, args) => new target(...args) });
    Object.defineProperty(type.prototype, "constructor", { value: proxy, writable: true, configurable: true });
    return proxy;
  }

  function bytesOf(source) {
    if (source instanceof Uint8Array) return source;
    if (source instanceof ArrayBuffer) return new Uint8Array(source);
    if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (Array.isArray(source)) return Uint8Array.from(source);
    if (typeof source === "string") return host.fromText(source);
    throw new TypeError("binary data must be bytes or a string");
  }

  const HEX_ID = /^[0-9a-fA-F]{24}$/;
  // Text of twelve bytes is an ObjectId as those bytes.
  const isText12 = (id) => typeof id === "string" && id.length === 12 && host.fromText(id).length === 12;

  class ObjectId {
    constructor(id) {
      let hex;
      if (id === undefined || id === null) hex = host.newObjectId();
      else if (typeof id === "string" && HEX_ID.test(id)) hex = id.toLowerCase();
      else if (isText12(id)) hex = host.toHex(host.fromText(id));
      else if (typeof id === "number") hex = secondsInHex(id) + host.newObjectId().slice(8);
      else if (id instanceof Uint8Array && id.length === 12) hex = host.toHex(id);
      else if (typeof id === "object" && typeof id.toHexString === "function") return new ObjectId(id.toHexString());
      else throw new TypeError("an ObjectId must be 24 hexadecimal digits, 12 bytes or a number of seconds");
      hold(this, hex);
    }
    static createFromHexString(hex) { return new ObjectId(String(hex)); }
    static createFromTime(seconds) { return new ObjectId(secondsInHex(seconds) + "0000000000000000"); }
    static createFromBase64(text) { return new ObjectId(host.fromBase64(text)); }
    static generate() { return host.fromHex(host.newObjectId()); }
    static isValid(id) {
      if (typeof id === "string") return HEX_ID.test(id) || isText12(id);
      if (id instanceof ObjectId || typeof id === "number") return true;
      if (id instanceof Uint8Array) return id.length === 12;
      return typeof id === "object" && id !== null && typeof id.toHexString === "function" && HEX_ID.test(id.toHexString());
    }
    get id() { return host.fromHex(this[FIRST]); }
    toHexString() { return this[FIRST]; }
    toString(encoding) { return encoding === "base64" ? host.toBase64(this.id) : this[FIRST]; }
    toJSON() { return this[FIRST]; }
    equals(other) {
      if (other === undefined || other === null) return false;
      if (isText12(other)) return new ObjectId(other)[FIRST] === this[FIRST];
      if (typeof other === "string") return other.toLowerCase() === this[FIRST];
      if (other instanceof Uint8Array) return other.length === 12 && host.toHex(other) === this[FIRST];
      return typeof other.toHexString === "function" && other.toHexString() === this[FIRST];
    }
    getTimestamp() { return new Date(parseInt(this[FIRST].slice(0, 8), 16) * 1000); }
    [INSPECT]() { return `ObjectId("${this[FIRST]}")`; }
  }

  function secondsInHex(seconds) {
    return (Math.floor(Number(seconds)) >>> 0).toString(16).padStart(8, "0");
  }

  const MIN_LONG = -(2n ** 63n);
  const MAX_LONG = 2n ** 63n - 1n;

  function bigOf(value) {
    if (value instanceof Long) return value[FIRST];
    if (typeof value === "bigint") return BigInt.asIntN(64, value);
    if (typeof value === "string") return Long.fromString(value)[FIRST];
    if (typeof value === "object" && value !== null && "low" in value && "high" in value) {
      return Long.fromBits(value.low, value.high)[FIRST];
    }
    return Long.fromNumber(Number(value))[FIRST];
  }

  function long(big) { return new Long(BigInt.asIntN(64, big)); }

  class Long {
    constructor(low, high) {
      if (typeof high === "number") hold(this, (BigInt(high | 0) << 32n) | BigInt(low >>> 0));
      else if (low === undefined) hold(this, 0n);
      else hold(this, bigOf(low));
    }
    static fromBits(low, high) { return new Long(low | 0, high | 0); }
    static fromInt(value) { return long(BigInt(value | 0)); }
    static fromBigInt(value) { return long(value); }
    static fromNumber(value) {
      if (Number.isNaN(value)) return long(0n);
      if (value >= 2 ** 63) return long(MAX_LONG);
      if (value <= -(2 ** 63)) return long(MIN_LONG);
      return long(BigInt(Math.trunc(value)));
    }
    static fromString(text, unsigned, radix) {
      const base = typeof unsigned === "number" ? unsigned : radix ?? 10;
      const match = /^\s*([+-]?)([0-9a-zA-Z]+)\s*$/.exec(String(text));
      if (!match) throw new SyntaxError(`"${text}" is not a whole number`);
      let value = 0n;
      if (base === 10 && /^\d+$/.test(match[2])) {
        value = BigInt(match[2]);
      } else {
        for (const digit of match[2]) {
          const number = parseInt(digit, base);
          if (Number.isNaN(number)) throw new SyntaxError(`"${text}" is not a whole number in base ${base}`);
          value = value * BigInt(base) + BigInt(number);
        }
      }
      return long(match[1] === "-" ? -value : value);
    }
    static fromValue(value) { return long(bigOf(value)); }
    static isLong(value) { return value instanceof Long; }
    get low() { return Number(BigInt.asIntN(32, this[FIRST])); }
    get high() { return Number(this[FIRST] >> 32n); }
    get unsigned() { return false; }
    toBigInt() { return this[FIRST]; }
    toNumber() { return Number(this[FIRST]); }
    toInt() { return this.low; }
    toString(radix) { return this[FIRST].toString(radix ?? 10); }
    toJSON() {
      const number = Number(this[FIRST]);
      return Number.isSafeInteger(number) ? number : this[FIRST].toString();
    }
    [Symbol.toPrimitive](hint) {
      if (hint === "string") return this.toString();
      return hint === "number" ? this.toNumber() : this.toJSON();
    }
    add(other) { return long(this[FIRST] + bigOf(other)); }
    subtract(other) { return long(this[FIRST] - bigOf(other)); }
    multiply(other) { return long(this[FIRST] * bigOf(other)); }
    divide(other) {
      const divisor = bigOf(other);
      if (divisor === 0n) throw new RangeError("division by zero");
      return long(this[FIRST] / divisor);
    }
    modulo(other) {
      const divisor = bigOf(other);
      if (divisor === 0n) throw new RangeError("division by zero");
      return long(this[FIRST] % divisor);
    }
    negate() { return long(-this[FIRST]); }
    abs() { return long(this[FIRST] < 0n ? -this[FIRST] : this[FIRST]); }
    not() { return long(~this[FIRST]); }
    and(other) { return long(this[FIRST] & bigOf(other)); }
    or(other) { return long(this[FIRST] | bigOf(other)); }
    xor(other) { return long(this[FIRST] ^ bigOf(other)); }
    shiftLeft(bits) { return long(this[FIRST] << BigInt(Number(bits) & 63)); }
    shiftRight(bits) { return long(this[FIRST] >> BigInt(Number(bits) & 63)); }
    shiftRightUnsigned(bits) { return long(BigInt.asUintN(64, this[FIRST]) >> BigInt(Number(bits) & 63)); }
    compare(other) {
      const big = bigOf(other);
      return this[FIRST] < big ? -1 : this[FIRST] > big ? 1 : 0;
    }
    equals(other) { return this.compare(other) === 0; }
    notEquals(other) { return this.compare(other) !== 0; }
    lessThan(other) { return this.compare(other) < 0; }
    lessThanOrEqual(other) { return this.compare(other) <= 0; }
    greaterThan(other) { return this.compare(other) > 0; }
    greaterThanOrEqual(other) { return this.compare(other) >= 0; }
    isZero() { return this[FIRST] === 0n; }
    isNegative() { return this[FIRST] < 0n; }
    isPositive() { return this[FIRST] >= 0n; }
    isOdd() { return (this[FIRST] & 1n) === 1n; }
    isEven() { return (this[FIRST] & 1n) === 0n; }
    [INSPECT]() { return `Long("${this[FIRST]}")`; }
  }
  for (const [short, name] of Object.entries({
    sub: "subtract", mul: "multiply", div: "divide", mod: "modulo", rem: "modulo", neg: "negate", comp: "compare",
    eq: "equals", neq: "notEquals", ne: "notEquals", lt: "lessThan", lte: "lessThanOrEqual", le: "lessThanOrEqual",
    gt: "greaterThan", gte: "greaterThanOrEqual", ge: "greaterThanOrEqual", eqz: "isZero",
    shl: "shiftLeft", shr: "shiftRight", shru: "shiftRightUnsigned",
  })) {
    Object.defineProperty(Long.prototype, short, { value: Long.prototype[name], writable: true, configurable: true });
  }
  Object.assign(Long, {
    ZERO: long(0n), ONE: long(1n), NEG_ONE: long(-1n), MAX_VALUE: long(MAX_LONG), MIN_VALUE: long(MIN_LONG),
  });

  class Int32 {
    constructor(value) { hold(this, Number(value) | 0); }
    get value() { return this[FIRST]; }
    valueOf() { return this[FIRST]; }
    toString(radix) { return this[FIRST].toString(radix); }
    toJSON() { return this[FIRST]; }
    [INSPECT]() { return `Int32(${this[FIRST]})`; }
  }

  class Double {
    constructor(value = 0) { hold(this, Number(value)); }
    get value() { return this[FIRST]; }
    valueOf() { return this[FIRST]; }
    toString(radix) { return this[FIRST].toString(radix); }
    toJSON() { return this[FIRST]; }
    [INSPECT]() { return `Double(${Object.is(this[FIRST], -0) ? "-0" : this[FIRST]})`; }
  }

  // Holds its 16 bytes in hexadecimal, least significant byte first: text would lose the encoding.
  class Decimal128 {
    constructor(value) {
      if (value instanceof Uint8Array) {
        if (value.length !== 16) throw new TypeError("a Decimal128 has 16 bytes");
        hold(this, host.toHex(value));
      } else {
        hold(this, host.decimalFromString(String(value)));
      }
    }
    static fromString(text) { return new Decimal128(String(text)); }
    get bytes() { return host.fromHex(this[FIRST]); }
    toString() { return host.decimalToString(this[FIRST]); }
    toJSON() { return this.toString(); }
    [INSPECT]() { return `Decimal128("${this}")`; }
  }

  class Binary {
    constructor(source, subType) {
      hold(this, source === undefined || source === null ? new Uint8Array(0) : bytesOf(source), (subType ?? 0) & 0xff);
    }
    static fromBase64(text, subType) { return new Binary(host.fromBase64(String(text)), subType); }
    static createFromBase64(text, subType) { return Binary.fromBase64(text, subType); }
    static fromHex(text, subType) { return new Binary(host.fromHex(String(text)), subType); }
    static createFromHexString(text, subType) { return Binary.fromHex(text, subType); }
    static fromText(text, subType) { return new Binary(host.fromText(String(text)), subType); }
    get buffer() { return this[FIRST]; }
    get subType() { return this[SECOND]; }
    get sub_type() { return this[SECOND]; }
    length() { return this[FIRST].length; }
    value() { return this[FIRST]; }
    text() { return host.toText(this[FIRST]); }
    toBase64() { return host.toBase64(this[FIRST]); }
    toHex() { return host.toHex(this[FIRST]); }
    toHexString() { return host.toHex(this[FIRST]); }
    toString(encoding) {
      if (encoding === "hex") return this.toHex();
      return encoding === "base64" ? this.toBase64() : this.text();
    }
    toUUID() { return new UUID(this[FIRST]); }
    toJSON() { return this.toBase64(); }
    [INSPECT]() { return `Binary.fromBase64("${this.toBase64()}", ${this[SECOND]})`; }
  }
  Object.assign(Binary, {
    SUBTYPE_DEFAULT: 0, SUBTYPE_FUNCTION: 1, SUBTYPE_BYTE_ARRAY: 2, SUBTYPE_UUID_OLD: 3, SUBTYPE_UUID: 4,
    SUBTYPE_MD5: 5, SUBTYPE_ENCRYPTED: 6, SUBTYPE_COLUMN: 7, SUBTYPE_SENSITIVE: 8, SUBTYPE_VECTOR: 9,
    SUBTYPE_USER_DEFINED: 128,
  });

  class UUID extends Binary {
    constructor(source) {
      let bytes;
      if (source === undefined || source === null) bytes = host.fromHex(host.newUuid());
      else if (typeof source === "string") {
        const digits = source.replaceAll("-", "");
        if (!/^[0-9a-fA-F]{32}$/.test(digits)) throw new TypeError("a UUID must be 32 hexadecimal digits");
        bytes = host.fromHex(digits);
      } else bytes = source instanceof Binary ? source.buffer : bytesOf(source);
      if (bytes.length !== 16) throw new TypeError("a UUID has 16 bytes");
      super(bytes, 4);
    }
    static createFromHexString(text) { return new UUID(String(text)); }
    static generate() { return host.fromHex(host.newUuid()); }
    static isValid(value) {
      if (typeof value === "string") return /^[0-9a-fA-F]{32}$/.test(value.replaceAll("-", ""));
      return value instanceof Binary ? value.length() === 16 : value instanceof Uint8Array && value.length === 16;
    }
    get id() { return this.buffer; }
    toHexString(dashes = true) {
      const hex = this.toHex();
      if (!dashes) return hex;
      return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
    }
    toString(encoding) {
      if (encoding === "hex") return this.toHex();
      return encoding === "base64" ? this.toBase64() : this.toHexString();
    }
    toBinary() { return new Binary(this.buffer, 4); }
    toJSON() { return this.toHexString(); }
    equals(other) {
      if (typeof other === "string") return UUID.isValid(other) && new UUID(other).toHex() === this.toHex();
      return other instanceof Binary && other.toHex() === this.toHex();
    }
    [INSPECT]() { return `UUID("${this.toHexString()}")`; }
  }

  class Timestamp {
    constructor(time, increment) {
      let t = time ?? 0;
      let i = increment ?? 0;
      if (typeof time === "bigint" || time instanceof Long) {
        const bits = BigInt.asUintN(64, bigOf(time));
        t = bits >> 32n;
        i = bits & 0xffffffffn;
      } else if (typeof time === "object" && time !== null && !(time instanceof Int32)) {
        t = time.t ?? 0;
        i = time.i ?? 0;
      }
      hold(this, Number(t) >>> 0, Number(i) >>> 0);
    }
    static fromBits(low, high) { return new Timestamp(high >>> 0, low >>> 0); }
    get t() { return this[FIRST]; }
    get i() { return this[SECOND]; }
    get high() { return this[FIRST] | 0; }
    get low() { return this[SECOND] | 0; }
    getHighBits() { return this.high; }
    getLowBits() { return this.low; }
    toBigInt() { return (BigInt(this[FIRST]) << 32n) | BigInt(this[SECOND]); }
    toString() { return this.toBigInt().toString(); }
    toJSON() { return { $timestamp: { t: this[FIRST], i: this[SECOND] } }; }
    compare(other) {
      const [mine, theirs] = [this.toBigInt(), new Timestamp(other).toBigInt()];
      return mine < theirs ? -1 : mine > theirs ? 1 : 0;
    }
    equals(other) { return this.compare(other) === 0; }
    [INSPECT]() { return `Timestamp({ t: ${this[FIRST]}, i: ${this[SECOND]} })`; }
  }

  class BSONRegExp {
    constructor(pattern, options) {
      hold(this, String(pattern), [...String(options ?? "")].sort().join(""));
    }
    get pattern() { return this[FIRST]; }
    get options() { return this[SECOND]; }
    get flags() { return this[SECOND]; }
    toString() { return `/${this[FIRST]}/${this[SECOND]}`; }
    toJSON() { return { $regularExpression: { pattern: this[FIRST], options: this[SECOND] } }; }
    [INSPECT]() { return `BSONRegExp(${JSON.stringify(this[FIRST])}, "${this[SECOND]}")`; }
  }

  class Code {
    constructor(code, scope) { hold(this, String(code), scope ?? undefined); }
    get code() { return this[FIRST]; }
    get scope() { return this[SECOND] ?? null; }
    toString() { return this[FIRST]; }
    toJSON() {
      return this[SECOND] === undefined ? { $code: this[FIRST] } : { $code: this[FIRST], $scope: this[SECOND] };
    }
    [INSPECT]() { return `Code(${JSON.stringify(this[FIRST])})`; }
  }

  class BSONSymbol {
    constructor(value) { hold(this, String(value)); }
    get value() { return this[FIRST]; }
    valueOf() { return this[FIRST]; }
    toString() { return this[FIRST]; }
    toJSON() { return this[FIRST]; }
    [INSPECT]() { return `BSONSymbol(${JSON.stringify(this[FIRST])})`; }
  }

  class DBRef {
    constructor(collection, oid, db, fields) {
      this.collection = String(collection);
      this.oid = oid;
      if (db !== undefined && db !== null) this.db = String(db);
      this.fields = fields ?? {};
    }
    get namespace() { return this.collection; }
    toBSON() {
      const document = { $ref: this.collection, $id: this.oid };
      if (this.db !== undefined) document.$db = this.db;
      return Object.assign(document, this.fields);
    }
    toJSON() { return this.toBSON(); }
    [INSPECT]() { return `DBRef(${JSON.stringify(this.collection)}, ${host.inspect(this.oid)})`; }
  }

  // A type of BSON that drivers no longer write. It is passed on as it was read.
  class DBPointer {
    constructor(namespace, id) { hold(this, String(namespace), new ObjectId(id).toHexString()); }
    get namespace() { return this[FIRST]; }
    get oid() { return new ObjectId(this[SECOND]); }
    toJSON() { return { $dbPointer: { $ref: this[FIRST], $id: { $oid: this[SECOND] } } }; }
    [INSPECT]() { return `DBPointer(${JSON.stringify(this[FIRST])}, ObjectId("${this[SECOND]}"))`; }
  }

  class MinKey {
    toJSON() { return { $minKey: 1 }; }
    [INSPECT]() { return "MinKey()"; }
  }

  class MaxKey {
    toJSON() { return { $maxKey: 1 }; }
    [INSPECT]() { return "MaxKey()"; }
  }

  const plain = {
    ObjectId, Long, Int32, Double, Decimal128, Binary, UUID, Timestamp, BSONRegExp, Code, BSONSymbol, DBRef, DBPointer,
    MinKey, MaxKey,
  };
  const BSON = {};
  for (const [name, type] of Object.entries(plain)) {
    BSON[name] = callable(type);
    if (name !== "DBRef") {
      Object.defineProperty(type.prototype, "_bsontype", { value: name, configurable: true });
    }
  }
  BSON.ObjectID = BSON.ObjectId;

  const WRITTEN_AS_TEXT = new Set(["$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"]);

  // Extended JSON as its specification has it, of such as the driver reads besides: numbers that are no text, and
  // dates as numbers or as all that `Date` reads. Nothing where there is none of it.
  function wellSpelled(text) {
    let isChanged = false;
    const changed = (value) => {
      isChanged = true;
      return value;
    };
    try {
      const value = JSON.parse(text, (key, item) => {
        if (key === "$date") {
          const millis = typeof item === "string" ? Date.parse(item) : item;
          if (typeof millis === "number" && !Number.isNaN(millis)) return changed({ $numberLong: String(Math.trunc(millis)) });
        } else if (typeof item === "number" && WRITTEN_AS_TEXT.has(key)) {
          return changed(String(item));
        }
        return item;
      });
      return isChanged ? JSON.stringify(value) : undefined;
    } catch {
      return undefined;
    }
  }

  // `relaxed` may be given in the place of the replacer, as the driver's EJSON has it, or behind the others.
  const EJSON = {
    stringify(value, replacer, space, options) {
      let chosen = options;
      let filter = replacer;
      if (typeof replacer === "object" && replacer !== null && !Array.isArray(replacer)) {
        chosen = replacer;
        filter = undefined;
      } else if (typeof space === "object" && space !== null) {
        chosen = space;
        space = undefined;
      }
      const text = host.ejsonStringify(value, chosen?.relaxed === true);
      if (text === undefined) return undefined;
      const isPlain = (filter === undefined || filter === null) && (space === undefined || space === null);
      return isPlain ? text : JSON.stringify(JSON.parse(text), filter, space);
    },
    parse(text, options) {
      const isRelaxed = options?.relaxed !== false;
      try {
        return host.ejsonParse(String(text), isRelaxed);
      } catch (error) {
        const spelled = wellSpelled(String(text));
        if (spelled === undefined) throw error;
        return host.ejsonParse(spelled, isRelaxed);
      }
    },
    serialize(value, options) {
      const text = EJSON.stringify(value, options);
      return text === undefined ? undefined : JSON.parse(text);
    },
    deserialize(value, options) {
      return value === undefined ? undefined : EJSON.parse(JSON.stringify(value), options);
    },
  };
  BSON.EJSON = EJSON;

  for (const [name, value] of Object.entries({ BSON, EJSON })) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }

  return {
    FIRST,
    SECOND,
    BSON,
    prototypes: Object.fromEntries(Object.entries(plain).map(([name, type]) => [name, type.prototype])),
    entries: (map) => {
      const flat = [];
      for (const [key, value] of Map.prototype.entries.call(map)) flat.push(String(key), value);
      return flat;
    },
  };
})
