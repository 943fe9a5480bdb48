(function (native, load) {
  const { text } = load('bytes');

  // Ties parameters to the address whose query they are, and replaces them when that changes.
  let attach;
  let replace;

  const pairsOf = (query) => {
    const flat = native.formParse(text(query));
    const pairs = [];
    for (let at = 0; at < flat.length; at += 2) pairs.push([flat[at], flat[at + 1]]);
    return pairs;
  };

  class URLSearchParams {
    #pairs = [];
    #changed = () => {};

    static {
      attach = (params, changed) => {
        params.#changed = changed;
      };
      replace = (params, query) => {
        params.#pairs = pairsOf(query);
      };
    }

    constructor(init = '') {
      if (init === null || (typeof init !== 'object' && typeof init !== 'function')) {
        const query = String(init);
        this.#pairs = pairsOf(query.startsWith('?') ? query.slice(1) : query);
      } else if (typeof init[Symbol.iterator] === 'function') {
        for (const entry of init) {
          const pair = Array.from(entry, text);
          if (pair.length !== 2) throw new TypeError('Each parameter must be a pair of a name and a value');
          this.#pairs.push(pair);
        }
      } else {
        for (const name of Object.keys(init)) this.#pairs.push([text(name), text(init[name])]);
      }
    }

    get size() {
      return this.#pairs.length;
    }

    append(name, value) {
      this.#pairs.push([text(name), text(value)]);
      this.#changed();
    }

    delete(name, value) {
      const matches = matching(name, value);
      this.#pairs = this.#pairs.filter((pair) => !matches(pair));
      this.#changed();
    }

    get(name) {
      return this.#pairs.find(matching(name))?.[1] ?? null;
    }

    getAll(name) {
      return this.#pairs.filter(matching(name)).map((pair) => pair[1]);
    }

    has(name, value) {
      return this.#pairs.some(matching(name, value));
    }

    set(name, value) {
      const matches = matching(name);
      const first = this.#pairs.find(matches);
      if (first) {
        first[1] = text(value);
        this.#pairs = this.#pairs.filter((pair) => pair === first || !matches(pair));
      } else {
        this.#pairs.push([text(name), text(value)]);
      }
      this.#changed();
    }

    sort() {
      this.#pairs.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
      this.#changed();
    }

    forEach(callback, thisArgument) {
      for (const [name, value] of this) callback.call(thisArgument, value, name, this);
    }

    *entries() {
      for (let at = 0; at < this.#pairs.length; at++) yield [...this.#pairs[at]];
    }

    *keys() {
      for (const [name] of this) yield name;
    }

    *values() {
      for (const [, value] of this) yield value;
    }

    [Symbol.iterator]() {
      return this.entries();
    }

    toString() {
      return native.formSerialize(this.#pairs.flat());
    }

    get [Symbol.toStringTag]() {
      return 'URLSearchParams';
    }
  }

  const matching = (name, value) => {
    const sought = text(name);
    if (value === undefined) return (pair) => pair[0] === sought;
    const exactly = text(value);
    return (pair) => pair[0] === sought && pair[1] === exactly;
  };

  const parse = (input, base) =>
    base === undefined ? native.urlParse(text(input)) : native.urlParse(text(input), text(base));

  // In the order in which native code returns them.
  const PARTS = [
    'href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash',
  ];

  let partOf;
  let setPart;

  class URL {
    #parts;
    #params;

    static {
      partOf = (url, at) => url.#parts[at];
      setPart = (url, name, value) => {
        url.#parts = native.urlSet(url.#parts[0], name, text(value));
        if (url.#params && (name === 'href' || name === 'search')) replace(url.#params, url.search.slice(1));
      };
    }

    constructor(url, base) {
      this.#parts = parse(url, base);
      if (!this.#parts) {
        // Without the address, which may hold a password.
        const error = new TypeError('Invalid URL');
        error.code = 'ERR_INVALID_URL';
        throw error;
      }
    }

    static canParse(url, base) {
      return parse(url, base) !== undefined;
    }

    static parse(url, base) {
      return URL.canParse(url, base) ? new URL(url, base) : null;
    }

    get searchParams() {
      if (!this.#params) {
        this.#params = new URLSearchParams(this.search);
        attach(this.#params, () => {
          this.#parts = native.urlSet(this.#parts[0], 'search', this.#params.toString());
        });
      }
      return this.#params;
    }

    toString() {
      return this.href;
    }

    toJSON() {
      return this.href;
    }

    get [Symbol.toStringTag]() {
      return 'URL';
    }

    [Symbol.for('nodejs.util.inspect.custom')]() {
      return `URL ${JSON.stringify(this.href)}`;
    }
  }
  PARTS.forEach((name, at) => {
    Object.defineProperty(URL.prototype, name, {
      get() {
        return partOf(this, at);
      },
      set:
        name === 'origin'
          ? undefined
          : function (value) {
              setPart(this, name, value);
            },
      enumerable: true,
      configurable: true,
    });
  });

  // Node's older functions.

  const WITH_PATHS = new Set(['http:', 'https:', 'ftp:', 'file:', 'ws:', 'wss:']);
  const ADDRESS = /^([A-Za-z][A-Za-z0-9+.-]*:)?(\/\/[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?$/s;

  class Url {
    protocol = null;
    slashes = null;
    auth = null;
    host = null;
    port = null;
    hostname = null;
    hash = null;
    search = null;
    query = null;
    pathname = null;
    path = null;
    href = '';
  }

  const parseLegacy = (address, parseQuery = false, slashesDenoteHost = false) => {
    if (address instanceof Url) return address;
    if (typeof address !== 'string') throw new TypeError('The address must be a string');
    const url = new Url();
    let [, protocol, authority, pathname, search, hash] = ADDRESS.exec(address.trim());
    if (authority !== undefined && !protocol && !slashesDenoteHost) {
      pathname = authority + pathname;
      authority = undefined;
    }
    if (protocol) url.protocol = protocol.toLowerCase();
    if (authority !== undefined) {
      url.slashes = true;
      let host = authority.slice(2);
      const at = host.lastIndexOf('@');
      if (at !== -1) {
        url.auth = load('querystring').unescape(host.slice(0, at));
        host = host.slice(at + 1);
      }
      const [, name, port] = /^(.*?)(?::(\d*))?$/s.exec(host);
      url.hostname = name.replace(/^\[(.*)\]$/s, '$1').toLowerCase();
      if (port) url.port = port;
      url.host = name.toLowerCase() + (port ? `:${port}` : '');
      if (pathname === '' && WITH_PATHS.has(url.protocol)) pathname = '/';
    }
    if (hash !== undefined) url.hash = hash;
    if (search !== undefined) url.search = search;
    const query = search?.slice(1);
    url.query = parseQuery ? load('querystring').parse(query ?? '') : (query ?? null);
    if (parseQuery) url.search ??= '';
    url.pathname = pathname || null;
    url.path = url.pathname === null && !url.search ? null : (url.pathname ?? '') + (url.search ?? '');
    url.href = formatLegacy(url);
    return url;
  };

  const formatLegacy = (value) => {
    if (typeof value === 'string') return parseLegacy(value).href;
    if (value instanceof URL) return value.href;
    if (value === null || typeof value !== 'object') throw new TypeError('The address must be a string or an object');
    let protocol = value.protocol ?? '';
    if (protocol && !protocol.endsWith(':')) protocol += ':';
    const auth = value.auth ? `${encodeURIComponent(value.auth).replace('%3A', ':')}@` : '';
    let host = '';
    if (value.host) {
      host = auth + value.host;
    } else if (value.hostname) {
      const name = value.hostname.includes(':') ? `[${value.hostname}]` : value.hostname;
      host = auth + name + (value.port ? `:${value.port}` : '');
    }
    let pathname = (value.pathname ?? '').replace(/[?#]/g, encodeURIComponent);
    if (value.slashes || (host && (!protocol || WITH_PATHS.has(protocol)))) {
      host = `//${host}`;
      if (pathname && !pathname.startsWith('/')) pathname = `/${pathname}`;
    }
    let search = value.search ?? '';
    if (!search && value.query !== null && typeof value.query === 'object') {
      search = load('querystring').stringify(value.query);
    }
    if (search && !search.startsWith('?')) search = `?${search}`;
    let hash = value.hash ?? '';
    if (hash && !hash.startsWith('#')) hash = `#${hash}`;
    return protocol + host + pathname + search.replace(/#/g, '%23') + hash;
  };

  // Of an address without a host, only the path is resolved.
  const resolve = (from, to) => {
    const resolved = new URL(to, new URL(from, 'resolve://'));
    if (resolved.protocol !== 'resolve:') return resolved.href;
    const path = resolved.pathname + resolved.search + resolved.hash;
    return /^\//.test(from) || /^\//.test(to) ? path : path.slice(1);
  };

  const module = {
    URL,
    URLSearchParams,
    Url,
    parse: parseLegacy,
    format: formatLegacy,
    resolve,
    domainToASCII: (domain) => native.domainToAscii(text(domain)),
    domainToUnicode: (domain) => native.domainToUnicode(text(domain)),
  };

  return { URL, URLSearchParams, module };
})
