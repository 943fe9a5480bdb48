// A linked deployment, with the methods that functions of Atlas and the Node.js driver know.
(function () {
  const NUMBER = Symbol("session.number");
  const NONE = Symbol("cursor.none");
  const RETRY_FOR = 120000;
  const WRITING = ["writeConcern", "comment"];
  const READING = ["readConcern", "readPreference", "comment", "maxTimeMS"];
  const SELECTING = ["hint", "collation"];
  const UPDATING = [...WRITING, ...SELECTING, "upsert", "let", "bypassDocumentValidation"];
  const FINDING = [
    ...READING, ...SELECTING, "projection", "sort", "skip", "let", "allowDiskUse", "allowPartialResults", "max", "min",
    "returnKey", "showRecordId",
  ];
  const CHANGING = [...WRITING, ...SELECTING, "sort", "projection", "maxTimeMS", "let"];
  const RETURNING = [...CHANGING, "upsert", "returnDocument", "bypassDocumentValidation"];
  const COUNTING = [...READING, ...SELECTING, "limit", "skip"];

  // The options of each operation, by what the store of documents calls them.
  const OPTIONS = {
    find: [...FINDING, "limit", "batchSize", "noCursorTimeout"],
    findOne: FINDING,
    aggregate: [
      ...READING, ...SELECTING, "allowDiskUse", "batchSize", "bypassDocumentValidation", "let", "writeConcern",
    ],
    count: COUNTING,
    countDocuments: COUNTING,
    estimatedDocumentCount: READING,
    distinct: [...READING, ...SELECTING],
    insertOne: [...WRITING, "bypassDocumentValidation"],
    insertMany: [...WRITING, "bypassDocumentValidation", "ordered"],
    updateOne: [...UPDATING, "arrayFilters", "sort"],
    updateMany: [...UPDATING, "arrayFilters"],
    replaceOne: [...UPDATING, "sort"],
    deleteOne: [...WRITING, ...SELECTING, "let"],
    deleteMany: [...WRITING, ...SELECTING, "let"],
    findOneAndUpdate: [...RETURNING, "arrayFilters"],
    findOneAndReplace: RETURNING,
    findOneAndDelete: CHANGING,
    bulkWrite: [...WRITING, "ordered", "bypassDocumentValidation", "let"],
    runCommand: ["readPreference"],
    startSession: ["causalConsistency", "snapshot", "defaultTransactionOptions"],
    startTransaction: ["readConcern", "writeConcern", "readPreference", "maxCommitTimeMS"],
  };

  // The fields of what a bulk does.
  const BULK = {
    updateOne: ["filter", "update", "upsert", "arrayFilters", "hint", "collation", "sort"],
    updateMany: ["filter", "update", "upsert", "arrayFilters", "hint", "collation"],
    replaceOne: ["filter", "replacement", "upsert", "hint", "collation", "sort"],
    deleteOne: ["filter", "hint", "collation"],
    deleteMany: ["filter", "hint", "collation"],
  };

  const CONCERN = ["w", "j", "journal", "wtimeout", "wtimeoutMS"];
  const PREFERENCE = ["mode", "tags", "maxStalenessSeconds"];

  // What the driver has find take, of which some is about connections and values and means nothing here.
  const FIND_OPTIONS = new Set([
    ...OPTIONS.find, "session", "awaitData", "bsonRegExp", "checkKeys", "cursorType", "explain", "fieldsAsRaw",
    "ignoreUndefined", "maxAwaitTimeMS", "oplogReplay", "partial", "promoteBuffers", "promoteLongs", "promoteValues",
    "raw", "serializeFunctions", "singleBatch", "tailable", "timeout", "timeoutMode", "timeoutMS", "useBigInt64",
  ]);
  // Those that are flags and named as no field of a document is.
  const FIND_FLAGS = new Set([
    "allowDiskUse", "allowPartialResults", "awaitData", "ignoreUndefined", "noCursorTimeout", "promoteBuffers",
    "promoteLongs", "promoteValues", "returnKey", "serializeFunctions", "showRecordId", "useBigInt64",
  ]);
  // What findOne says itself.
  const OF_CURSORS = new Set(["limit", "batchSize", "noCursorTimeout", "singleBatch"]);

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
      const isGiven = second !== undefined && second !== null && (Object.keys(second).length > 0 || !third.projection);
      return isGiven ? { ...third, projection: second } : { ...third };
    }
    if (second === undefined || second === null) return {};
    const names = Object.keys(second);
    const isOptions = names.length > 0 && names.every((name) => FIND_OPTIONS.has(name))
      && !names.every((name) => !FIND_FLAGS.has(name)
        && (isFlag(second[name]) || (name !== "projection" && isExpression(second[name]))));
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

  function isObject(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value) && value._bsontype === undefined;
  }

  const ORDERS = new Map([
    ["1", 1], ["asc", 1], ["ascending", 1], ["-1", -1], ["desc", -1], ["descending", -1],
  ]);

  function sortOrder(given = 1) {
    if (isExpression(given)) return given;
    const order = ORDERS.get(String(given).toLowerCase());
    if (order === undefined) throw new TypeError(`'${String(given)}' is no order to sort in`);
    return order;
  }

  // A sort in any of the forms of the driver: a name, names, a pair, pairs, a document.
  function sorted(sort, order) {
    let pairs;
    if (typeof sort === "string") {
      pairs = [[sort, order]];
    } else if (sort instanceof Map) {
      pairs = [...sort];
    } else if (Array.isArray(sort)) {
      const isPair = sort.length === 2 && ORDERS.has(String(sort[1]).toLowerCase());
      pairs = Array.isArray(sort[0]) ? sort : isPair ? [sort] : sort.map((name) => [name]);
    } else if (isObject(sort)) {
      pairs = Object.entries(sort);
    }
    if (!pairs?.every((pair) => Array.isArray(pair) && typeof pair[0] === "string")) {
      throw new TypeError("a sort is a document, or names, or pairs of a name and an order");
    }
    return new Map(pairs.map(([name, given]) => [name, sortOrder(given)]));
  }

  function only(given, known, ignore) {
    return Object.fromEntries(Object.entries(given).filter(([name, value]) => {
      if (known.includes(name)) return true;
      if (value !== undefined && value !== null) ignore(name);
      return false;
    }));
  }

  // The options of an operation as the store of documents takes them, in whatever form the driver takes them. Those
  // that the driver passes over are passed over, which is said.
  function chosen(operation, given, ignore) {
    if (Object.keys(given).length === 0) return {};
    const known = OPTIONS[operation] ?? [];
    const takes = (name) => known.includes(name);
    const options = { ...given };
    const rename = (name, to) => {
      if (!takes(to) || takes(name) || options[name] === undefined) return;
      options[to] ??= options[name];
      delete options[name];
    };
    if (operation === "findOne") for (const name of OF_CURSORS) delete options[name];
    rename("partial", "allowPartialResults");
    if (operation === "aggregate" && options.cursor !== undefined && options.cursor !== null) {
      if (!isObject(options.cursor)) throw new TypeError("the option 'cursor' of aggregate is no document");
      options.batchSize ??= options.cursor.batchSize;
      delete options.cursor;
    }
    if (takes("writeConcern")) {
      const named = options.writeConcern;
      const own = Object.fromEntries(CONCERN.filter((name) => name in options).map((name) => [name, options[name]]));
      for (const name of CONCERN) delete options[name];
      const isWord = typeof named === "string" || typeof named === "number";
      if (isWord || isObject(named) || Object.keys(own).length > 0 && (named === undefined || named === null)) {
        const concern = only({ ...own, ...(isWord ? { w: named } : named) }, CONCERN, (name) => ignore(`writeConcern.${name}`));
        // What nobody waits for is waited for all the same.
        if (concern.w === 0) {
          delete concern.w;
          ignore("writeConcern.w: 0");
        }
        options.writeConcern = present(concern);
        if (Object.keys(options.writeConcern).length === 0) delete options.writeConcern;
      }
    }
    if (typeof options.readConcern === "string") options.readConcern = { level: options.readConcern };
    if (isObject(options.readPreference)) {
      const { preference, ...others } = options.readPreference;
      if (preference !== undefined) others.mode ??= preference;
      options.readPreference = only(others, PREFERENCE, (name) => ignore(`readPreference.${name}`));
    }
    if (isObject(options.defaultTransactionOptions)) {
      options.defaultTransactionOptions = chosen("startTransaction", options.defaultTransactionOptions, ignore);
    }
    if (options.sort !== undefined && options.sort !== null && takes("sort")) options.sort = sorted(options.sort);
    if (Array.isArray(options.hint)) options.hint = new Map(options.hint.map((name) => [String(name), 1]));
    return present(only(options, known, ignore));
  }

  // An operation of a bulk. The document that one inserts may be all that it says.
  function bulkOperation(operation, ignore) {
    const names = isObject(operation) ? Object.keys(operation) : [];
    const name = names[0];
    const body = operation?.[name];
    if (names.length !== 1 || typeof body !== "object" || body === null) return operation;
    if (name === "insertOne") {
      const fields = Object.keys(body);
      return { insertOne: { document: inserted(fields.length === 1 && fields[0] === "document" ? body.document : body) } };
    }
    if (!Object.hasOwn(BULK, name)) return operation;
    const known = only(body, BULK[name], (field) => ignore(`${name}.${field}`));
    if (known.sort !== undefined && known.sort !== null) known.sort = sorted(known.sort);
    return { [name]: known };
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
      if (order === undefined || order === null) return this;
      const sort = sorted(order, direction);
      return sort.size === 0 ? this : this.#refine("sort", sort, "$sort");
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
      return this.#perform("count", this.#args, only(this.#options, [...COUNTING, "session"], () => {}));
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

  const MOST_KEPT = 256;

  // Gives again what it made for a name before: functions ask for the same in every run.
  function kept(make) {
    const made = new Map();
    return (name) => {
      const before = made.get(name);
      if (before !== undefined) return before;
      if (made.size >= MOST_KEPT) made.clear();
      const now = make(name);
      made.set(name, now);
      return now;
    };
  }

  return function mongodb(call, service, warnOnce) {
    const ignoring = (operation) => (name) => warnOnce(`${operation} has no option '${name}', which is left out`);

    async function perform(place, operation, args, given) {
      const { session, ...others } = given ?? {};
      const options = chosen(operation, others, ignoring(operation));
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
        const given = operation === "findOneAndDelete" ? { ...options } : changeOptions(options);
        const { includeResultMetadata, rawResult, ...rest } = given;
        const answer = act(operation, { filter: filter ?? {}, ...change }, rest);
        return includeResultMetadata ?? rawResult ? answer.then((value) => ({ value, ok: 1 })) : answer;
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
        bulkWrite: async (operations, options) => {
          const ignore = ignoring("bulkWrite");
          const given = Array.isArray(operations) ? operations.map((one) => bulkOperation(one, ignore)) : operations;
          return act("bulkWrite", { operations: given }, options);
        },
        watch() { throw new Error("watch is not supported in functions: use a trigger"); },
      };
    }

    function database(db) {
      const collections = kept((name) => collection(db, name));
      const act = (operation, args, options) => perform({ db }, operation, args, options);
      const runCommand = (command, options) => act("runCommand", { command }, options);
      return {
        get name() { return db; },
        get databaseName() { return db; },
        collection: (name) => collections(String(name)),
        aggregate: (pipeline, options) => new Cursor(act, "aggregate", { pipeline: pipeline ?? [] }, { ...options }),
        runCommand,
        command: runCommand,
        watch() { throw new Error("watch is not supported in functions: use a trigger"); },
      };
    }

    const databases = kept(database);
    return {
      db: (name) => databases(String(name)),
      // Sessions belong to no database; the name is there because every operation has one.
      startSession: (options) => new ClientSession((operation, args, given) => perform({ db: "admin" }, operation, args, given), options),
    };
  };
})
