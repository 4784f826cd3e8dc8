//! Why a request ended as it did: response flags, as access logs of proxies have them.
//!
//! Names are Envoy's where the meaning is Envoy's (its documentation, "Access logging: response flags");
//! the others are ours. A refusal by the gateway has exactly one flag that says why; what happened on the
//! way (a retry, a failover) has flags of its own beside it.

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident $short:literal $sentence:literal;)*) => {
        /// A response flag; its number is its bit in [`Flags`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Flag {
            $($(#[$doc])* $name,)*
        }

        /// Every flag, in the order of the numbers.
        pub const ALL: &[Flag] = &[$(Flag::$name,)*];

        /// Short name and meaning of each flag, in the order of the numbers.
        pub const TABLE: &[(&str, &str)] = &[$(($short, $sentence),)*];
    };
}

flags! {
    NoRoute "NR" "No route matches the request.";
    MethodNotAllowed "MNA" "A route matches the path, but none takes the method.";
    NoConfiguration "NC" "The gateway had no configuration yet.";
    NoHealthyBackend "UH" "No backend of the route was fit to take the request: unhealthy, ejected, or tried before.";
    CircuitOpen "UCB" "No backend of the route could take the request, because the circuit breaker of at least one was open.";
    PoolFull "UO" "All connections to the backend were in use, and none became free in time.";
    ConnectFailed "UF" "No connection to the backend could be made: refused, unreachable, or not in time.";
    TlsFailed "UTF" "The TLS handshake with the backend failed.";
    BackendClosed "UC" "The backend closed the connection before its answer was whole.";
    BackendTimeout "UT" "The backend did not answer, or did not go on answering, in time.";
    BackendMalformed "UPE" "What the backend sent is no valid HTTP.";
    ResponseTooLarge "RSL" "The backend's answer is larger than the route allows.";
    RetriesExhausted "URX" "The attempt failed, and the retry policy allows no further one.";
    BudgetExhausted "URB" "A further attempt was not made, because the node's retry budget was used up.";
    Retried "RTY" "At least one attempt was retried by the route's policy.";
    FailedOver "RFO" "The request was moved to another backend, because none of it could have reached the first.";
    Resent "RSC" "A pooled connection turned out to be closed; the request was sent again on a new one.";
    RateLimited "RL" "The route's rate limit refused the request.";
    ClientLimited "RLC" "The node's limit of requests per client refused the request.";
    Unauthorized "UAEX" "The route's authentication refused the request.";
    NoKeys "UAK" "The keys that credentials are verified with were not available yet.";
    CorsDenied "CORS" "The route does not allow the cross-origin request that the preflight asked about.";
    Invalid "VAL" "The request is not what the route's validation asks for.";
    RequestTooLarge "RQL" "The request body is larger than the route allows.";
    HeadGrew "HTL" "With what the route adds to it, the request head is too large.";
    RewriteFailed "RWF" "The route's rewrite made no valid path or Host of the request's.";
    Loop "LOOP" "The request has come through this gateway too often.";
    LastHop "MF" "The request ended at this gateway (Max-Forwards: 0), which does not answer it.";
    MiddlewareFailed "MWF" "The route's middleware failed, or gave no valid answer.";
    MiddlewareTimeout "MWT" "The route's middleware did not answer in time.";
    NoSocket "NS" "The gateway had no socket left for the backend.";
    Malformed "DPE" "What the client sent is no valid HTTP request.";
    ClientTooSlow "DTO" "The client did not send its request, or take its answer, in time.";
    ClientGone "DC" "The client closed the connection before it had its answer.";
    StreamIdle "SI" "Nothing was sent on an upgraded connection for too long.";
    Stopped "STOP" "The worker ended before the exchange did.";
    Internal "IE" "The gateway failed.";
}

impl Flag {
    pub fn name(self) -> &'static str {
        TABLE[self as usize].0
    }

    /// The flag of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }
}

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Flags(pub u64);

impl Flags {
    #[inline]
    pub fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    pub fn contains(self, flag: Flag) -> bool {
        self.0 & 1 << flag as u8 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are known, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        ALL.iter().copied().filter(move |&flag| self.contains(flag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_a_table() {
        assert!(ALL.len() <= 64);
        let names: HashSet<_> = TABLE.iter().map(|(short, _)| short).collect();
        assert_eq!(names.len(), ALL.len());
        for (number, &flag) in ALL.iter().enumerate() {
            assert_eq!(flag as usize, number);
            assert_eq!(Flag::from_number(number as u8), Some(flag));
            let (short, sentence) = TABLE[number];
            assert!(short.bytes().all(|byte| byte.is_ascii_uppercase()));
            assert!(sentence.ends_with('.'), "{short}");
        }
        assert_eq!(Flag::from_number(ALL.len() as u8), None);
    }
}
