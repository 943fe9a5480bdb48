// `require`, and the functions of the application, which are modules too.
(function (host, builtins) {
  const cache = new Map();
  const functions = new Map();
  const unparsed = new WeakSet();

  function directory(path) {
    const slash = path.lastIndexOf("/");
    return slash < 0 ? "." : path.slice(0, slash);
  }

  function requireFrom(from) {
    const require = (name) => {
      if (typeof name !== "string") throw new TypeError("the name of a module must be a string");
      const bare = name.startsWith("node:") ? name.slice(5) : name;
      if (Object.hasOwn(builtins, bare)) return builtins[bare];
      return load(locate(from, name)).exports;
    };
    require.resolve = (name) => locate(from, name);
    require.cache = {};
    return require;
  }

  function locate(from, name) {
    const path = host.resolve(from, name);
    if (path !== undefined) return path;
    const error = new Error(`Cannot find module '${name}'`);
    error.code = "MODULE_NOT_FOUND";
    throw error;
  }

  function load(path) {
    const loaded = cache.get(path);
    if (loaded !== undefined) return loaded;
    const module = { id: path, filename: path, exports: {}, loaded: false, children: [], paths: [] };
    cache.set(path, module);
    try {
      if (path.endsWith(".json")) {
        module.exports = JSON.parse(host.text(path));
      } else {
        const initial = module.exports;
        module.require = requireFrom(path);
        const exported = compiled(path).call(initial, initial, module.require, module, path, directory(path));
        // Atlas has functions assigned to `exports` itself.
        if (exported !== undefined && exported !== initial) module.exports = exported;
      }
      module.loaded = true;
      return module;
    } catch (error) {
      cache.delete(path);
      throw error;
    }
  }

  function compiled(path) {
    try {
      return host.compile(path);
    } catch (error) {
      if (typeof error === "object" && error !== null) unparsed.add(error);
      throw error;
    }
  }

  function functionOf(name, exported) {
    if (typeof exported === "function") return exported;
    if (typeof exported !== "object" || exported === null) return undefined;
    for (const key of [name.slice(name.lastIndexOf("/") + 1), "handler", "default"]) {
      if (typeof exported[key] === "function") return exported[key];
    }
    const all = Object.values(exported).filter((value) => typeof value === "function");
    return all.length === 1 ? all[0] : undefined;
  }

  class FunctionError extends Error {
    get name() { return "FunctionError"; }
  }

  function find(name) {
    const known = functions.get(name);
    if (known !== undefined) return known;
    const path = host.functionPath(name);
    let missing;
    if (path === undefined) missing = `there is no function '${name}'`;
    else {
      const found = functionOf(name, load(path).exports);
      if (found !== undefined) {
        functions.set(name, found);
        return found;
      }
      missing = `the file of function '${name}' exports no function`;
    }
    const error = new FunctionError(missing);
    unparsed.add(error);
    throw error;
  }

  return {
    find,
    isUnparsed: (error) => typeof error === "object" && error !== null && unparsed.has(error),
    // A promise of another make is awaited like one of the engine's.
    settle: (value) => (typeof value.then === "function" ? Promise.resolve(value) : value),
  };
})
