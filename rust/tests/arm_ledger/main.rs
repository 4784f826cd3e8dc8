//! Exchanges on routes with two arms, whatever becomes of them: each is booked once, on the arm and the deployment that it
//! entered, and gives back all that it held.

mod setup;

use _core::catalog::{Catalog, Compiled};
use _core::codec::Limits;
use _core::exchange::edge::Edge;
use _core::exchange::layout::{self, Exchange, Peer};
use _core::exchange::{NodePolicy, WorkerCore};
use _core::state::{Capacities, LaneState, Node, SlotRefs};
use proptest::prelude::*;
use serde_json::{json, Value};
use setup::{refused, route, Slots};
use std::collections::HashMap;

const REQUESTS: [&[u8]; 10] = [
    b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /plain HTTP/1.1\r\nHost: x\r\nCookie: who=me\r\n\r\n",
    b"GET /retried HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /retried HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", // too large
    b"POST /checked HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
    b"POST /hooked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /limited HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
];
const ANSWERS: [&[u8]; 9] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"garbage\r\n\r\n",
];
const SENT_ON: &[u8] = b"PUT /hooked HTTP/1.1\r\nHost: x\r\n\r\n";
const FAILURES: [i32; 5] = [0, 1, 3, 4, 14]; // HS_WHY_… of attempts
const REFUSALS: [i32; 6] = [2, 5, 6, 9, 10, 12]; // and of what ends an exchange at once
const NO_BACKEND: i32 = 11;
const ABORTED: i32 = 1;

/// Where the data plane is with an exchange.
#[derive(Clone, Copy)]
enum At {
    Collecting,
    Called,
    Sent,
    Waiting,
    Answered,
    Over,
}

/// The gateway's own answer: the client's, or one for the middleware that waits.
fn refuse(core: &mut WorkerCore, ex: &mut Exchange, now: u64, why: i32) -> At {
    core.refuse(ex, now, why, false);
    match ex.awaited {
        0 => At::Over,
        _ => At::Called,
    }
}

/// Deployment, route, arm.
type Arm = (String, String, String);

struct Open {
    ex: Box<Exchange>,
    head: &'static [u8],
    at: At,
    arm: Option<Arm>,
    booked: bool,
}

struct World {
    node: Node,
    core: WorkerCore,
    peer: Peer,
    now: u64,
    deployments: u32,
    open: Vec<Open>,
    /// What was ever booked, by arm.
    booked: HashMap<Arm, u64>,
}

impl World {
    fn new() -> Self {
        let few = Capacities {
            backends: 64,
            series: 64,
            rows: 64,
            buckets: 64,
            clients: 64,
            arms: 256,
        };
        let node = Node::new(1, 1 << 24, few).unwrap();
        let lane = LaneState::attach(node.state_fd(), node.arena_fd(), 0).unwrap();
        let core = WorkerCore::new(
            lane,
            Limits::default(),
            NodePolicy::default(),
            Edge::default(),
        );
        // SAFETY: plain numbers and bytes, for which all zeros is a value.
        let peer: Peer = unsafe { std::mem::zeroed() };
        let (open, booked) = (Vec::new(), HashMap::new());
        Self {
            node,
            core,
            peer,
            now: 1_000_000,
            deployments: 0,
            open,
            booked,
        }
    }

    /// A new configuration; `None` ends all deployments.
    fn publish(&mut self, canary: Option<(u64, Value)>) {
        let paths = ["/plain", "/retried", "/checked", "/hooked", "/limited"];
        self.deployments += 1;
        let deployment = format!("d{}", self.deployments);
        let routes = paths.map(|path| match &canary {
            Some((share, by)) => route(path, &deployment, *share, by),
            None => {
                let mut plain = route(path, "", 0, &Value::Null);
                plain.as_object_mut().unwrap().remove("canary");
                plain
            }
        });
        let changes = json!({"reset": true, "upsertRoutes": routes}).to_string();
        let plan = Catalog::default()
            .stage(changes.as_bytes())
            .unwrap_or_else(refused);
        let (_, compiled): (_, Compiled) = plan
            .compile(&mut Slots(&mut self.node))
            .unwrap_or_else(refused);
        let generation = self.node.next_generation().unwrap();
        let range = self.node.stage(compiled.bytes.len()).unwrap();
        self.node.range_mut(&range).copy_from_slice(&compiled.bytes);
        let refs = SlotRefs {
            backends: compiled.backend_slots,
            series: compiled.series_slots,
            arms: compiled.exposed,
        };
        self.node.publish(generation, range, &refs).unwrap();
        self.node.reclaim();
    }

