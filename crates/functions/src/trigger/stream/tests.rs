use std::time::SystemTime;

use async_trait::async_trait;
use tributary_flow::HistoryWindow;

use super::*;

/// A deployment where nothing happens.
struct Quiet;

#[async_trait]
impl EventSource for Quiet {
    fn place(&self) -> &str {
        "nowhere"
    }

    async fn now(&self) -> Result<Position> {
        Ok(Position::at(ClusterTime::new(1, 1)))
    }

    async fn follow(&self, _: &Watch, _: &Position, out: mpsc::Sender<RawEvents>) -> Result<()> {
        out.closed().await;
        Ok(())
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(None)
    }
}

fn member() -> (Member, mpsc::Receiver<Result<Delivery>>) {
    let (out, deliveries) = mpsc::channel(1);
    let member = Member {
        selection: Selection::default(),
        wanted: WantedEvents::default(),
        position: Position::at(ClusterTime::new(1, 1)),
        out,
        told_at: None,
    };
    (member, deliveries)
}

fn nothing() -> RawEvents {
    RawEvents {
        events: Vec::new(),
        position: Position::at(ClusterTime::new(2, 1)),
        complete_to: ClusterTime::new(2, 1),
        present: ClusterTime::new(2, 1),
        bytes: 0,
        received: SystemTime::now(),
    }
}

#[tokio::test]
async fn a_busy_trigger_keeps_its_part_in_a_stream_where_nothing_happens() {
    let ((busy, mut of_busy), (free, mut of_free)) = (member(), member());
    let busy_already = Delivery {
        events: Vec::new(),
        position: busy.position.clone(),
        present: ClusterTime::default(),
    };
    busy.out.try_send(Ok(busy_already)).unwrap();
    let mut stream = Stream::of(Arc::new(Quiet), vec![busy, free]);
    stream.deliver(nothing()).await;
    assert_eq!(stream.members.len(), 2);
    let reached = of_free.try_recv().unwrap().unwrap().position;
    assert_eq!(reached.cluster_time, ClusterTime::new(2, 1));
    // It is told as soon as there is room.
    of_busy.try_recv().unwrap().unwrap();
    stream.deliver(nothing()).await;
    let reached = of_busy.try_recv().unwrap().unwrap().position;
    assert_eq!(reached.cluster_time, ClusterTime::new(2, 1));
}

#[test]
fn streams_of_less_are_of_one_database_and_then_of_one_collection() {
    let of = |places: &[(Option<&str>, Option<&str>)]| -> Vec<Member> {
        let of_place = |(database, collection): &(Option<&str>, Option<&str>)| {
            let mut member = member().0;
            member.selection.database = database.map(str::to_owned);
            member.selection.collection = collection.map(str::to_owned);
            member
        };
        places.iter().map(of_place).collect()
    };
    let sizes =
        |members: Vec<Member>| -> Vec<usize> { narrower(members).iter().map(Vec::len).collect() };
    let (orders, carts) = (
        (Some("shop"), Some("orders")),
        (Some("shop"), Some("carts")),
    );
    let leads = (Some("crm"), Some("leads"));
    assert_eq!(sizes(of(&[orders, leads, carts])), [1, 2]);
    assert_eq!(sizes(of(&[orders, carts, orders])), [1, 2]);
    assert_eq!(sizes(of(&[orders, orders])), [2]);
    assert_eq!(sizes(of(&[(None, None), orders])), [1, 1]);
}
