// Calls the function of an endpoint: with the request and a response that it may fill in, and answers what
// is to be sent.
exports = async function (name, request, returnType) {
  const response = { statusCode: 200, headers: [], body: undefined, isUsed: false };
  const text = (value, what) => {
    if (typeof value !== "string" && typeof value !== "number") {
      throw new TypeError(`${what} of a response is text`);
    }
    return String(value);
  };
  const without = (header) =>
    response.headers.filter(([known]) => known.toLowerCase() !== header.toLowerCase());
  const given = {
    setStatusCode(code) {
      if (!Number.isInteger(code) || code < 200 || code > 599) {
        throw new RangeError("the status code of a response is a number from 200 to 599");
      }
      response.statusCode = code;
      response.isUsed = true;
    },
    setHeader(header, value) {
      response.headers = without(text(header, "the name of a header"));
      response.headers.push([header, text(value, "a header")]);
      response.isUsed = true;
    },
    addHeader(header, value) {
      response.headers.push([text(header, "the name of a header"), text(value, "a header")]);
      response.isUsed = true;
    },
    setBody(body) {
      if (typeof body !== "string" && !(body instanceof BSON.Binary)) {
        throw new TypeError("the body of a response is text or BSON.Binary; use JSON.stringify for an object");
      }
      response.body = body;
      response.isUsed = true;
    },
  };
  const result = await context.functions.execute(name, request, given);
  if (response.body === undefined && result !== undefined) {
    const isExtended = returnType === "EJSON";
    response.body = isExtended ? EJSON.stringify(result) : JSON.stringify(result);
    if (!response.headers.some(([known]) => known.toLowerCase() === "content-type")) {
      response.headers.push(["Content-Type", isExtended ? "application/ejson" : "application/json"]);
    }
  }
  return { statusCode: response.statusCode, headers: response.headers, body: response.body };
};