    fn begin(&mut self, request: u8) {
        let head = REQUESTS[usize::from(request) % REQUESTS.len()];
        // SAFETY: as above; the null pointer in it means that there are no extras.
        let mut ex: Box<Exchange> = Box::new(unsafe { std::mem::zeroed() });
        let at = match self.core.begin(&mut ex, &self.peer, self.now, head) {
            layout::FORWARD => At::Sent,
            layout::COLLECT => At::Collecting,
            layout::REPLY => At::Over,
            other => panic!("{other}"),
        };
        let text = String::from_utf8_lossy(head);
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let arm = (ex.arm != 0).then(|| {
            let name = self.active_arm(&path);
            (format!("d{}", self.deployments), path, name)
        });
        self.open.push(Open {
            ex,
            head,
            at,
            arm,
            booked: false,
        });
    }

    /// The arm of the newest deployment whose slot has one request more than is known.
    fn active_arm(&self, path: &str) -> String {
        let deployment = format!("d{}", self.deployments);
        let known = |arm: &str| {
            let here = |open: &&Open| {
                open.arm
                    .as_ref()
                    .is_some_and(|(d, p, a)| (&**d, &**p, &**a) == (&deployment, path, arm))
            };
            self.open.iter().filter(here).count() as u64
        };
        let stats = self.node.arm_stats();
        let more = stats
            .iter()
            .filter(|row| row.deployment == deployment && row.route_id == path);
        let mut more = more.filter(|row| row.totals.active == known(&row.arm) + 1);
        let found = more.next().map(|row| row.arm.clone());
        assert!(
            found.is_some() && more.next().is_none(),
            "one arm has one request more"
        );
        found.unwrap()
    }

    /// Something happens to an exchange.
    fn step(&mut self, which: u8, what: u8, detail: u8) {
        if self.open.is_empty() {
            return;
        }
        let (which, detail) = (usize::from(which) % self.open.len(), usize::from(detail));
        let (core, now, peer) = (&mut self.core, self.now, &self.peer);
        let Open { ex, head, at, .. } = &mut self.open[which];
        let end = match (what % 8, *at) {
            (0, _) => Some(ABORTED),
            (_, At::Over) => Some(layout::COMPLETED),
            (1, At::Collecting | At::Called | At::Sent | At::Waiting) => {
                *at = refuse(core, ex, now, REFUSALS[detail % REFUSALS.len()]);
                None
            }
            (_, At::Collecting) => {
                let body: &[u8] = if detail % 2 == 0 { b"{}" } else { b"[]" };
                *at = match core.collected(ex, peer, now, head, body) {
                    layout::FORWARD => At::Sent,
                    layout::REPLY => At::Over,
                    layout::CALL => At::Called,
                    other => panic!("{other}"),
                };
                None
            }
            (2 | 3, At::Called) => {
                *at = match core.proceed(ex, peer, now, SENT_ON, 0) {
                    layout::FORWARD => At::Sent,
                    layout::REPLY => At::Called,
                    layout::BAD => At::Called, // for the second time
                    other => panic!("{other}"),
                };
                None
            }
            (_, At::Called) => {
                let answer = ANSWERS[[0, 1, 4][detail % 3]];
                let result = core.conclude(ex, now, answer);
                *at = At::Over;
                (result != layout::FORWARD).then_some(ABORTED)
            }
            (_, At::Waiting) => {
                *at = match core.again(
                    ex,
                    peer,
                    now,
                    -1,
                    if ex.keep_head != 0 { head } else { b"" },
                ) {
                    layout::FORWARD => At::Sent,
                    _ => refuse(core, ex, now, NO_BACKEND),
                };
                None
            }
            (2 | 3, At::Sent) => {
                let why = FAILURES[detail % FAILURES.len()];
                ex.failed = u8::from(why == 3); // as the data plane does
                ex.resend = 1;
                let origin = if ex.keep_head != 0 { *head } else { b"" };
                *at = match core.again(ex, peer, now, why, origin) {
                    layout::FORWARD => {
                        ex.failed = 0;
                        At::Sent
                    }
                    layout::RETRY => At::Waiting,
                    _ => refuse(core, ex, now, why),
                };
                None
            }
            (_, At::Sent) => {
                ex.resend = 1;
                *at = match core.respond(ex, now, true, ANSWERS[detail % ANSWERS.len()]) {
                    layout::INTERIM => At::Sent,
                    layout::FORWARD | layout::SWITCH => At::Answered,
                    layout::CAPTURE => At::Called,
                    layout::RETRY => At::Waiting,
                    layout::BAD => {
                        ex.failed = 1;
                        refuse(core, ex, now, 5)
                    }
                    other => panic!("{other}"),
                };
                None
            }
            (1 | 2, At::Answered) => {
                ex.failed = 1; // cut off
                Some(layout::COMPLETED)
            }
            (_, At::Answered) => Some(layout::COMPLETED),
        };
        let over = end
            .map(|outcome| core.finish(ex, outcome, now, (0, 0)))
            .is_some();
        self.note_booked();
        if over {
            self.open.swap_remove(which);
        }
    }

