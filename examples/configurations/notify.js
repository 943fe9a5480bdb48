// Tells a webhook of a large order.
exports = async function (event) {
  const response = await context.http.post({
    url: context.values.get("WEBHOOK"),
    body: { order: event.documentKey._id, total: event.fullDocument.total },
    encodeBodyAsJSON: true,
  });
  if (response.statusCode >= 300) {
    throw new Error(`the webhook answered ${response.statusCode}`);
  }
};
