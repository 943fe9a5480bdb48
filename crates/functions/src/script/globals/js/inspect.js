(function () {
  const CUSTOM = Symbol.for('nodejs.util.inspect.custom');
  const MOST_ITEMS = 100;

  const quote = (string) => {
    const mark = !string.includes("'") ? "'" : !string.includes('"') ? '"' : !string.includes('`') ? '`' : "'";
    const body = string.replace(/[\x00-\x1f\x7f\\]/g, (character) => {
      const known = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '\b': '\\b', '\f': '\\f', '\v': '\\v', '\\': '\\\\' };
      return known[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`;
    });
    return mark + (mark === "'" ? body.replaceAll("'", "\\'") : body) + mark;
  };

  const primitive = (value) => {
    if (typeof value === 'string') return quote(value);
    if (typeof value === 'bigint') return `${value}n`;
    return Object.is(value, -0) ? '-0' : String(value);
  };

  const key = (name) => {
    if (typeof name === 'symbol') return `[${String(name)}]`;
    return /^[A-Za-z_$][\w$]*$/.test(name) ? name : quote(name);
  };

  const className = (value) => {
    for (let proto = value; proto !== null; proto = Object.getPrototypeOf(proto)) {
      const made = Object.getOwnPropertyDescriptor(proto, 'constructor')?.value;
      if (typeof made === 'function' && made.name !== '') return made.name;
    }
    return null;
  };

  const isClass = (value) => /^class\b/.test(Function.prototype.toString.call(value));

  const functionTitle = (value) => {
    if (isClass(value)) return `[class ${value.name || '(anonymous)'}]`;
    return `[${className(value) ?? 'Function'}${value.name ? `: ${value.name}` : ' (anonymous)'}]`;
  };

  const more = (count) => (count > 0 ? [`... ${count} more item${count > 1 ? 's' : ''}`] : []);

  const inspect = (value, options = {}, ...old) => {
    // The older form has (value, showHidden, depth).
    const settings = typeof options === 'object' && options !== null ? options : { depth: old[0] };
    const depth = settings.depth === null ? Infinity : (settings.depth ?? 2);
    return new Inspection(depth, settings.breakLength ?? 80, settings).show(value, 0);
  };

  class Inspection {
    #depth;
    #width;
    #options;
    #path = [];
    #circular = new Map();

    constructor(depth, width, options) {
      this.#depth = depth;
      this.#width = width;
      this.#options = options;
    }

    show(value, level) {
      if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return primitive(value);
      const custom = value[CUSTOM];
      if (typeof custom === 'function' && custom !== inspect) {
        const shown = custom.call(value, this.#depth - level, { ...this.#options }, inspect);
        if (shown !== value) return typeof shown === 'string' ? shown : this.show(shown, level);
      }
      if (this.#path.includes(value)) {
        if (!this.#circular.has(value)) this.#circular.set(value, this.#circular.size + 1);
        return `[Circular *${this.#circular.get(value)}]`;
      }
      this.#path.push(value);
      const shown = this.#object(value, level);
      this.#path.pop();
      return this.#circular.has(value) ? `<ref *${this.#circular.get(value)}> ${shown}` : shown;
    }

    #object(value, level) {
      const name = className(value);
      const prefix = name === null ? '[Object: null prototype] ' : name === 'Object' ? '' : `${name} `;
      const sized = (length) => (name === 'Array' ? '' : `${name ?? 'Array'}(${length}) `);
      if (value instanceof Date) {
        return this.#titled(Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString(), value, level);
      }
      if (value instanceof RegExp) return this.#titled(String(value), value, level);
      if (value instanceof Error) return this.#titled(errorTitle(value), value, level);
      if (typeof value === 'function') return this.#titled(functionTitle(value), value, level);
      for (const Boxed of [Boolean, Number, String, BigInt, Symbol]) {
        if (value instanceof Boxed) return `[${Boxed.name}: ${primitive(value.valueOf())}]`;
      }
      if (value instanceof Promise) return this.#titled('Promise {}', value, level);
      if (value instanceof WeakMap || value instanceof WeakSet) return `${name} { <items unknown> }`;
      if (level > this.#depth) return `[${Array.isArray(value) ? 'Array' : (name ?? 'Object: null prototype')}]`;
      if (Array.isArray(value)) return this.#list(sized(value.length), this.#items(value, level), value, level);
      if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
        const items = Array.from(value.subarray(0, MOST_ITEMS), primitive);
        return this.#braced(sized(value.length), '[', ']', [...items, ...more(value.length - items.length)], level);
      }
      if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
      if (value instanceof Map) {
        const entries = [...value].map(([from, to]) => `${this.show(from, level + 1)} => ${this.show(to, level + 1)}`);
        return this.#braced(`Map(${value.size}) `, '{', '}', [...entries, ...this.#fields(value, level)], level);
      }
      if (value instanceof Set) {
        const entries = [...value].map((item) => this.show(item, level + 1));
        return this.#braced(`Set(${value.size}) `, '{', '}', [...entries, ...this.#fields(value, level)], level);
      }
      return this.#braced(prefix, '{', '}', this.#fields(value, level), level);
    }

    #titled(title, value, level) {
      const fields = level > this.#depth ? [] : this.#fields(value, level);
      return fields.length === 0 ? title : this.#braced(`${title} `, '{', '}', fields, level);
    }

    #items(array, level) {
      const items = [];
      let holes = 0;
      const holed = () => {
        if (holes > 0) items.push(`<${holes} empty item${holes > 1 ? 's' : ''}>`);
        holes = 0;
      };
      const end = Math.min(array.length, MOST_ITEMS);
      for (let at = 0; at < end; at++) {
        if (!Object.hasOwn(array, at)) {
          holes++;
          continue;
        }
        holed();
        items.push(this.show(array[at], level + 1));
      }
      holed();
      return [...items, ...more(array.length - end)];
    }

    #list(prefix, items, array, level) {
      return this.#braced(prefix, '[', ']', [...items, ...this.#fields(array, level)], level);
    }

    #fields(value, level) {
      const names = Object.keys(value).filter((name) => !Array.isArray(value) || !/^\d+$/.test(name));
      const symbols = Object.getOwnPropertySymbols(value).filter((name) =>
        Object.prototype.propertyIsEnumerable.call(value, name),
      );
      return [...names, ...symbols].map((name) => {
        const { get, set, value: item } = Object.getOwnPropertyDescriptor(value, name);
        const accessor = get && set ? '[Getter/Setter]' : get ? '[Getter]' : set ? '[Setter]' : undefined;
        return `${key(name)}: ${accessor ?? this.show(item, level + 1)}`;
      });
    }

    #braced(prefix, open, close, parts, level) {
      if (parts.length === 0) return prefix + open + close;
      const spaced = open === '[' ? `[ ${parts.join(', ')} ]` : `{ ${parts.join(', ')} }`;
      const indent = '  '.repeat(level);
      if (!spaced.includes('\n') && indent.length + prefix.length + spaced.length <= this.#width) return prefix + spaced;
      return `${prefix}${open}\n${parts.map((part) => `${indent}  ${part}`).join(',\n')}\n${indent}${close}`;
    }
  }

  const errorTitle = (error) => {
    const title = String(error);
    const stack = typeof error.stack === 'string' ? error.stack.trimEnd() : '';
    if (stack === '') return `[${title}]`;
    if (stack.startsWith(title)) return stack;
    // The error may have got another name or message since its stack was written.
    return `${title}\n${stack.slice(Math.max(stack.search(/^\s*at /m), 0))}`;
  };
  inspect.custom = CUSTOM;

  const number = (value, convert) => (typeof value === 'symbol' || typeof value === 'object' ? 'NaN' : primitive(convert(value)));

  const DIRECTIVES = {
    s: (value) =>
      typeof value === 'object' && value !== null ? inspect(value, { depth: 0 }) : typeof value === 'string' ? value : primitive(value),
    d: (value) => (typeof value === 'bigint' ? `${value}n` : number(value, Number)),
    i: (value) => (typeof value === 'bigint' ? `${value}n` : number(value, Number.parseInt)),
    f: (value) => number(value, Number.parseFloat),
    j: (value) => {
      try {
        return JSON.stringify(value);
      } catch {
        return '[Circular]';
      }
    },
    o: (value) => inspect(value, { depth: 4 }),
    O: (value) => inspect(value),
    c: () => '',
  };

  const format = (first, ...args) => {
    const show = (value) => (typeof value === 'string' ? value : inspect(value));
    if (typeof first !== 'string') return [first, ...args].map(show).join(' ');
    let next = 0;
    const formatted = first.replace(/%([sdifjoOc%])/g, (whole, directive) => {
      if (directive === '%') return args.length === 0 ? whole : '%';
      return next < args.length ? String(DIRECTIVES[directive](args[next++])) : whole;
    });
    return [formatted, ...args.slice(next).map(show)].join(' ');
  };

  return { inspect, format };
})
