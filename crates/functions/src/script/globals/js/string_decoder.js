(function (native, load) {
  const { concat, decode, isEncoding, bytesOf, utf16Unfinished } = load('bytes');
  const none = new Uint8Array(0);

  // How many bytes at the end wait for more; none in the encodings where each byte stands for itself.
  const unfinished = (encoding, bytes) => {
    if (encoding === 'utf8' || encoding === 'utf-8') return native.utf8Unfinished(bytes);
    if (encoding === 'base64' || encoding === 'base64url') return bytes.length % 3;
    return encoding.startsWith('utf') || encoding.startsWith('ucs') ? utf16Unfinished(bytes) : 0;
  };

  class StringDecoder {
    #pending = none;

    constructor(encoding = 'utf8') {
      if (!isEncoding(encoding)) throw new TypeError(`Unknown encoding: ${String(encoding)}`);
      this.encoding = encoding.toLowerCase();
    }

    write(input) {
      const given = bytesOf(input, 'The input');
      const bytes = this.#pending.length > 0 ? concat([this.#pending, given]) : given;
      const end = bytes.length - unfinished(this.encoding, bytes);
      this.#pending = Uint8Array.from(bytes.subarray(end));
      return decode(bytes.subarray(0, end), this.encoding);
    }

    end(input) {
      const start = input === undefined ? '' : this.write(input);
      const rest = this.#pending;
      this.#pending = none;
      return start + decode(rest, this.encoding);
    }
  }

  return { StringDecoder };
})
