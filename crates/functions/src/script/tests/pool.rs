use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_past_a_thread_whose_function_does_not_pause() {
    let fake = Fake::idle();
    let endless = "exports = async () => { await context.services.get('mongodb-atlas').db('d').collection('c').findOne(); for (;;); };";
    let program = program(&[("endless", endless), ("f", "exports = () => 1;")]);
    let limits = Limits {
        timeout: Duration::from_secs(60),
        ..short()
    };
    let services = Arc::new(Reached(Arc::clone(&fake)));
    let pool = Arc::new(Pool::new(Arc::new(program), limits, services, 2));
    let looping = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.run(call("endless", vec![])).await }
    });
    until("the endless function has begun", || fake.asked().len() == 1).await;
    for _ in 0..8 {
        let outcome = pool.run(call("f", vec![])).await;
        assert_eq!(returned(&outcome), Some(Bson::Int32(1)));
    }
    assert!(!looping.is_finished(), "the others did not wait for it");
    looping.abort();
}
