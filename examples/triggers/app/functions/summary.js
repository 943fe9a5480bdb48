// GET /summary?day=2026-01-31
exports = async function ({ query }, response) {
  const { day } = query;
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day ?? "")) {
    response.setStatusCode(400);
    return { error: "day is a date, such as 2026-01-31" };
  }
  const summaries = context.services.get("mongodb-atlas").db("shop").collection("summaries");
  const summary = await summaries.findOne({ _id: day });
  if (!summary) {
    response.setStatusCode(404);
    return { error: `there is no summary of ${day}` };
  }
  return { day, orders: summary.orders, total: summary.total.toString(), customers: summary.customers };
};