    /// From the moment on at which an exchange says so.
    fn note_booked(&mut self) {
        for open in &mut self.open {
            if let Some(arm) = open
                .arm
                .as_ref()
                .filter(|_| !open.booked && open.ex.judged != 0)
            {
                *self.booked.entry(arm.clone()).or_default() += 1;
                open.booked = true;
            }
        }
    }

    fn check(&mut self) {
        self.note_booked();
        let mut open: HashMap<&Arm, u64> = HashMap::new();
        for arm in self.open.iter().filter_map(|open| open.arm.as_ref()) {
            *open.entry(arm).or_default() += 1;
        }
        let mut found = 0;
        for row in self.node.arm_stats() {
            let totals = &row.totals;
            let arm = (row.deployment, row.route_id, row.arm);
            let others = totals.unavailable + totals.limited + totals.aborted + totals.refused;
            assert_eq!(
                totals.requests + others,
                self.booked.get(&arm).copied().unwrap_or(0),
                "{arm:?}"
            );
            assert_eq!(totals.latency.iter().sum::<u64>(), totals.requests);
            assert!(totals.failed <= totals.requests);
            let active = open.get(&arm).copied().unwrap_or(0);
            assert_eq!(totals.active, active, "{arm:?}");
            found += active;
        }
        assert_eq!(
            found,
            open.values().sum::<u64>(),
            "an arm in use has its slot"
        );
    }
}

fn assignment() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"type": "Random"})),
        Just(json!({"type": "ClientIP"})),
        Just(json!({"type": "Header", "name": "Host"})),
        Just(json!({"type": "Cookie", "name": "who"})),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Begin(u8),
    Step(u8, u8, u8),
    Publish(Option<(u64, Value)>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<u8>().prop_map(Op::Begin),
        14 => any::<(u8, u8, u8)>().prop_map(|(which, what, detail)| Op::Step(which, what, detail)),
        1 => proptest::option::weighted(0.8, (0..=10_000u64, assignment())).prop_map(Op::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_exchange_is_booked_once_on_its_own_arm(ops in proptest::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        world.publish(Some((5_000, json!({"type": "Random"}))));
        for op in ops {
            world.now += 1_000_000;
            match op {
                Op::Begin(request) => world.begin(request),
                Op::Step(which, what, detail) => world.step(which, what, detail),
                Op::Publish(canary) if world.deployments < 20 => world.publish(canary),
                Op::Publish(_) => {}
            }
            world.check();
        }
        while !world.open.is_empty() {
            world.step(0, 0, 0);
        }
        world.check();
        world.publish(None);
        prop_assert_eq!(world.node.arm_stats(), [], "nothing holds a slot");
        for row in world.node.ledger() {
            prop_assert_eq!((row.inflight, row.pinned), (0, 0));
            prop_assert_eq!(row.accepted, row.completed + row.aborted);
        }
        for backend in world.node.backend_stats() {
            prop_assert_eq!(backend.active, 0, "{}", backend.identity);
        }
    }
}
