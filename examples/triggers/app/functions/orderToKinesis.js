// Puts the document of each change into a Kinesis stream, with the id of the event, which is the same where a record
// comes twice. The records of one order stay in order, because they have the same partition key.
exports = async function (event) {
  await context.services
    .get("aws")
    .kinesis()
    .PutRecord({
      Data: JSON.stringify({ event: event._id._data, document: event.fullDocument }),
      StreamName: context.values.get("orderStream"),
      PartitionKey: event.documentKey._id.toString(),
    });
};
