// Text for values, as consoles show it.
(function (host) {
  const INSPECT = Symbol.for("nodejs.util.inspect.custom");
  const DEPTH = 8;
  const ITEMS = 100;
  const TEXT = 10000;
  const WIDTH = 76;
  const NAME = /^[A-Za-z_$][\w$]*$/;

  function quoted(text) {
    const quote = !text.includes("'") ? "'" : !text.includes('"') ? '"' : !text.includes("`") ? "`" : "'";
    let out = "";
    for (const character of text.length > TEXT ? text.slice(0, TEXT) : text) {
      if (character === "\n") out += "\\n";
      else if (character === "\r") out += "\\r";
      else if (character === "\t") out += "\\t";
      else if (character === "\\" || character === quote) out += "\\" + character;
      else if (character < " ") out += "\\x" + character.charCodeAt(0).toString(16).padStart(2, "0");
      else out += character;
    }
    const more = text.length - TEXT;
    return quote + out + quote + (more > 0 ? `... ${more} more characters` : "");
  }

  function keyText(key) {
    if (typeof key === "symbol") return `[${String(key)}]`;
    return NAME.test(key) ? key : quoted(key);
  }

  function primitive(value) {
    switch (typeof value) {
      case "string": return quoted(value);
      case "bigint": return `${value}n`;
      case "number": return Object.is(value, -0) ? "-0" : String(value);
      default: return String(value);
    }
  }

  function nameOf(value) {
    for (let proto = Object.getPrototypeOf(value); proto !== null; proto = Object.getPrototypeOf(proto)) {
      const maker = Object.getOwnPropertyDescriptor(proto, "constructor")?.value;
      if (typeof maker === "function" && typeof maker.name === "string" && maker.name !== "") return maker.name;
    }
    return "";
  }

  function functionText(value) {
    const source = Function.prototype.toString.call(value);
    const name = typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)";
    if (source.startsWith("class")) return `[class${name === " (anonymous)" ? name : name.slice(1)}]`;
    const kind = source.startsWith("async") ? "AsyncFunction" : "Function";
    return `[${kind}${name}]`;
  }

  function errorText(error, path, depth) {
    const head = headline(error);
    const stack = calls(error);
    let text = stack === "" ? head : `${head}\n${stack}`;
    const extra = Object.keys(error).filter((key) => key !== "stack" && key !== "message" && key !== "name" && key !== "cause");
    if (extra.length > 0) text += " " + block("{", "}", properties(error, extra, path, depth), path.length);
    if (error.cause !== undefined) text += `\n  [cause]: ${show(error.cause, path, depth + 1)}`;
    return text;
  }

  function headline(error) {
    const name = error.name === undefined ? "Error" : String(error.name);
    const message = error.message === undefined ? "" : String(error.message);
    if (message === "") return name;
    return name === "" ? message : `${name}: ${message}`;
  }

  // The calls that an error's stack names, without what is said in front of them.
  function calls(error) {
    const { stack } = error;
    if (typeof stack !== "string") return "";
    const head = headline(error);
    return host.userStack(stack.startsWith(head) ? stack.slice(head.length) : stack);
  }

  // The engine's stacks are of calls alone. Those of V8, which functions print, say first what failed.
  function headed(error, stack) {
    if (typeof stack !== "string" || (stack !== "" && !stack.startsWith("    at "))) return stack;
    let head;
    try {
      head = headline(error);
    } catch {
      head = "Error";
    }
    return stack === "" ? head : `${head}\n${stack.trimEnd()}`;
  }

  const { get: stackOf, set: setStack } = Object.getOwnPropertyDescriptor(Error.prototype, "stack");
  const accessor = {
    get stack() { return headed(this, stackOf.call(this)); },
  };
  Object.defineProperty(Error.prototype, "stack", {
    get: Object.getOwnPropertyDescriptor(accessor, "stack").get,
    set: setStack,
    enumerable: false,
    configurable: true,
  });
  const { captureStackTrace: capture } = Error;
  function captureStackTrace(target, above) {
    capture(target, typeof above === "function" ? above : captureStackTrace);
    const own = Object.getOwnPropertyDescriptor(target, "stack");
    if (own !== undefined && "value" in own) {
      Object.defineProperty(target, "stack", { ...own, value: headed(target, own.value) });
    }
  }
  Object.defineProperty(Error, "captureStackTrace", { value: captureStackTrace, writable: true, configurable: true });

  function properties(value, keys, path, depth) {
    return keys.slice(0, ITEMS).map((key) => {
      const property = Object.getOwnPropertyDescriptor(value, key);
      let text;
      if (property === undefined || "value" in property) text = show(value[key], path, depth + 1);
      else text = property.get ? (property.set ? "[Getter/Setter]" : "[Getter]") : "[Setter]";
      return `${keyText(key)}: ${text}`;
    }).concat(keys.length > ITEMS ? [`... ${keys.length - ITEMS} more`] : []);
  }

  function block(open, close, items, level) {
    if (items.length === 0) return open + close;
    const single = items.join(", ");
    if (single.length + level * 2 <= WIDTH && !single.includes("\n")) {
      return open.endsWith("[") ? `${open} ${single} ${close}` : `${open} ${single} ${close}`;
    }
    const indent = "  ".repeat(level);
    return `${open}\n${items.map((item) => `${indent}  ${item}`).join(",\n")}\n${indent}${close}`;
  }

  function listed(items, count) {
    return count > ITEMS ? items.concat([`... ${count - ITEMS} more items`]) : items;
  }

  function show(value, path, depth) {
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return primitive(value);
    if (path.includes(value)) return "[Circular]";
    if (typeof value[INSPECT] === "function") {
      const text = value[INSPECT](DEPTH - depth, {}, inspect);
      return typeof text === "string" ? text : show(text, [...path, value], depth);
    }
    if (typeof value === "function") {
      const keys = Object.keys(value);
      const text = functionText(value);
      return keys.length === 0 ? text : `${text} ${block("{", "}", properties(value, keys, [...path, value], depth), path.length)}`;
    }
    const inner = [...path, value];
    if (value instanceof Error) return errorText(value, inner, depth);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp) return String(value);
    const name = nameOf(value);
    if (depth > DEPTH) return Array.isArray(value) ? "[Array]" : `[${name || "Object: null prototype"}]`;
    if (Array.isArray(value)) {
      const items = [];
      for (let at = 0; at < value.length && at < ITEMS; at += 1) {
        items.push(at in value ? show(value[at], inner, depth + 1) : "<empty>");
      }
      return block("[", "]", listed(items, value.length), path.length);
    }
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      const items = Array.from(value.subarray(0, ITEMS), String);
      return block(`${name}(${value.length}) [`, "]", listed(items, value.length), path.length);
    }
    if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
    if (value instanceof Map) {
      const items = [];
      for (const [key, item] of value) {
        if (items.length === ITEMS) break;
        items.push(`${show(key, inner, depth + 1)} => ${show(item, inner, depth + 1)}`);
      }
      return block(`Map(${value.size}) {`, "}", listed(items, value.size), path.length);
    }
    if (value instanceof Set) {
      const items = [];
      for (const item of value) {
        if (items.length === ITEMS) break;
        items.push(show(item, inner, depth + 1));
      }
      return block(`Set(${value.size}) {`, "}", listed(items, value.size), path.length);
    }
    if (value instanceof Promise) return "Promise {}";
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return `[${name}: ${primitive(value.valueOf())}]`;
    }
    const keys = Object.keys(value);
    const symbols = Object.getOwnPropertySymbols(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));
    const prefix = name === "Object" ? "" : name === "" ? "[Object: null prototype] " : `${name} `;
    return block(`${prefix}{`, "}", properties(value, [...keys, ...symbols], inner, depth), path.length);
  }

  function inspect(value) {
    return show(value, [], 0);
  }

  function format(...args) {
    const parts = [];
    let next = 0;
    if (typeof args[0] === "string" && args.length > 1) {
      next = 1;
      parts.push(args[0].replace(/%[sdifjoOc%]/g, (mark) => {
        if (mark === "%%") return "%";
        if (next >= args.length) return mark;
        const value = args[next];
        next += 1;
        switch (mark) {
          case "%s": return typeof value === "object" && value !== null ? inspect(value) : typeof value === "symbol" ? String(value) : `${value}`;
          case "%d": return typeof value === "symbol" ? "NaN" : typeof value === "bigint" ? `${value}n` : String(Number(value));
          case "%i": return typeof value === "bigint" ? `${value}n` : String(parseInt(value, 10));
          case "%f": return String(parseFloat(value));
          case "%j": return json(value);
          case "%c": return "";
          default: return inspect(value);
        }
      }));
    }
    for (; next < args.length; next += 1) {
      parts.push(typeof args[next] === "string" ? args[next] : inspect(args[next]));
    }
    return parts.join(" ");
  }

  function json(value) {
    try {
      return JSON.stringify(value) ?? "undefined";
    } catch {
      return "[Circular]";
    }
  }

  // What was thrown, for a report: it may be anything, and looking at it may fail in turn.
  function thrown(value) {
    try {
      if (value instanceof Error) {
        const name = value.name === undefined ? "Error" : String(value.name);
        return [name, value.message === undefined ? "" : String(value.message), calls(value)];
      }
      if (value !== null && typeof value === "object") {
        const name = typeof value.name === "string" && value.name !== "" ? value.name : nameOf(value);
        const message = typeof value.message === "string" ? value.message : inspect(value);
        return [name === "" || name === "Object" ? "Error" : name, message, typeof value.stack === "string" ? value.stack : ""];
      }
      return ["Error", typeof value === "string" ? value : inspect(value), ""];
    } catch {
      return ["Error", "what was thrown cannot be shown", ""];
    }
  }

  return { inspect, format, thrown };
})
