// Sums up the orders of yesterday, by UTC. Run again, it writes the same document again.
exports = async function () {
  const db = context.services.get("mongodb-atlas").db("shop");
  const to = new Date();
  to.setUTCHours(0, 0, 0, 0);
  const from = new Date(to);
  from.setUTCDate(from.getUTCDate() - 1);

  const [sums] = await db
    .collection("orders")
    .aggregate([
      { $match: { placed: { $gte: from, $lt: to } } },
      {
        $group: {
          _id: null,
          orders: { $sum: 1 },
          total: { $sum: "$total" },
          customers: { $addToSet: "$customer" },
        },
      },
    ])
    .toArray();

  const day = from.toISOString().slice(0, 10);
  await db.collection("summaries").replaceOne(
    { _id: day },
    {
      orders: sums?.orders ?? 0,
      total: sums?.total ?? BSON.Decimal128.fromString("0"),
      customers: sums?.customers.length ?? 0,
      writtenAt: new Date(),
    },
    { upsert: true }
  );
  console.log(`${day}: ${sums?.orders ?? 0} orders`);
};
