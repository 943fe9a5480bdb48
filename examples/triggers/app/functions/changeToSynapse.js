// Posts each change as it is to an Azure function, which writes it to the lake of a Synapse workspace. An answer
// that is no success fails the run, so that it is tried again.
exports = async function (changeEvent) {
  const answer = await context.http.post({
    url: context.values.get("synapseUrl"),
    headers: {
      "Content-Type": ["application/json"],
      "x-functions-key": [context.values.get("synapseKey")],
    },
    body: changeEvent,
    encodeBodyAsJSON: true,
  });
  if (answer.statusCode >= 300) {
    throw new Error(`the Azure function answered ${answer.status}`);
  }
};
