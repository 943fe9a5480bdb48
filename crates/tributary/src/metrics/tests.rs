//! Numbers of flows that come and go.

use tributary_model::ClusterTime;

use super::*;

#[tokio::test]
async fn a_flow_that_is_stopped_has_no_lag_and_no_state() {
    let flows = FlowMetrics::new().expect("buckets");
    let table = Namespace::new("db", "a\"b");
    for name in ["ends", "stays"] {
        let position = Position::at(ClusterTime::new(1, 1));
        flows.of(name).following(&table, &position);
        flows.of(name).reached(&position, SystemTime::now());
    }
    let has = |what: &str| {
        let text = flows.render();
        text.lines().any(|line| line.starts_with(what))
    };
    let of = |name, flow| format!(r#"{name}{{flow="{flow}",namespace="db.a\"b""#);
    let state = |flow, is| {
        let series = of("tributary_flow_state", flow);
        format!("{series},state=\"following\"}} {is}")
    };
    let lag = |flow| of("tributary_lag_seconds", flow);
    assert!(
        has(&lag("ends")) && has(&state("ends", 1)),
        "{}",
        flows.render()
    );
    // Until it goes on it is behind by ever more.
    flows.retries("ends");
    assert!(
        has(&lag("ends")) && has(&state("ends", 0)),
        "{}",
        flows.render()
    );
    flows
        .of("ends")
        .following(&table, &Position::at(ClusterTime::new(1, 1)));
    flows.end("ends");
    assert!(
        !has(&lag("ends")) && has(&state("ends", 0)),
        "{}",
        flows.render()
    );
    assert!(has(r#"tributary_source_connected{flow="ends"} 0"#));
    assert!(
        has(&lag("stays")) && has(&state("stays", 1)),
        "{}",
        flows.render()
    );
}
