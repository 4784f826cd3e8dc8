//! What is published: five routes, each with two arms.

use _core::catalog::{Problems, SlotAllocator};
use _core::state::Node;
use serde_json::{json, Value};

pub fn route(path: &str, deployment: &str, share: u64, by: &Value) -> Value {
    let policy = match path {
        "/retried" => {
            json!({"retryPolicy": {"maxAttempts": 3, "initialDelayMs": 1, "maxDelayMs": 9, "backoffMultiplier": 2.0, "retryableStatusCodes": [500, 503]}})
        }
        "/checked" => json!({"validation": {"jsonSchema": "{\"type\": \"object\"}"}}),
        "/hooked" => json!({"middleware": ["hook"]}),
        "/limited" => {
            json!({"rateLimit": {"type": "FixedWindow", "requests": 3, "windowMs": 86_400_000,
                                           "keyBy": "ClientIP"}})
        }
        _ => Value::Null,
    };
    let version = |port: u16| {
        let member = |n: u16| {
            let id = format!("b{}", port + n);
            json!({"backendId": id, "name": id, "url": format!("http://127.0.0.1:{}", port + n)})
        };
        json!({"routeId": path, "name": path, "pathPattern": path, "maxRequestBody": 1000,
               "backends": [member(0), member(1)], "policy": policy})
    };
    let mut route = version(1000);
    route["canary"] = json!({"deploymentId": deployment, "share": share, "salt": "0123456789abcdef",
                             "assignment": by, "route": version(2000)});
    route
}

pub fn refused<T>(problems: Problems) -> T {
    panic!("{problems}")
}

pub struct Slots<'a>(pub &'a mut Node);

impl SlotAllocator for Slots<'_> {
    fn backend(&mut self, identity: &str) -> Result<u32, String> {
        self.0.backend_slot(identity).map_err(|e| e.to_string())
    }
    fn series(&mut self, route: &str, arm: &str) -> Result<u32, String> {
        self.0.series_slot(route, arm).map_err(|e| e.to_string())
    }
    fn arm(&mut self, deployment: &str, route: &str, arm: &str) -> Result<u32, String> {
        self.0
            .arm_slot(deployment, route, arm)
            .map_err(|e| e.to_string())
    }
}
