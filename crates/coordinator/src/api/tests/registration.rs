//! Registering, verifying and removing a runner.

use super::*;

#[tokio::test]
async fn a_runner_registers_verifies_rotates_its_token_and_leaves() {
    let world = World::new();
    let wrong = world
        .call(
            "POST",
            "runners",
            ("runner-token", "no"),
            json!({"token": "no"}),
        )
        .await;
    assert_eq!(
        (wrong.status, wrong.json()),
        (403, json!({"message": "403 Forbidden"}))
    );

    let token = world.runner("a,b").await;
    assert!(token.starts_with("glrt-"));
    let header = ("runner-token", token.as_str());
    let verified = world
        .call("POST", "runners/verify", header, json!({"token": token}))
        .await;
    assert_eq!(
        (verified.status, verified.json()["id"].clone()),
        (200, json!(1))
    );
    assert_eq!(verified.header("content-type"), "application/json");

    let path = "runners/reset_authentication_token";
    let reset = world
        .call("POST", path, ("x", "x"), json!({"token": token}))
        .await;
    assert_eq!(reset.status, 201);
    let fresh = reset.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        world
            .call("POST", "runners/verify", header, json!({"token": token}))
            .await
            .status,
        403
    );

    let private = world.api.private_token();
    let by_id = "runners/1/reset_authentication_token";
    let answer = world
        .call(
            "POST",
            by_id,
            ("private-token", private.expose()),
            Value::Null,
        )
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        world
            .call("POST", by_id, ("private-token", "no"), Value::Null)
            .await
            .status,
        401
    );
    let fresher = answer.json()["token"].as_str().unwrap().to_owned();
    assert_ne!(fresh, fresher);

    let manager = json!({"token": fresher, "system_id": "s_0123456789ab"});
    let path = "runners/managers";
    assert_eq!(
        world
            .call("DELETE", path, ("runner-token", &fresher), manager)
            .await
            .status,
        204
    );
    let header = ("runner-token", fresher.as_str());
    assert_eq!(
        world
            .call("DELETE", "runners", header, json!({"token": fresher}))
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .call("DELETE", "runners", header, json!({"token": fresher}))
            .await
            .status,
        403
    );
}
