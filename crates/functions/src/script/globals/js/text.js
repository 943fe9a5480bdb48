(function (native, load) {
  const { text, view, concat, decode, utf16Unfinished, domError } = load('bytes');
  const none = new Uint8Array(0);

  class TextEncoder {
    get encoding() {
      return 'utf-8';
    }

    encode(input = '') {
      return native.utf8Encode(text(input));
    }

    encodeInto(source, destination) {
      if (!(destination instanceof Uint8Array)) throw new TypeError('The destination must be a Uint8Array');
      let read = 0;
      let written = 0;
      for (const character of text(source)) {
        const bytes = native.utf8Encode(character);
        if (written + bytes.length > destination.length) break;
        destination.set(bytes, written);
        read += character.length;
        written += bytes.length;
      }
      return { read, written };
    }
  }

  // What windows-1252 has where Latin-1 has control characters.
  const WINDOWS_1252 =
    '\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f' +
    '\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178';

  const LABELS = {
    __proto__: null,
    'utf-8': 'utf-8',
    utf8: 'utf-8',
    'unicode-1-1-utf-8': 'utf-8',
    'utf-16le': 'utf-16le',
    'utf-16': 'utf-16le',
    'ucs-2': 'utf-16le',
    unicode: 'utf-16le',
    'windows-1252': 'windows-1252',
    cp1252: 'windows-1252',
    latin1: 'windows-1252',
    'iso-8859-1': 'windows-1252',
    ascii: 'windows-1252',
    'us-ascii': 'windows-1252',
  };

  // For each encoding: how many bytes at the end wait for more, and the text of the rest, undefined
  // where it must be exact and is not.
  const DECODERS = {
    'utf-8': {
      unfinished: native.utf8Unfinished,
      decode: (bytes, fatal) => (fatal ? native.utf8DecodeFatal(bytes) : native.utf8Decode(bytes)),
    },
    'utf-16le': {
      unfinished: utf16Unfinished,
      decode: (bytes, fatal) => {
        const units = decode(bytes, 'utf16le');
        const whole = bytes.length % 2 === 0;
        if (fatal) return whole && units.isWellFormed() ? units : undefined;
        // Half a pair and half a unit behind it are one fault.
        const torn = !whole && !/[\ud800-\udbff]$/.test(units);
        return units.toWellFormed() + (torn ? '\ufffd' : '');
      },
    },
    'windows-1252': {
      unfinished: () => 0,
      decode: (bytes) =>
        native.latin1Decode(bytes).replace(/[\x80-\x9f]/g, (control) => WINDOWS_1252[control.charCodeAt(0) - 0x80]),
    },
  };

  class TextDecoder {
    #encoding;
    #fatal;
    #ignoreBOM;
    #pending = none;
    #started = false;

    constructor(label = 'utf-8', options = {}) {
      this.#encoding = LABELS[String(label).trim().toLowerCase()];
      if (!this.#encoding) throw new RangeError(`There is no decoder for ${JSON.stringify(String(label))}`);
      this.#fatal = Boolean(options?.fatal);
      this.#ignoreBOM = Boolean(options?.ignoreBOM);
    }

    get encoding() {
      return this.#encoding;
    }

    get fatal() {
      return this.#fatal;
    }

    get ignoreBOM() {
      return this.#ignoreBOM;
    }

    decode(input, options) {
      let bytes = input === undefined ? none : view(input);
      if (!bytes) throw new TypeError('The input must be an ArrayBuffer or a view of one');
      if (this.#pending.length > 0) bytes = concat([this.#pending, bytes]);
      this.#pending = none;
      const { unfinished, decode } = DECODERS[this.#encoding];
      const stream = Boolean(options?.stream);
      if (stream) {
        const end = bytes.length - unfinished(bytes);
        this.#pending = Uint8Array.from(bytes.subarray(end));
        bytes = bytes.subarray(0, end);
      }
      let output = decode(bytes, this.#fatal);
      if (output === undefined) {
        this.#started = false;
        this.#pending = none;
        throw new TypeError(`The bytes are not valid ${this.#encoding}`);
      }
      if (!this.#started && output.length > 0) {
        this.#started = true;
        const marked = this.#encoding !== 'windows-1252' && output.charCodeAt(0) === 0xfeff;
        if (marked && !this.#ignoreBOM) output = output.slice(1);
      }
      if (!stream) this.#started = false;
      return output;
    }
  }

  const atob = (data) => {
    const bytes = native.base64DecodeForgiving(text(data));
    if (bytes === undefined) throw domError('InvalidCharacterError', 'The string is not correctly encoded Base64');
    return native.latin1Decode(bytes);
  };

  const btoa = (data) => {
    const string = String(data);
    for (let at = 0; at < string.length; at++) {
      if (string.charCodeAt(at) > 0xff) {
        throw domError('InvalidCharacterError', 'The string has characters outside of Latin-1');
      }
    }
    return native.base64Encode(native.latin1Encode(string), false);
  };

  return { TextEncoder, TextDecoder, atob, btoa };
})
