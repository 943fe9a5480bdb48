const DUPLICATE_KEY = 11000;

// Of an update, `fullDocument` is the order as it is when the event is read, which later updates may have changed.
// What it was right behind this one is what it was before, with the fields that the update set and removed.
function afterwards({ operationType, fullDocument, fullDocumentBeforeChange, updateDescription }) {
  if (operationType !== "update") {
    return fullDocument;
  }
  const { updatedFields = {}, removedFields = [] } = updateDescription;
  const after = { ...fullDocumentBeforeChange, ...updatedFields };
  for (const field of removedFields) {
    delete after[field];
  }
  return after;
}

function negative(amount) {
  return amount.startsWith("-") ? amount.slice(1) : `-${amount}`;
}

// What an order adds to the totals of its customer, or takes away from them.
function share(order, sign) {
  if (!order || order.customer === undefined) {
    return [];
  }
  const amount = String(order.total ?? 0);
  return [
    {
      customer: order.customer,
      count: sign,
      total: BSON.Decimal128.fromString(sign > 0 ? amount : negative(amount)),
    },
  ];
}

exports = async function (event) {
  const { operationType, fullDocumentBeforeChange: before } = event;
  if (operationType !== "insert" && !before) {
    // Totals that leave a change out would be wrong from then on: this suspends the trigger instead.
    throw new Error(`the event ${event._id._data} has no document before the change: turn pre-images on`);
  }
  const shares = [...share(before, -1), ...share(afterwards(event), 1)];

  const client = context.services.get("mongodb-atlas");
  const totals = client.db(event.ns.db).collection("totals");
  const events = client.db(event.ns.db).collection("totals_events");
  const session = client.startSession();
  let isKnown = false;
  try {
    await session.withTransaction(async () => {
      try {
        await events.insertOne({ _id: event._id._data, at: new Date() }, { session });
      } catch (error) {
        isKnown = error.code === DUPLICATE_KEY;
        throw error;
      }
      for (const { customer, count, total } of shares) {
        await totals.updateOne({ _id: customer }, { $inc: { count, total } }, { session, upsert: true });
      }
      // Nothing is lost with what is zero: it begins from there again.
      const zero = BSON.Decimal128.fromString("0");
      for (const { customer } of shares) {
        await totals.deleteOne({ _id: customer, count: 0, total: zero }, { session });
      }
    });
  } catch (error) {
    // The event has been counted, and the server has ended this transaction.
    if (!isKnown) {
      throw error;
    }
  } finally {
    await session.endSession();
  }
};
