// Marks orders that have waited for more than a week.
exports = async function () {
  const orders = context.services.get("mongodb-atlas").db("shop").collection("orders");
  const week = 7 * 24 * 60 * 60 * 1000;
  const { modifiedCount } = await orders.updateMany(
    { status: "open", at: { $lt: new Date(Date.now() - week) } },
    { $set: { overdue: true } },
  );
  console.log(`overdue: ${modifiedCount}`);
};
