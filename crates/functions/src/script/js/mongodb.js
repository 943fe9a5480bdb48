// A linked deployment, with the methods that functions of Atlas and the Node.js driver know.
(function () {
  const NUMBER = Symbol("session.number");
  const NONE = Symbol("cursor.none");
  const RETRY_FOR = 120000;
  const FIND_OPTIONS = new Set([
    "projection", "sort", "limit", "skip", "session", "hint", "batchSize", "maxTimeMS", "collation", "comment",
    "allowDiskUse", "let", "max", "min", "returnKey", "showRecordId", "noCursorTimeout", "readConcern", "readPreference",
    "timeoutMS", "promoteLongs", "promoteValues",
  ]);

  function isFlag(value) {
    return value === 0 || value === 1 || value === true || value === false;
  }

  function isExpression(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value)
      && Object.keys(value).some((key) => key.startsWith("$"));
  }

  // Atlas takes `(filter, projection, options)`, the driver `(filter, options)`. Two arguments are the
  // driver's where all names are of options and the values are not what a projection has.
  function findOptions(second, third) {
    if (third !== undefined && third !== null) {
      return second === undefined || second === null ? { ...third } : { ...third, projection: second };
    }
    if (second === undefined || second === null) return {};
    const names = Object.keys(second);
    const isOptions = names.length > 0 && names.every((name) => FIND_OPTIONS.has(name))
      && !names.every((name) => isFlag(second[name]) || (name !== "projection" && isExpression(second[name])));
    return isOptions ? { ...second } : names.length === 0 ? {} : { projection: second };
  }

  function changeOptions(given) {
    const options = { ...given };
    const isNew = options.returnNewDocument ?? options.new ?? (options.returnOriginal === undefined ? undefined : !options.returnOriginal);
    delete options.returnNewDocument;
    delete options.new;
    delete options.returnOriginal;
    if (isNew !== undefined && options.returnDocument === undefined) options.returnDocument = isNew ? "after" : "before";
    return options;
  }

  // A document that is inserted has no `_id` where that is `undefined`, and is given one.
  function inserted(document) {
    if (typeof document !== "object" || document === null || typeof document.toBSON === "function") return document;
    if (document instanceof Map) {
      return document.has("_id") && document.get("_id") === undefined
        ? new Map([...document].filter(([name]) => name !== "_id"))
        : document;
    }
    if (!Object.hasOwn(document, "_id") || document._id !== undefined) return document;
    const { _id, ...others } = document;
    return others;
  }

  // An operation of a bulk. The document that one inserts may be all that it says.
  function bulkOperation(operation) {
    const body = operation?.insertOne;
    if (typeof body !== "object" || body === null || Object.keys(operation).length !== 1) return operation;
    const names = Object.keys(body);
    return { insertOne: { document: inserted(names.length === 1 && names[0] === "document" ? body.document : body) } };
  }

  // Arguments and options that are `undefined` are not given. Within documents it is a value of its own.
  function present(named) {
    return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
  }

  class Cursor {
    #perform;
    #operation;
    #args;
    #options;
    #maps = [];
    #batch = [];
    #at = 0;
    #id = null;
    #state = "new";
    #filling = null;

    constructor(perform, operation, args, options) {
      this.#perform = perform;
      this.#operation = operation;
      this.#args = args;
      this.#options = options;
    }

    #set(name, value) {
      if (this.#state !== "new") throw new Error(`a cursor that was read from takes no ${name}`);
      this.#options = { ...this.#options, [name]: value };
      return this;
    }

    // What a query has as an option, a pipeline has as a stage.
    #refine(name, value, stage) {
      if (this.#operation !== "aggregate") return this.#set(name, value);
      if (this.#state !== "new") throw new Error(`a cursor that was read from takes no ${name}`);
      const { pipeline } = this.#args;
      if (!Array.isArray(pipeline)) throw new TypeError("the pipeline is no array");
      this.#args = { ...this.#args, pipeline: [...pipeline, { [stage]: value }] };
      return this;
    }

    sort(order, direction) {
      return this.#refine("sort", typeof order === "string" ? { [order]: direction ?? 1 } : order, "$sort");
    }
    limit(count) { return this.#refine("limit", count, "$limit"); }
    skip(count) { return this.#refine("skip", count, "$skip"); }
    project(projection) { return this.#refine("projection", projection, "$project"); }
    projection(projection) { return this.project(projection); }
    batchSize(count) { return this.#set("batchSize", count); }
    hint(hint) { return this.#set("hint", hint); }
    collation(collation) { return this.#set("collation", collation); }
    comment(comment) { return this.#set("comment", comment); }
    maxTimeMS(time) { return this.#set("maxTimeMS", time); }
    allowDiskUse(allow = true) { return this.#set("allowDiskUse", allow); }
    map(change) {
      this.#maps.push(change);
      return this;
    }

    get closed() { return this.#state === "closed"; }

    // Whether nothing comes behind this batch.
    #isOver() {
      if (this.#state === "open" && this.#id === null && this.#filling === null) this.#state = "closed";
      return this.#state === "closed";
    }

    // All who wait for documents wait for the same batch.
    #fill() {
      this.#filling ??= this.#fetch().finally(() => { this.#filling = null; });
      return this.#filling;
    }

    async #fetch() {
      const before = this.#id;
      let answer;
      try {
        if (this.#state === "new") {
          this.#state = "open";
          answer = await this.#perform(this.#operation, this.#args, this.#options);
        } else {
          answer = await this.#perform("getMore", { cursor: before }, this.#options.session ? { session: this.#options.session } : {});
        }
      } catch (error) {
        this.#state = "closed";
        this.#id = null;
        throw error;
      }
      const id = answer.cursor ?? null;
      if (this.#state === "closed") {
        // Closed before it was known by a number.
        if (id !== null && id !== before) await this.#perform("closeCursor", { cursor: id }, {});
        return;
      }
      this.#batch = answer.batch;
      this.#at = 0;
      this.#id = id;
    }

    async hasNext() {
      while (this.#at >= this.#batch.length) {
        if (this.#isOver()) return false;
        await this.#fill();
      }
      return true;
    }

    // The next document or `NONE`. Nothing is waited for between looking for one and taking it.
    async #take() {
      while (this.#at >= this.#batch.length) {
        if (this.#isOver()) return NONE;
        await this.#fill();
      }
      let document = this.#batch[this.#at];
      this.#batch[this.#at] = undefined;
      this.#at += 1;
      for (const change of this.#maps) document = await change(document);
      return document;
    }

    async next() {
      const document = await this.#take();
      return document === NONE ? undefined : document;
    }

    // As the driver has it, which Atlas does not know.
    async tryNext() {
      const document = await this.#take();
      return document === NONE ? null : document;
    }

    async toArray() {
      const all = [];
      for (;;) {
        if (this.#maps.length === 0) {
          for (; this.#at < this.#batch.length; this.#at += 1) all.push(this.#batch[this.#at]);
        }
        const document = await this.#take();
        if (document === NONE) return all;
        all.push(document);
      }
    }

    async forEach(visit) {
      for await (const document of this) {
        if ((await visit(document)) === false) break;
      }
    }

    async count() {
      if (this.#operation !== "find") throw new Error("only a cursor of find can be counted");
      return this.#perform("count", this.#args, this.#options);
    }

    async close() {
      const id = this.#id;
      this.#state = "closed";
      this.#id = null;
      this.#batch = [];
      this.#at = 0;
      if (id !== null) await this.#perform("closeCursor", { cursor: id }, {});
    }

    async *[Symbol.asyncIterator]() {
      try {
        for (;;) {
          const document = await this.#take();
          if (document === NONE) return;
          yield document;
        }
      } finally {
        await this.close();
      }
    }
  }

  class ClientSession {
    #perform;
    // What was asked of the session so far: starting it and its transactions does not wait, what uses it does.
    #ready;
    #options;
    #inTransaction = false;
    #ended = false;

    constructor(perform, options) {
      this.#perform = perform;
      this.#options = options ?? {};
      this.#after(() => perform("startSession", {}, this.#options));
    }

    #after(act) {
      const before = this.#ready;
      this.#ready = (async () => {
        const number = await before;
        const started = await act(number);
        return number ?? started;
      })();
      // Whoever uses the session next is told.
      this.#ready.catch(() => {});
      return this.#ready;
    }

    [NUMBER]() { return this.#ready; }

    inTransaction() { return this.#inTransaction; }
    get hasEnded() { return this.#ended; }

    startTransaction(options) {
      if (this.#inTransaction) throw new Error("a transaction is in progress already");
      this.#inTransaction = true;
      const given = { ...this.#options.defaultTransactionOptions, ...options };
      this.#after((number) => this.#perform("startTransaction", { session: number }, given));
    }

    async commitTransaction() {
      const number = await this.#ready;
      await this.#perform("commitTransaction", { session: number }, {});
      this.#inTransaction = false;
    }

    async abortTransaction() {
      this.#inTransaction = false;
      const number = await this.#ready;
      await this.#perform("abortTransaction", { session: number }, {});
    }

    async endSession() {
      if (this.#ended) return;
      this.#ended = true;
      this.#inTransaction = false;
      let number;
      try {
        number = await this.#ready;
      } catch {
        // A session that could not be started has nothing to end, and whoever used it was told.
        return;
      }
      await this.#perform("endSession", { session: number }, {});
    }

    async withTransaction(act, options) {
      const until = Date.now() + RETRY_FOR;
      const mayRetry = (error, label) => Array.isArray(error?.errorLabels) && error.errorLabels.includes(label) && Date.now() < until;
      attempt: for (;;) {
        let result;
        try {
          this.startTransaction(options);
          result = await act(this);
        } catch (error) {
          if (this.#inTransaction) {
            try {
              await this.abortTransaction();
            } catch {
              // The error that led here says more.
            }
          }
          if (mayRetry(error, "TransientTransactionError")) {
            this.#revive();
            continue;
          }
          throw error;
        }
        if (!this.#inTransaction) return result;
        for (;;) {
          try {
            await this.commitTransaction();
            return result;
          } catch (error) {
            // 50 is MaxTimeMSExpired: the time that the commit was given is over.
            if (error?.code !== 50 && mayRetry(error, "UnknownTransactionCommitResult")) continue;
            this.#inTransaction = false;
            if (mayRetry(error, "TransientTransactionError")) continue attempt;
            throw error;
          }
        }
      }
    }

    // A transaction that could not be started leaves the session to be used again.
    #revive() {
      const before = this.#ready;
      this.#ready = before.catch(() => this.#perform("startSession", {}, this.#options));
      this.#ready.catch(() => {});
    }
  }

  return function mongodb(call, service) {
    async function perform(place, operation, args, chosen) {
      const { session, ...others } = chosen ?? {};
      const options = present(others);
      const full = present({ ...place, ...args });
      if (session !== undefined && session !== null) {
        if (typeof session[NUMBER] !== "function") throw new TypeError("the session is not one of startSession()");
        full.session = await session[NUMBER]();
      }
      if (Object.keys(options).length > 0) full.options = options;
      return call(service, operation, full);
    }

    function collection(db, name) {
      const place = { db, coll: name };
      const act = (operation, args, options) => perform(place, operation, args, options);
      const onDocument = (operation) => (filter, change, options) => {
        const given = changeOptions(options);
        const { includeResultMetadata, ...rest } = given;
        const answer = act(operation, { filter: filter ?? {}, ...change }, rest);
        return includeResultMetadata === true ? answer.then((value) => ({ value, ok: 1 })) : answer;
      };
      const findOneAndUpdate = onDocument("findOneAndUpdate");
      const findOneAndReplace = onDocument("findOneAndReplace");
      const findOneAndDelete = onDocument("findOneAndDelete");
      return {
        get name() { return name; },
        get collectionName() { return name; },
        get dbName() { return db; },
        get namespace() { return `${db}.${name}`; },
        find: (filter, second, third) => new Cursor(act, "find", { filter: filter ?? {} }, findOptions(second, third)),
        findOne: (filter, second, third) => act("findOne", { filter: filter ?? {} }, findOptions(second, third)),
        findOneAndUpdate: (filter, update, options) => findOneAndUpdate(filter, { update }, options),
        findOneAndReplace: (filter, replacement, options) => findOneAndReplace(filter, { replacement }, options),
        findOneAndDelete: (filter, options) => findOneAndDelete(filter, {}, options),
        insertOne: (document, options) => act("insertOne", { document: inserted(document) }, options),
        insertMany: (documents, options) =>
          act("insertMany", { documents: Array.isArray(documents) ? documents.map(inserted) : documents }, options),
        updateOne: (filter, update, options) => act("updateOne", { filter, update }, options),
        updateMany: (filter, update, options) => act("updateMany", { filter, update }, options),
        replaceOne: (filter, replacement, options) => act("replaceOne", { filter, replacement }, options),
        deleteOne: (filter, options) => act("deleteOne", { filter: filter ?? {} }, options),
        deleteMany: (filter, options) => act("deleteMany", { filter: filter ?? {} }, options),
        aggregate: (pipeline, options) => new Cursor(act, "aggregate", { pipeline: pipeline ?? [] }, { ...options }),
        count: (filter, options) => act("count", { filter: filter ?? {} }, options),
        countDocuments: (filter, options) => act("countDocuments", { filter: filter ?? {} }, options),
        estimatedDocumentCount: (options) => act("estimatedDocumentCount", {}, options),
        distinct: (field, filter, options) => act("distinct", { field, filter: filter ?? {} }, options),
        bulkWrite: (operations, options) =>
          act("bulkWrite", { operations: Array.isArray(operations) ? operations.map(bulkOperation) : operations }, options),
        watch() { throw new Error("watch is not supported in functions: use a trigger"); },
      };
    }

    function database(db) {
      const act = (operation, args, options) => perform({ db }, operation, args, options);
      const runCommand = (command, options) => act("runCommand", { command }, options);
      return {
        get name() { return db; },
        get databaseName() { return db; },
        collection: (name) => collection(db, String(name)),
        aggregate: (pipeline, options) => new Cursor(act, "aggregate", { pipeline: pipeline ?? [] }, { ...options }),
        runCommand,
        command: runCommand,
        watch() { throw new Error("watch is not supported in functions: use a trigger"); },
      };
    }

    return {
      db: (name) => database(String(name)),
      // Sessions belong to no database; the name is there because every operation has one.
      startSession: (options) => new ClientSession((operation, args, given) => perform({ db: "admin" }, operation, args, given), options),
    };
  };
})
