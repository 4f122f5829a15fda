//! What the service answers.

use redeliver_testing::eventually;

use crate::child::{Running, ask, get, place};
use crate::world::World;

#[tokio::test]
async fn a_request_is_answered_by_what_became_of_it() {
    let Some(world) = World::new() else { return };
    let mut service = Running::start(&world.namespace).await;
    let address = &service.address;

    let parts = r#"{"parts":{"charge":"working","relay":"working"},"stopping":false}"#;
    let ready = get(address, "/readyz").await.expect("an answer");
    assert_eq!(ready, (200, parts.to_owned()));
    let alive = get(address, "/healthz").await.expect("an answer");
    assert_eq!(alive, (200, "alive".to_owned()));

    // The same request at the same time, and once more: it stands once.
    let (one, other) = tokio::join!(place(address, "o-1", 990), place(address, "o-1", 990));
    for answer in [one, other, place(address, "o-1", 990).await] {
        assert_eq!(answer.expect("an answer").0, 202);
    }
    assert_eq!(world.count("select count(*) from outbox").await, 1);
    let other = place(address, "o-1", 1).await.expect("an answer");
    assert_eq!(other.0, 409);
    eventually("the charge", || async {
        let (status, body) = get(address, "/orders/o-1").await.expect("an answer");
        assert_eq!(status, 200);
        let charged = r#"{"cents":990,"charged":true,"order":"o-1"}"#;
        (body == charged).then_some(())
    })
    .await;
    assert_eq!(get(address, "/orders/o-2").await.expect("an answer").0, 404);

    let cases = [
        ("{", 400),
        (r#"{"order": "o-3"}"#, 422),
        (r#"{"order": "", "cents": 1}"#, 422),
        (r#"{"order": "o\u0000", "cents": 1}"#, 422),
        (r#"{"order": "o-3", "cents": 0}"#, 422),
    ];
    for (body, status) in cases {
        let answer = ask(address, "POST /orders", body).await;
        assert_eq!(answer.expect("an answer").0, status, "{body}");
    }
    assert_eq!(world.count("select count(*) from orders").await, 1);

    service.terminate().await;
    assert_eq!(service.ended().await.code(), Some(0));
    world.remove().await;
}
