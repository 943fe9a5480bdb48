(function (native, load) {
  const { text } = load('bytes');

  const escape = (value) => encodeURIComponent(text(value));

  // As decodeURIComponent, but what is wrongly encoded stays what can be made of it.
  const unescape = (value) => {
    const string = text(value);
    try {
      return decodeURIComponent(string);
    } catch {
      return string.replace(/(?:%[0-9A-Fa-f]{2})+/g, (run) => native.utf8Decode(native.hexDecode(run.replaceAll('%', ''))));
    }
  };

  const primitive = (value) => {
    if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
    return typeof value === 'number' && Number.isFinite(value) ? String(value) : '';
  };

  const stringify = (object, separator = '&', equals = '=', options = {}) => {
    if (object === null || typeof object !== 'object') return '';
    const encode = options?.encodeURIComponent ?? escape;
    return Object.keys(object)
      .flatMap((name) => {
        const values = Array.isArray(object[name]) ? object[name] : [object[name]];
        return values.map((value) => encode(name) + (equals ?? '=') + encode(primitive(value)));
      })
      .join(separator ?? '&');
  };

  const parse = (query, separator = '&', equals = '=', options = {}) => {
    const fields = Object.create(null);
    if (typeof query !== 'string' || query === '') return fields;
    const decode = options?.decodeURIComponent ?? unescape;
    const most = options?.maxKeys ?? 1000;
    let parts = query.split(separator ?? '&');
    if (most > 0) parts = parts.slice(0, most);
    const sign = equals ?? '=';
    for (const part of parts) {
      if (part === '') continue;
      const at = part.indexOf(sign);
      const name = decode((at === -1 ? part : part.slice(0, at)).replaceAll('+', ' '));
      const value = at === -1 ? '' : decode(part.slice(at + sign.length).replaceAll('+', ' '));
      if (!(name in fields)) fields[name] = value;
      else if (Array.isArray(fields[name])) fields[name].push(value);
      else fields[name] = [fields[name], value];
    }
    return fields;
  };

  return { parse, decode: parse, stringify, encode: stringify, escape, unescape };
})
