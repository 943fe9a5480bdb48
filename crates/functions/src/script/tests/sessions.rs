use super::*;

/// A deployment whose commits and inserts fail as often as it is told, in the way of a label.
fn deployment(
    insert_failures: usize,
    commit_failures: usize,
    commit_label: &'static str,
) -> Arc<Fake> {
    let (inserts, commits) = (
        AtomicUsize::new(insert_failures),
        AtomicUsize::new(commit_failures),
    );
    let fails = |left: &AtomicUsize| {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    };
    let error = |label: &str| {
        Reply::Error(ServiceError {
            name: "MongoError".to_owned(),
            message: "again".to_owned(),
            code: Some(112),
            labels: vec![label.to_owned()],
            is_transient: true,
        })
    };
    Fake::new(move |call, _| match call.operation.as_str() {
        "startSession" => Reply::Value(Bson::Int32(3)),
        "insertOne" if fails(&inserts) => error("TransientTransactionError"),
        "commitTransaction" if fails(&commits) => error(commit_label),
        _ => Reply::Value(Bson::Null),
    })
}

const INSERTS: &str = "exports = async () => {
    const client = context.services.get('mongodb-atlas');
    const session = client.startSession();
    try {
        return await session.withTransaction(async () => {
            await client.db('d').collection('c').insertOne({ a: 1 }, { session });
            return 'done';
        }, { readConcern: { level: 'snapshot' } });
    } finally {
        await session.endSession();
    }
};";

async fn operations(fake: &Arc<Fake>, text: &str) -> (Outcome, Vec<String>) {
    let isolate = start(program(&[("f", text)]), short(), fake);
    let outcome = isolate.run(call("f", vec![])).await;
    (outcome, fake.operations())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_begun_and_committed_in_its_session() {
    let fake = deployment(0, 0, "");
    let (outcome, operations) = operations(&fake, INSERTS).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "insertOne",
            "commitTransaction",
            "endSession"
        ]
    );
    let asked = fake.asked();
    assert_eq!(
        asked[1].1,
        doc! { "db": "admin", "session": 3, "options": { "readConcern": { "level": "snapshot" } } }
    );
    assert_eq!(
        asked[2].1,
        doc! { "db": "d", "coll": "c", "document": { "a": 1 }, "session": 3 }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_tried_again_as_its_error_says() {
    let (outcome, operations) = operations(&deployment(2, 0, ""), INSERTS).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "insertOne",
            "abortTransaction",
            "startTransaction",
            "insertOne",
            "abortTransaction",
            "startTransaction",
            "insertOne",
            "commitTransaction",
            "endSession"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_tried_again_alone_where_its_result_is_unknown() {
    let (outcome, operations) =
        operations(&deployment(0, 2, "UnknownTransactionCommitResult"), INSERTS).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "insertOne",
            "commitTransaction",
            "commitTransaction",
            "commitTransaction",
            "endSession"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_for_a_time_has_all_tried_again() {
    let (outcome, operations) =
        operations(&deployment(0, 1, "TransientTransactionError"), INSERTS).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "insertOne",
            "commitTransaction",
            "startTransaction",
            "insertOne",
            "commitTransaction",
            "endSession"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_error_aborts_the_transaction_and_is_thrown() {
    let text = INSERTS.replace("return 'done';", "throw new RangeError('mine');");
    let (outcome, operations) = operations(&deployment(0, 0, ""), &text).await;
    assert_eq!(failed(&outcome).name, "RangeError");
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "insertOne",
            "abortTransaction",
            "endSession"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_driven_by_hand() {
    let text = "exports = async () => {
        const client = context.services.get('mongodb-atlas');
        const session = client.startSession();
        session.startTransaction();
        const during = session.inTransaction();
        await client.db('d').collection('c').findOne({}, { session });
        await session.abortTransaction();
        await session.endSession();
        return [during, session.inTransaction()];
    };";
    let (outcome, operations) = operations(&deployment(0, 0, ""), text).await;
    assert_eq!(returned(&outcome), Some(::bson::bson!([true, false])));
    assert_eq!(
        operations,
        [
            "startSession",
            "startTransaction",
            "findOne",
            "abortTransaction",
            "endSession"
        ]
    );
}
