//! The shared memory of a node: what every process of the node sees at the same instant.
//!
//! Two files without a name, made by the control process and inherited by the workers:
//!
//! * **state** — tables of atomics, mapped read-write by all, sparse ([`layout`], [`region`]);
//! * **arena** — immutable snapshots, written by the control process only ([`arena`]).
//!
//! Control side, one owner, not thread-safe (put it behind a lock). Asking for slots, `stage` and
//! filling the range belong under one hold of that lock:
//!
//! ```text
//! Node::new(lanes, arena_bytes, Capacities)  state_fd  arena_fd  generation
//! next_generation  backend_slot  series_slot  arm_slot  stage  range_mut  discard  publish  reclaim
//! reset_lane  set_backend_status  order_circuit  eject
//! set_limits_key  set_fleet  take_tallies  shared_buckets  charge_bucket  amend_bucket    limits of a fleet
//! ledger  backend_stats  series_stats  for_each_series  retired_series  arm_stats  lane_stats  arena_used
//! ```
//!
//! Worker side, one thread, no allocation, no panic, no lock:
//!
//! ```text
//! LaneState::attach(state_fd, arena_fd, lane)
//! pin → Pinned   unpin   accept   complete   abort                       one generation's ledger
//! backend_status  backend_incarnation  backend_active  backend_enter  backend_leave
//! backend_clear  backend_barrier  backend_trial  backend_ended            its circuit and ejection
//! retry_earned  retry_paid                                               the budget of retries
//! cursor  fallback  record                                               one series (route, arm)
//! arm_turn  arm_enter  arm_judge  arm_leave                              an arm of a deployment
//! bucket  shared_bucket  sit_down  stand_up  limited                         keys of limits, clients
//! connection_opened  connection_closed  refused  upstream_idle  backend_duration  overhead
//! ```
//!
//! The order of a request, on which the proofs in [`protocol`] and [`slots`] rest:
//! `pin → accept → arm_enter → backend_enter … unpin … backend_leave → arm_leave → record → complete | abort`.
//! `accept`, `arm_enter` and `backend_enter` happen under the pin; `complete`/`abort` is the last thing that
//! touches a slot of the generation, and may come long after `unpin`.
//!
//! A **lane** is one worker's private row of every table. A single writer needs no read-modify-write
//! instruction: counters are a relaxed load and a relaxed store, and readers add the lanes up.

pub mod arena;
pub mod arms;
pub mod backend;
pub mod buckets;
pub mod budget;
mod cell;
pub mod circuit;
pub mod clients;
pub mod error;
pub mod fleet;
pub mod histogram;
pub mod lane;
pub mod layout;
pub mod ledger;
mod narrow;
pub mod node;
pub mod protocol;
pub mod recovery;
mod refs;
pub mod region;
pub mod rollup;
pub mod series;
pub mod sets;
pub(crate) mod shm;
pub mod slots;
mod standing;
pub mod stats;
pub mod worker;

pub use arena::Range;
pub use arms::{ArmStats, Exposed, Judged};
pub use backend::BackendStatus;
pub use buckets::{Found, Step};
pub use circuit::Outcome;
pub use clients::Seat;
pub use error::{Exhausted, PublishError};
pub use layout::Capacities;
pub use node::{Node, SlotRefs};
pub use recovery::{Barrier, Breaker, Ended};
pub use refs::SeriesRef;
pub use worker::{LaneState, Pinned};
