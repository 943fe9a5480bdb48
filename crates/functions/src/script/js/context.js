// `context`, and the services that are reached through it.
(function (host, { find }, mongodb, { forgetTimers }) {
  const waiting = new Map();

  class ServiceError extends Error {
    hasErrorLabel(label) { return this.errorLabels.includes(label); }
  }
  Object.defineProperty(ServiceError.prototype, "name", { value: "Error", writable: true, configurable: true });

  // The place of the call is kept: by the time of the answer, the stack that led to it is gone.
  function ask(service, operation, args, isOfDocuments) {
    const site = new Error();
    return new Promise((resolve, reject) => {
      waiting.set(host.call(service, operation, args, isOfDocuments), { resolve, reject, site });
    });
  }

  const call = (service, operation, args) => ask(service, operation, args, false);
  const callOfDocuments = (service, operation, args) => ask(service, operation, args, true);

  function settle(id, failure, value) {
    const answer = waiting.get(id);
    if (answer === undefined) return;
    waiting.delete(id);
    if (failure === undefined) {
      answer.resolve(value);
      return;
    }
    const error = new ServiceError(failure.message);
    const stack = `${failure.name}: ${failure.message}\n${host.userStack(answer.site.stack)}`;
    const own = { name: failure.name, errorLabels: failure.labels, stack: stack.trimEnd() };
    if (failure.code !== undefined) own.code = failure.code;
    for (const [key, held] of Object.entries(own)) {
      Object.defineProperty(error, key, { value: held, writable: true, configurable: true, enumerable: key === "code" });
    }
    answer.reject(error);
  }

  const warned = new Set();

  // Says something to the console that need not be said again in the same run.
  function warnOnce(text) {
    if (warned.has(text)) return;
    warned.add(text);
    host.print("warn", text);
  }

  // An object that has an action by any name but `then`, which would make it look like a promise.
  function actions(perform, known = {}) {
    return new Proxy(known, {
      get(target, name) {
        if (typeof name === "symbol" || name === "then" || name === "toJSON" || name in target) return target[name];
        return (...args) => perform(name, args);
      },
    });
  }

  function http(service) {
    const request = (method) => (given) => {
      const args = typeof given === "string" ? { url: given } : { ...given };
      const body = args.body;
      const isData = typeof body === "object" && body !== null
        && !(body instanceof BSON.Binary) && !(body instanceof Uint8Array) && !(body instanceof ArrayBuffer);
      if (body !== undefined && args.encodeBodyAsJSON === true) {
        args.body = EJSON.stringify(body);
      } else if (isData) {
        args.body = JSON.stringify(body);
      }
      return call(service, method, { args });
    };
    const client = {};
    for (const method of ["get", "post", "put", "patch", "delete", "head"]) client[method] = request(method);
    return client;
  }

  function aws(service) {
    return actions((name, [region]) => actions((action, [args]) => {
      const given = { args: args ?? {} };
      if (region !== undefined) given.region = String(region);
      return call(service, `${name}.${action}`, given);
    }));
  }

  const kinds = {
    mongodb: (service) => mongodb(callOfDocuments, service, warnOnce),
    aws,
    http,
    twilio: (service) => actions((action, [args]) => call(service, action, { args: args ?? {} })),
  };
  kinds.github = kinds.twilio;
  kinds.push = kinds.twilio;

  const services = new Map();

  // Atlas answers `undefined` for a service that there is not; the console says what was wrong with what follows.
  function service(name) {
    const made = services.get(name);
    if (made !== undefined) return made;
    const kind = host.service(String(name));
    if (kind === undefined) {
      host.print("warn", `there is no service '${name}'`);
      return undefined;
    }
    if (!Object.hasOwn(kinds, kind)) throw new Error(`service '${name}' is of the unknown kind '${kind}'`);
    const client = kinds[kind](String(name));
    services.set(name, client);
    return client;
  }

  let request;
  const app = host.app();
  const known = (given) => Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
  const deployment = known({ model: app.model, providerRegion: app.providerRegion });
  const context = {
    functions: { execute: (name, ...args) => find(String(name))(...args) },
    values: { get: (name) => host.value(String(name)) },
    environment: { tag: app.environment, get values() { return host.environmentValues(); } },
    services: { get: service },
    http: http(""),
    user: { id: "", type: "system", data: {}, custom_data: {}, identities: [] },
    app: {
      id: app.id,
      name: app.name,
      ...known({ clientAppId: app.clientAppId, projectId: app.projectId }),
      ...(Object.keys(deployment).length > 0 ? { deployment } : {}),
    },
    runningAsSystem: () => true,
    get request() {
      request ??= host.request();
      return request;
    },
  };
  Object.defineProperty(globalThis, "context", { value: context, writable: true, configurable: true });

  return {
    settle,
    // The run that had the context has ended.
    forget() {
      request = undefined;
      warned.clear();
      waiting.clear();
      forgetTimers();
    },
  };
})
